"""
The writer's lock: of all processes that would write into a schema, one may.

It belongs to the session of the very connection that writes. Who loses the connection has lost the right to write with it, and
the server ends what was under way before it gives the lock to another.
"""

from __future__ import annotations

from typing import Final

from flagledger.store.errors import HeldError
from flagledger.store.postgres.connection import Address
from flagledger.store.postgres.schema import Connection

_KEY: Final = "hashtextextended('flagledger writer ' || %(schema)s, 0)"
_TAKE: Final = f"SELECT pg_try_advisory_lock({_KEY})"
# A lock's key is shown in two halves. What another role does is hidden but for the number of its process.
_HOLDER: Final = f"""
    SELECT pid, nullif(application_name, ''), host(client_addr),
        to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND objsubid = 1
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid::bigint << 32 | objid::bigint) = {_KEY}
"""  # noqa: S608  # our own expression


def take(connection: Connection, address: Address) -> None:
    """
    Take the lock for the session of *connection*.

    Raises:
        HeldError: Another one has it; the message says who.
    """
    key = {"schema": address.schema}
    ((taken,),) = connection.execute(_TAKE, key).fetchall()
    if not taken:
        holders = connection.execute(_HOLDER, key).fetchall()
        raise HeldError(
            f"Another writer has the schema {address.schema} in {address.place}: {_who(*holders[0]) if holders else 'unknown'}. "
            "One that waits for it takes over once that is gone."
        )


def _who(pid: int, name: str | None, host: str | None, since: str | None) -> str:
    return f"{name or 'one'}, from {host or 'an unknown address'}, connected since {since or '?'}, server process {pid}"
