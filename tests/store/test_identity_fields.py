from __future__ import annotations

import pytest
from flagledger.store.identity_fields import fields_of
from support.records import add_evaluation, record_of


@pytest.mark.parametrize("name", ["", "ann", "é", "a\0b", "x" * 127, "x" * 128, "é" * 2_000])
def test_fields_stand_in_entries_that_hold_them(name: str) -> None:
    """Both fields are found in an entry of theirs, whatever the length of the texts, and one of them is missing from others."""
    record, other = record_of(environment="production"), record_of(environment="production")
    add_evaluation(record, identity_identifier=name)
    add_evaluation(other, identity_identifier=name + "x")

    assert all(field in record.SerializeToString() for field in fields_of("production", name))
    assert not all(field in other.SerializeToString() for field in fields_of("production", name))
    assert not all(field in record.SerializeToString() for field in fields_of("staging", name))
