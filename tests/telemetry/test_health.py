from __future__ import annotations

from flagledger.telemetry.health import Readiness


def test_names_what_is_missing() -> None:
    """Readiness asks its conditions anew each time, and a drain is for good."""
    state = {"disk": True, "catalog": False}
    readiness = Readiness({name: lambda name=name: state[name] for name in state})  # type: ignore[misc]

    before = readiness.missing()
    state["catalog"] = True
    ready = readiness.missing()
    readiness.drain()

    assert (["catalog"], [], ["not draining"]) == (before, ready, readiness.missing())
