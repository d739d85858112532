"""
A trait out of the JSON text of all, byte for byte as that has it.

ClickHouse's own functions for JSON write numbers and some characters otherwise than they were, so that neither a comparison of
texts nor a digest would hold. Texts are of one form (`store.json_texts`), which makes it possible to read them without.
"""

from __future__ import annotations

import re
from typing import Final

from flagledger.store.conditions import Conditions
from flagledger.store.json_texts import json_text

_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_FLAT: Final = rf'(?:{_STRING}|[^"\[{{,}}]+)'
# The first member of a name, where neither it nor one before it holds others.
_MEMBER: Final = rf"^\{{(?:{_STRING}:{_FLAT},)*?KEY:({_FLAT})[,}}]"
_TOKENS: Final = rf'{_STRING}|[\[\]{{}},:]|[^"\[\]{{}},:]+'

_TEXT: Final = "assumeNotNull(identity_traits)"
_QUICK: Final = f"extract({_TEXT}, {{NAME_pattern:String}})"
# An array of one lets a name stand for what is in it. Without such a member it begins behind the second token: that is none.
_THOROUGH: Final = f"""
    arrayMap(tokens -> arrayMap(depths -> arrayMap(begin -> if(begin = 2, '', arrayStringConcat(arraySlice(tokens, begin,
        arrayFirstIndex((token, depth) -> depth = 0 OR (depth = 1 AND token = ','),
            arraySlice(tokens, begin), arraySlice(depths, begin)) - 1))),
    [arrayFirstIndex((token, depth, behind) -> depth = 1 AND token = {{NAME_key:String}} AND behind = ':',
        tokens, depths, arrayShiftLeft(tokens, 1)) + 2])[1],
    [arrayCumSum(token -> multiIf(token IN ('{{', '['), 1, token IN ('}}', ']'), -1, 0), tokens)])[1],
    [extractAll({_TEXT}, {{NAME_tokens:String}})])[1]
"""
_TRAIT: Final = f"""
    nullIf(if({_QUICK} <> '', {_QUICK},
        if(position(ifNull(identity_traits, ''), {{NAME_member:String}}) = 0, '', {_THOROUGH})), '')
"""


def with_trait(made: Conditions, key: str, name: str) -> str:
    """Return SQL for the JSON text of the trait *key*, NULL where it is not there; *name* begins the names of its parameters."""
    text = json_text(key)
    made.parameters |= {
        f"{name}_key": text,
        f"{name}_member": f"{text}:",
        f"{name}_pattern": _MEMBER.replace("KEY", re.escape(text)),
        f"{name}_tokens": _TOKENS,
    }
    return _TRAIT.replace("NAME", name)


def having(made: Conditions, key: str, value: str | None) -> None:
    """Ask for the trait *key*, and where it is not None for *value*, its JSON text."""
    name = "asked_trait"
    # What has not even these characters is ruled out first.
    made.must(
        f"{name}_part", f"{json_text(key)}:{value or ''}", f"position(identity_traits, {{{name}_part:String}}) > 0"
    )
    trait = with_trait(made, key, name)
    if value is None:
        made.require(f"{trait} IS NOT NULL")
    else:
        # Both are written by the same hand, so that equal JSON is equal text.
        made.must(f"{name}_value", value, f"{trait} = {{{name}_value:String}}")
