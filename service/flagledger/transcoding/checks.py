"""What a Transcoder is given, looked at before it starts: a misspelt name would leave a limit off without a word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor

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
        BindingError: Nothing is called so among all that the files of *services* know.
    """
    for pool in {id(service.file.pool): service.file.pool for service in services}.values():
        for keyword, names in (
            ("ignore_unknown_below", options.ignore_unknown_below),
            ("max_elements", options.max_elements),
            ("collect_errors_in", options.collect_errors_in),
        ):
            for name in names:
                _check(keyword, name, pool)


def _check(keyword: str, name: str, pool: Any) -> None:
    try:
        if keyword == "ignore_unknown_below":
            pool.FindMessageTypeByName(name)
            return
        if pool.FindFieldByName(name).is_repeated:
            return
    except KeyError:
        raise BindingError(f"{keyword}: nothing is called {name!r}.") from None
    raise BindingError(f"{keyword}: {name!r} is not repeated.")


def _described(value: object) -> str:
    return f"a pair that begins with {value[0]!r}" if isinstance(value, tuple) and value else f"{value!r}"
