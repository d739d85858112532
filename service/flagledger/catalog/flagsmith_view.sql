-- What Flagledger reads of a Flagsmith's database: one row for each environment key, and nothing else.
--
-- Run it as the owner of Flagsmith's tables. It may be run again: after an upgrade of Flagledger, and of Flagsmith.
--
-- A question for one key uses the unique index of either table of keys, and gathers the features of that one row.

CREATE OR REPLACE VIEW flagledger_environment_keys AS
SELECT
    keys.sdk_key,
    environment.api_key::text AS environment_key,
    environment.name::text AS environment_name,
    project.name::text AS project_name,
    keys.is_active,
    keys.expires_at,
    organisation.stop_serving_flags,
    -- Disabled, archived and server-side-only features exist too, whatever the key; and so do those of a version that is
    -- not live yet. An override for a segment or an identity alone makes no feature exist.
    ARRAY(
        SELECT DISTINCT feature.name::text
        FROM features_featurestate AS state
        JOIN features_feature AS feature ON feature.id = state.feature_id
        WHERE state.environment_id = environment.id
            AND state.feature_segment_id IS NULL
            AND state.identity_id IS NULL
            AND state.deleted_at IS NULL
            AND feature.deleted_at IS NULL
    ) AS features
FROM (
    SELECT
        client.id AS environment_id,
        client.api_key::text AS sdk_key,
        TRUE AS is_active,
        NULL::timestamptz AS expires_at
    FROM environments_environment AS client
    UNION ALL
    SELECT
        server.environment_id,
        server.key::text,
        server.active,
        server.expires_at
    FROM environments_environmentapikey AS server
) AS keys
JOIN environments_environment AS environment ON environment.id = keys.environment_id
JOIN projects_project AS project ON project.id = environment.project_id
JOIN organisations_organisation AS organisation ON organisation.id = project.organisation_id
WHERE environment.deleted_at IS NULL;

-- The role that Flagledger comes in with reads this view and no table. Put a password of your own into the first line, take
-- away the dashes, and run these once:
--
-- CREATE ROLE flagledger LOGIN PASSWORD '…';
-- GRANT SELECT ON flagledger_environment_keys TO flagledger;
--
-- Where the schema or the database is closed to others, it needs to get in as well:
--
-- GRANT CONNECT ON DATABASE flagsmith TO flagledger;
-- GRANT USAGE ON SCHEMA public TO flagledger;
