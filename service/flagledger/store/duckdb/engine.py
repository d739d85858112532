"""How DuckDB answers: the functions that `store.questioning` asks for, each from the module that its subject has."""

from flagledger.store.duckdb.applied import applied, tally
from flagledger.store.duckdb.counts import count_evaluations
from flagledger.store.duckdb.export import export
from flagledger.store.duckdb.exposures import count_arms, list_exposures
from flagledger.store.duckdb.intake import intake, list_unknown_features
from flagledger.store.duckdb.queries import environments, last_seen, list_evaluations, list_features

__all__ = [
    "applied",
    "count_arms",
    "count_evaluations",
    "environments",
    "export",
    "intake",
    "last_seen",
    "list_evaluations",
    "list_exposures",
    "list_features",
    "list_unknown_features",
    "tally",
]
