from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from flagledger.internal.v1.journal_pb2 import JournalRecord
from flagledger.store.clickhouse.traits import having, with_trait
from flagledger.store.conditions import Conditions
from flagledger.v1.evaluation_pb2 import Evaluation, IdentityTrait
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store.naive_rows import rows_of, trait
from support import askable
from support.chdb import connect, directory
from support.records import json_values, texts, value_of

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

keys = st.sampled_from((*askable.KEYS, "a", ":", ",", '","', "}", "{", "[", '\\"', "\\\\", "null")) | texts
few_keys = st.sampled_from(("a", "plan", '"', ","))
# What looks like a trait within another one.
values = (
    json_values
    | keys
    | st.dictionaries(few_keys, few_keys | st.dictionaries(few_keys, few_keys, max_size=2), max_size=3)
)
traits = st.lists(st.tuples(few_keys | keys, values | st.lists(values, max_size=2)), max_size=6)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Return a client of the engine."""
    client = connect(directory())
    yield client
    client.close()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=traits, key=few_keys | keys, of_those=st.integers(0, 5))
def test_a_trait_is_read_as_it_was_written(
    client: Client, sent: list[tuple[str, object]], key: str, of_those: int
) -> None:
    """Whatever keys and values surround it, the first of its name is found, byte for byte, and nothing else is taken for it."""
    record = JournalRecord()
    record.evaluations.append(
        Evaluation(identity_traits=[IdentityTrait(trait_key=name, trait_value=value_of(value)) for name, value in sent])
    )
    (row,) = rows_of(record, 1)
    wanted = sent[of_those][0] if of_those < len(sent) else key
    asked, found = Conditions(), Conditions()
    having(asked, wanted, trait(row, wanted))
    parameters = {**found.parameters, **asked.parameters, "traits": row.traits}
    text = with_trait(found, wanted, "wanted")

    ((read, matches),) = client.query(
        f"SELECT {text}, {asked.where} FROM (SELECT {{traits:Nullable(String)}} AS identity_traits)",
        {**parameters, **found.parameters},
    ).result_rows

    assert trait(row, wanted) == read
    assert (read is not None) is bool(matches)
