"""
The same answers asked of DuckDB alone: what each question would cost with nothing around it.

Every statement is written as somebody would who knows the file, hashes included, and not as the store asks. It runs in the
bench's own process, on the file that the served one was copied from, with the store's own settings. Where the service estimates
identities, the same statement is asked twice: with a sample of the same size, and exactly.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import batches
import duckdb
from flagledger.config import Config
from flagledger.store.duckdb.hashes import FEATURE_HASH, IDENTITY_HASH
from flagledger.store.duckdb.store import THREADS
from flagledger.store.questions import EXPORT

Rows = Sequence[tuple[Any, ...]]

PATIENCE: Final = 120.0
"""Seconds that DuckDB alone is given for one answer."""

TALLIES: Final = """sum("count")::BIGINT, coalesce(sum("count") FILTER (WHERE enabled), 0)::BIGINT,
    coalesce(sum("count") FILTER (WHERE enabled IS NOT NULL), 0)::BIGINT"""
_ARM: Final = "CASE WHEN variant <> '' THEN variant ELSE coalesce(value ->> '$', '') END"
_EXPORTED: Final = ", ".join(
    f'evaluation_time AS "{name}"' if name == "evaluation_timestamp" else f'"{name}"' for name in EXPORT.names
)
_BATCH_ROWS: Final = 20_000


class NoAnswerError(Exception):
    """There is no answer to what was asked: it was refused, or did not come."""


class Bare:
    """A DuckDB connection in this process, with the settings of the store's own, which changes nothing."""

    def __init__(self, path: Path, spill: Path) -> None:
        self._connection = duckdb.connect(
            str(path),
            read_only=True,
            config={
                "threads": THREADS,
                "memory_limit": f"{Config().store_memory_bytes >> 20}MiB",
                "temp_directory": str(spill),
            },
        )

    def ask(self, statements: Sequence[str]) -> list[Rows]:
        """
        Return the rows of each of *statements*.

        Raises:
            NoAnswerError: They take longer than anybody would wait, and were ended, or more memory than there is.
        """
        patience = threading.Timer(PATIENCE, self._connection.interrupt)
        patience.start()
        try:
            return [self._connection.execute(statement).fetchall() for statement in statements]
        except duckdb.InterruptException:
            raise NoAnswerError(f"DuckDB alone took longer than {PATIENCE:g} s.") from None
        except duckdb.Error as error:
            raise NoAnswerError(f"DuckDB alone: {error}") from error
        finally:
            patience.cancel()

    def rows_behind(self, position: int) -> int:
        """Read what lies behind *position* as Arrow batches with the columns of an export, and return how many rows that is."""
        reader = self._connection.execute(
            f"SELECT {_EXPORTED} FROM evaluations WHERE environment = '{batches.ENVIRONMENT}' AND position > {position}"
        ).to_arrow_reader(_BATCH_ROWS)
        return sum(batch.num_rows for batch in reader)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()


@contextlib.contextmanager
def bare(path: Path, spill: Path) -> Iterator[Bare]:
    """Open the store at *path* until the block ends; what does not fit into memory goes to *spill*."""
    with contextlib.closing(Bare(path, spill)) as opened:
        yield opened


def where(
    start: int | None = None,
    end: int | None = None,
    *,
    feature: str | None = None,
    identity: str | None = None,
    column: str = "evaluation_time",
) -> str:
    """Return a condition on the environment, [start, end) of the time in *column*, and names."""
    made = [f"environment = '{batches.ENVIRONMENT}'"]
    if feature is not None:
        hashed = FEATURE_HASH.format(f"'{feature}'")
        made += [f"feature_hash = {hashed}", f"feature_name = '{feature}'"]
    if identity is not None:
        hashed = IDENTITY_HASH.format(f"'{identity}'")
        made += [f"identity_hash = {hashed}", f"identity_identifier = '{identity}'"]
    if start is not None:
        made.append(f"{column} >= make_timestamp({start})")
    if end is not None:
        made.append(f"{column} < make_timestamp({end})")
    return " AND ".join(made)


def features(condition: str, mask: int) -> tuple[str, ...]:
    """Return what tells totals, SDKs, last values and identities of each feature; identities by those that *mask* leaves."""
    sampled = f"AND identity_hash & {mask} = 0" if mask else ""
    return (
        f"""
        SELECT feature_name, sdk_name, sdk_version, {TALLIES}, min(evaluation_time), max(evaluation_time),
            arg_max(value, evaluation_time)
        FROM evaluations WHERE {condition} GROUP BY feature_name, sdk_name, sdk_version
        """,
        f"""
        SELECT feature_name, count(*) * {mask + 1}, count(*) FILTER (WHERE least <> greatest) * {mask + 1} FROM (
            SELECT feature_name, identity_hash, min(value) AS least, max(value) AS greatest FROM evaluations
            WHERE {condition} AND identity_hash IS NOT NULL {sampled} GROUP BY feature_name, identity_hash
        ) GROUP BY feature_name
        """,
    )


def counts(condition: str, mask: int, *, bucket: str | None, key: str = "NULL") -> tuple[str, ...]:
    """Return what counts by *bucket*, None for none, and by *key*, an expression."""
    identity = f"CASE WHEN identity_hash & {mask} = 0 THEN identity_hash END" if mask else "identity_hash"
    starts = "NULL::TIMESTAMP" if bucket is None else f"date_trunc('{bucket}', evaluation_time)"
    sets = "key" if bucket is None else "GROUPING SETS ((key, bucket), (key))"
    return (
        f"""
        SELECT key, {"NULL" if bucket is None else "epoch_us(bucket)"}, {TALLIES}, count(DISTINCT identity) * {mask + 1}
        FROM (
            SELECT {starts} AS bucket, {key} AS key, enabled, "count", {identity} AS identity
            FROM evaluations WHERE {condition}
        ) GROUP BY {sets}
        """,
    )


def newest(condition: str, limit: int) -> tuple[str, ...]:
    """Return what finds the newest evaluations."""
    return (f"SELECT * FROM evaluations WHERE {condition} ORDER BY evaluation_time DESC, position DESC LIMIT {limit}",)


def exposures(condition: str, limit: int) -> tuple[str, ...]:
    """Return what finds the exposures of the first identities by their hashes, and what counts the arms."""
    page = f"SELECT DISTINCT identity_hash FROM evaluations WHERE {condition} ORDER BY identity_hash LIMIT {limit}"
    return (
        f"""
        SELECT feature_name, identity_identifier, min(evaluation_time), arg_min(variant, evaluation_time),
            arg_min(value, evaluation_time), min({_ARM}) <> max({_ARM}), sum("count")
        FROM evaluations WHERE {condition} AND identity_hash IN ({page}) GROUP BY feature_name, identity_identifier
        """,
        f"""
        SELECT CASE WHEN least = greatest THEN least END, count(*) FROM (
            SELECT min({_ARM}) AS least, max({_ARM}) AS greatest FROM evaluations WHERE {condition} GROUP BY identity_hash
        ) GROUP BY 1
        """,
    )


def unknown_features(condition: str) -> tuple[str, ...]:
    """Return what tells how often each unknown name was asked for, and by what."""
    return (
        f"""
        SELECT name, sum(entry_count)::BIGINT, sdk_name, sdk_version, min(receive_time), max(receive_time)
        FROM discards WHERE {condition} AND reason = 'unknown_feature' GROUP BY name, sdk_name, sdk_version
        """,
    )


def intake(condition: str, recent: str) -> tuple[str, ...]:
    """Return what tells by the hour what was recorded and what was not, and how much of it is *recent*."""
    hour = "epoch_us(date_trunc('hour', receive_time))"
    return (
        f"SELECT {hour}, count(*) FROM evaluations WHERE {condition} GROUP BY 1",
        f"SELECT {hour}, reason, name, sum(entry_count)::BIGINT FROM discards WHERE {condition} GROUP BY 1, 2, 3",
        f"SELECT count(*) FROM evaluations WHERE {recent}",
    )
