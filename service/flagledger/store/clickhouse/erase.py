"""
Erasing from ClickHouse: an identity, a range that is begun anew, or days that have been kept long enough.

Rows are erased by rewriting the parts that hold them, which is over when these functions return: from then on nothing reads
them. The files of the parts before are removed by the server itself, `schema.OLD_PARTS_SECONDS` later at the earliest; where
there are replicas, each looks for such every few minutes. Days are erased by dropping their partitions, which costs next to
nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from flagledger.store.clickhouse.schema import PARTITIONED, on_cluster
from flagledger.store.identity_fields import fields_of

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from flagledger.store.clickhouse.address import Address
    from flagledger.store.clickhouse.chunks import Begun

_OF_IDENTITY: Final = "environment = {environment:String} AND identity_identifier = {identity:String}"
_HOLDS_IDENTITY: Final = (
    "position(payload, unhex({identity:String})) > 0 AND position(payload, unhex({environment:String})) > 0"
)
# Nothing behind the position is ever anybody's but the range's: what lies behind its end too came from one that got lost.
_FROM: Final = "position >= {first:Int64}"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def erase_identity(client: Client, address: Address, environment: str, identity_identifier: str) -> int:
    """
    Erase the rows of an identity, and whatever was set aside and holds the identifier.

    Returns:
        How many rows there were.
    """
    identity = {"environment": environment, "identity": identity_identifier}
    erased = _delete(client, address, "evaluations", _OF_IDENTITY, identity)
    identifier, name = fields_of(environment, identity_identifier)
    held = {"environment": name.hex(), "identity": identifier.hex()}
    # No record could be made of it, so that fields are looked for as bytes.
    _delete(client, address, "quarantine", _HOLDS_IDENTITY, held)
    return erased


def erase_range(client: Client, address: Address, begun: Begun) -> None:
    """Erase whatever is there of a range that was begun, and behind it, so that it can be begun anew."""
    for table in ("evaluations", "discards"):
        _delete(client, address, table, _FROM, {"first": begun.first_row()})
    _delete(client, address, "quarantine", _FROM, {"first": begun.first})
    _delete(client, address, "gaps", "last >= {last:Int64}", {"last": begun.first - 1})


def count_range(client: Client, table: str, begun: Begun, since: int) -> int:
    """Return how many rows *table* has of a range that was begun, and behind it, of those received at or after *since*."""
    first = begun.first if table == "quarantine" else begun.first_row()
    ((rows,),) = client.query(
        f"SELECT count() FROM {table} WHERE {_FROM} "  # noqa: S608  # ours
        f"AND {PARTITIONED[table]} >= fromUnixTimestamp64Micro({{since:Int64}}, 'UTC')",
        {"first": first, "since": since},
    ).result_rows
    return int(rows)


def drop_before(client: Client, address: Address, received: int) -> int:
    """
    Drop the days that ended at or before *received*.

    Returns:
        How many rows, discards and set-aside entries there were.
    """
    # That a day ended before it, its number says: the day that *received* lies in did not.
    day = int((_EPOCH + timedelta(microseconds=received)).strftime("%Y%m%d"))
    dropped = 0
    for table, column in PARTITIONED.items():
        days = client.query(
            f"SELECT toYYYYMMDD({column}) AS day, count() FROM {table} WHERE day < {{day:UInt32}} GROUP BY day",  # noqa: S608  # ours
            {"day": day},
        ).result_rows
        for old, rows in days:
            client.command(f"ALTER TABLE {address.database}.{table}{on_cluster(address)} DROP PARTITION {int(old)}")
            dropped += rows
    return dropped


def _delete(client: Client, address: Address, table: str, condition: str, values: dict[str, Any]) -> int:
    """Erase the rows of *table* that meet *condition*, on all replicas, and return how many there were."""
    ((rows,),) = client.query(f"SELECT count() FROM {table} WHERE {condition}", values).result_rows  # noqa: S608  # ours
    if rows:
        client.command(
            f"ALTER TABLE {address.database}.{table}{on_cluster(address)} DELETE WHERE {condition}",
            values,
            settings={"mutations_sync": 2 if address.cluster else 1},
        )
    return int(rows)
