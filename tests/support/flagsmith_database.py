"""A PostgreSQL of its own with the tables of a Flagsmith, as far as keys and features are concerned."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from support.postgres import PostgresServer

ROLE_PASSWORD: Final = "p@ss/word of the role"

# The columns that matter here and some that are in the way, named and typed as Django names and types them.
_TABLES: Final = """
CREATE TABLE organisations_organisation (
    id serial PRIMARY KEY, name varchar(2000) NOT NULL, stop_serving_flags boolean NOT NULL DEFAULT false
);
CREATE TABLE projects_project (
    id serial PRIMARY KEY, name varchar(2000) NOT NULL, created_date timestamptz NOT NULL DEFAULT now(),
    organisation_id integer NOT NULL REFERENCES organisations_organisation
);
CREATE TABLE environments_environment (
    id serial PRIMARY KEY, uuid uuid NOT NULL DEFAULT gen_random_uuid(), api_key varchar(100) NOT NULL UNIQUE,
    name varchar(2000) NOT NULL, project_id integer NOT NULL REFERENCES projects_project,
    created_date timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
    hide_disabled_flags boolean, use_v2_feature_versioning boolean NOT NULL DEFAULT false,
    is_creating boolean NOT NULL DEFAULT false, deleted_at timestamptz
);
CREATE INDEX ON environments_environment (api_key varchar_pattern_ops);
CREATE INDEX ON environments_environment (project_id);
CREATE TABLE environments_environmentapikey (
    id serial PRIMARY KEY, key varchar(100) NOT NULL UNIQUE, name varchar(100) NOT NULL, active boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz,
    environment_id integer NOT NULL REFERENCES environments_environment
);
CREATE INDEX ON environments_environmentapikey (key varchar_pattern_ops);
CREATE INDEX ON environments_environmentapikey (environment_id);
CREATE TABLE features_feature (
    id serial PRIMARY KEY, uuid uuid NOT NULL DEFAULT gen_random_uuid(), name varchar(2000) NOT NULL,
    type varchar(50) NOT NULL DEFAULT 'STANDARD', default_enabled boolean NOT NULL DEFAULT false,
    is_archived boolean NOT NULL DEFAULT false, is_server_key_only boolean NOT NULL DEFAULT false,
    project_id integer NOT NULL REFERENCES projects_project, deleted_at timestamptz
);
CREATE UNIQUE INDEX lowercase_feature_name ON features_feature (lower(name), project_id) WHERE deleted_at IS NULL;
CREATE TABLE features_featurestate (
    id serial PRIMARY KEY, uuid uuid NOT NULL DEFAULT gen_random_uuid(), enabled boolean NOT NULL DEFAULT true,
    feature_id integer NOT NULL REFERENCES features_feature,
    environment_id integer REFERENCES environments_environment,
    identity_id integer, feature_segment_id integer, environment_feature_version_id uuid,
    version integer DEFAULT 1, live_from timestamptz DEFAULT now(), deleted_at timestamptz
);
CREATE INDEX ON features_featurestate (environment_id);
CREATE INDEX ON features_featurestate (feature_id);
"""


@dataclass(slots=True, kw_only=True)
class FlagsmithTables:
    """
    A database with Flagsmith's tables, Flagledger's view, and a role that may read the view alone.

    Attributes:
        url: Of the database, for the role.
        owner_url: The same for the owner of the tables.
        role: Name of the role.
    """

    url: str
    owner_url: str
    role: str
    _connection: Any = field(repr=False)

    def run(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run *statement* as the owner and return its rows."""
        cursor = self._connection.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []

    def project(self, name: str = "Shop", *, stopped: bool = False) -> int:
        """Make a project in an organisation of its own."""
        organisation = self._insert("organisations_organisation", name="Acme", stop_serving_flags=stopped)
        return self._insert("projects_project", name=name, organisation_id=organisation)

    def environment(self, project: int, key: str, *features: int, name: str = "Production", **columns: object) -> int:
        """Make an environment with the client key *key*, in which *features* exist."""
        environment = self._insert("environments_environment", api_key=key, name=name, project_id=project, **columns)
        for feature in features:
            self.state(feature, environment)
        return environment

    def server_key(self, environment: int, key: str, *, active: bool = True, expires_at: object = None) -> int:
        """Make a server key."""
        return self._insert(
            "environments_environmentapikey",
            key=key,
            name="backend",
            active=active,
            expires_at=expires_at,
            environment_id=environment,
        )

    def feature(self, project: int, name: str, **columns: object) -> int:
        """Make a feature, which exists nowhere yet."""
        return self._insert("features_feature", name=name, project_id=project, **columns)

    def state(self, feature: int, environment: int, **columns: object) -> int:
        """Make a state of *feature* in *environment*; without further columns it makes the feature exist there."""
        return self._insert("features_featurestate", feature_id=feature, environment_id=environment, **columns)

    def close(self) -> None:
        """Close the owner's connection."""
        self._connection.close()

    def _insert(self, table: str, **columns: object) -> int:
        places = ", ".join(["%s"] * len(columns))
        statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) RETURNING id"
        [(number,)] = self.run(statement, *columns.values())
        return int(number)


_numbers = itertools.count(1)


@contextmanager
def flagsmith_tables(server: PostgresServer, *, with_view: bool = True) -> Iterator[FlagsmithTables]:
    """Yield a new database of *server* with Flagsmith's tables, the view, and its role; the tables are empty."""
    import psycopg
    from flagledger.catalog.flagsmith_database import view_sql

    number = next(_numbers)
    database, role = f"flagsmith_{number}", f"flagledger_{number}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as administrator:
        administrator.execute(f"CREATE DATABASE {database}")
        administrator.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{ROLE_PASSWORD}'")
    connection = psycopg.connect(server.url(database), autocommit=True)
    connection.execute(_TABLES)
    if with_view:
        connection.execute(view_sql())
        connection.execute(f"GRANT SELECT ON flagledger_environment_keys TO {role}")
    tables = FlagsmithTables(
        url=server.url(database, role, ROLE_PASSWORD), owner_url=server.url(database), role=role, _connection=connection
    )
    try:
        yield tables
    finally:
        tables.close()
