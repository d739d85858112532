"""JSON objects into the entries of map fields, in protobuf's wire format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

from flagledger.transcoding.codec_fields import Kind, field_kind, map_value, message_of
from flagledger.transcoding.codec_plan import Report
from flagledger.transcoding.codec_scalars import CodecError
from flagledger.transcoding.codec_wire import scalar_wire, sized, tag

_MAX_KEY_CHARACTERS: Final = 100


_Decode = Callable[[Any, Report, int], str]


class MapDecoder:
    """Writes one map field, shown as *display*; *decoder* gives what decodes its values, None where they are scalars."""

    def __init__(self, field: FieldDescriptor, decoder: Callable[[], _Decode] | None, display: str) -> None:
        self._display = display
        key = message_of(field).fields_by_name["key"]
        self._tag = tag(field)
        self._key_tag = tag(key)
        self._key = scalar_wire(key)
        self._key_kind = field_kind(key)
        self._value_tag = tag(map_value(field))
        self._decoder = decoder
        self._value = scalar_wire(map_value(field)) if decoder is None else None

    def __call__(self, value: Any, report: Report, depth: int) -> str:
        """Return every entry with its tag; the path of an error is `[key]`."""
        items = value.items()
        decode = None if self._decoder is None else self._decoder()
        entries = []
        key = ""
        try:
            for key, item in items:
                if self._value is not None:
                    content = self._value(item)
                elif decode is not None:
                    collected = len(report.errors)
                    content = sized(decode(item, report, depth + 1))
                    if len(report.errors) != collected:
                        report.prefix(collected, f"{self._display}[{key[:_MAX_KEY_CHARACTERS]}]", None)
                entries.append(self._tag + sized(self._key_tag + self._convert_key(key) + self._value_tag + content))
        except CodecError as error:
            raise error.within(f"[{key[:_MAX_KEY_CHARACTERS]}]") from None
        return "".join(entries)

    def _convert_key(self, key: str) -> str:
        if self._key_kind is Kind.BOOL:
            if key not in {"true", "false"}:
                raise CodecError("has to have the key true or false")
            return self._key(key == "true")
        return self._key(key)
