"""
The kitchen, called with what its OpenAPI document describes and with what it does not; see tests/support/documented.py.

What fits the document is refused for nothing but what JSON Schema has no word for.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis
from flagledger.transcoding import Transcoder, openapi
from flagledger.transcoding.pages import Pages
from support.documented import fits, is_no_timestamp, play, refused
from transcoding.kitchen import Attachment, Everything, HttpBody, KitchenServicer, service

UNSPEAKABLE = (
    "is not an integer",
    "is out of range",
    "is longer than 10,000 years",
    "sets a second member of the oneof 'choice'",
    "is nested too deeply",
    # A number in a string, past the bounds of an int32.
    "is not a value of kitchen.v1.Color",
)
FILE = HttpBody(data=b"x", content_type="text/plain")
OPTIONS = {
    "plain": {},
    "spelled out": {"preserving_proto_field_name": True, "always_print_primitive": True, "int64_as_numbers": True},
}


class Servicer(KitchenServicer):
    """Answers with what it was asked, and with something where it was asked for something else."""

    Find = Route = Change = Part = KitchenServicer.Echo

    async def Watch(self, request: Any, context: Any) -> Any:
        """Answer twice."""
        yield Everything(strings=["a"])
        yield Everything(int32_field=3)

    async def Export(self, request: Any, context: Any) -> Any:
        """Answer with a file."""
        yield FILE

    async def Download(self, request: Any, context: Any) -> Any:
        """Answer with a file."""
        return FILE

    async def Attach(self, request: Any, context: Any) -> Any:
        """Answer with a file that has a name."""
        return Attachment(name="a", file=FILE)


def operations(options: str, *names: str) -> list[Any]:
    """Return the operations of the document of these services, as it is served."""
    services = [(service(name), Servicer()) for name in names]
    transcoder = Transcoder(services, **OPTIONS[options])  # type: ignore[arg-type]
    app = Pages(transcoder, lambda: openapi.document(transcoder, title="Kitchen", version="1"))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    found = [result.ok() for result in schema.get_all_operations()]
    # MERGE is none that OpenAPI 3.1 knows.
    assert len(transcoder.routes()) <= len(found) + 1
    return found


@pytest.mark.parametrize("options", OPTIONS)
def test_some_cases(options: str) -> None:
    """A few requests of each operation get answers that the document describes."""
    for operation in operations(options, "Kitchen", "Streams", "Files"):
        play(operation, 1, refused, refused_for_the_unspeakable)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("options", OPTIONS)
def test_many_cases(options: str) -> None:
    """Dozens of requests of each operation get answers that the document describes."""
    for operation in operations(options, "Kitchen", "Streams", "Files", "Pantry"):
        play(operation, 40, refused, refused_for_the_unspeakable)


def refused_for_the_unspeakable(context: Any, response: Any, case: Any) -> None:
    """Check that what fits the document is refused for nothing that it could have said."""
    if not fits(case) or response.status_code != 400:
        return
    found = {each["description"] for detail in response.json()["details"] for each in detail["fieldViolations"]}
    if not found:
        # A body that is one field, which has no name.
        said = re.fullmatch("The body (.+)[.]", response.json()["message"])
        assert said is not None, response.text
        found = {said[1]}
    assert all(each in UNSPEAKABLE or is_no_timestamp(case, each) for each in found), response.text
