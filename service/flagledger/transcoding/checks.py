"""What a Transcoder is given, looked at before it starts: a misspelt name would leave a limit off without a word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor

from flagledger.transcoding.binding import BindingError
from flagledger.transcoding.codec import CodecOptions


def checked(services: Iterable[Any]) -> list[tuple[ServiceDescriptor, Any]]:
    """
    Return *services* as pairs.

    Raises:
        BindingError: One is no pair of a service descriptor and a servicer.
    """
    pairs = []
    for at, pair in enumerate(services):
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], ServiceDescriptor):  # noqa: PLR2004
            raise BindingError(
                f"services[{at}] has to be a pair of a service descriptor, such as "
                f'library_pb2.DESCRIPTOR.services_by_name["Library"], and its servicer; it is {_described(pair)}.'
            )
        if isinstance(pair[1], type):
            raise BindingError(
                f"services[{at}], {pair[0].full_name}: the servicer is the class {pair[1].__name__}; it has to be an object."
            )
        pairs.append(pair)
    return pairs


def check_names(options: CodecOptions, services: Iterable[ServiceDescriptor]) -> None:
    """
    Check the names of messages and fields among *options*.

    Raises:
        BindingError: One is nothing that a request of *services* may hold.
    """
    messages: dict[str, Descriptor] = {}
    for service in services:
        for method in service.methods:
            _collect(method.input_type, messages)
    _check("ignore_unknown_below", options.ignore_unknown_below, set(messages), "message")
    fields = {field.full_name for message in messages.values() for field in _repeated(message)}
    _check("max_elements", options.max_elements, fields, "repeated field")
    _check("collect_errors_in", options.collect_errors_in, fields, "repeated field")


def _check(keyword: str, names: Iterable[str], known: set[str], what: str) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; the nearest is {near[0]}" if near else ""
            raise BindingError(f"{keyword}: {name!r} is no {what} of a request{hint}.")


def _collect(message: Descriptor, found: dict[str, Descriptor]) -> None:
    waiting = [message]
    while waiting:
        each = waiting.pop()
        if each.full_name not in found:
            found[each.full_name] = each
            waiting += [field.message_type for field in each.fields if field.message_type is not None]


def _repeated(message: Descriptor) -> Iterator[FieldDescriptor]:
    return (field for field in message.fields if field.is_repeated)


def _described(value: object) -> str:
    return f"a pair that begins with {value[0]!r}" if isinstance(value, tuple) and value else f"{value!r}"
