"""
Erasing an identity from PostgreSQL.

A row that is deleted is seen by no question that begins later. Its bytes are given up by VACUUM, which follows at once, unless a
question that is still being answered sees them: then by the server's own. What that is due for is remembered with the deletion,
so that whoever gives the order again, after the process died in between, has it done. Statistics hold no texts of identities
(`schema.WITHOUT_STATISTICS`), and hashes of them until the ANALYZE that goes with it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import psycopg
from psycopg import sql

from flagledger.store.identity_fields import fields_of
from flagledger.store.postgres.schema import OF_IDENTITY, Connection

_DELETE: Final = f"""
    WITH gone AS (
        DELETE FROM evaluations WHERE environment = %(environment)s AND {OF_IDENTITY} RETURNING tableoid
    )
    SELECT relname, count(*) FROM gone JOIN pg_class ON pg_class.oid = gone.tableoid GROUP BY relname
"""  # noqa: S608  # our own condition
# No record could be made of these, so that fields are looked for as bytes.
_DELETE_SET_ASIDE: Final = """
    DELETE FROM quarantine WHERE position(%s::bytea IN payload) > 0 AND position(%s::bytea IN payload) > 0
"""
_REMEMBER: Final = "INSERT INTO unvacuumed SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING"


def erase_identity(connection: Connection, environment: str, identity_identifier: str) -> int:
    """
    Erase the rows of an identity, and whatever was set aside and holds the identifier.

    Returns:
        How many rows there were.
    """
    with connection.transaction():
        touched: dict[str, int] = {}
        # No row holds this character, and no parameter can.
        if "\0" not in environment + identity_identifier:
            identity = {"environment": environment, "identity_identifier": identity_identifier}
            touched = dict(connection.execute(_DELETE, identity).fetchall())
        apart = connection.execute(_DELETE_SET_ASIDE, fields_of(environment, identity_identifier)).rowcount
        connection.execute(_REMEMBER, ([*touched, *(["quarantine"] if apart else [])],))
    # Also where nothing was found: the call before may have got no further.
    vacuum(connection)
    return sum(touched.values())


def vacuum(connection: Connection) -> None:
    """Clear the space of what was deleted from the tables that are remembered."""
    for (name,) in connection.execute("SELECT name FROM unvacuumed ORDER BY name").fetchall():
        # Somebody may have dropped it meanwhile.
        with suppress(psycopg.errors.UndefinedTable):
            connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(sql.Identifier(name)))
        connection.execute("DELETE FROM unvacuumed WHERE name = %s", (name,))
