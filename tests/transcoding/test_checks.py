from __future__ import annotations

from typing import Any

import pytest
from flagledger.transcoding import BindingError, Transcoder
from transcoding import kitchen
from transcoding.kitchen import KitchenServicer, service

KITCHEN = service("Kitchen")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_elements": {"kitchen.v1.Order.tray": 1}}, "max_elements: 'kitchen.v1.Order.tray' is not repeated"),
        ({"max_elements": {"kitchen.v1.Order.trais": 1}}, "nothing is called 'kitchen.v1.Order.trais'"),
        (
            {"collect_errors_in": ["kitchen.v1.Tray.dish"]},
            "collect_errors_in: nothing is called 'kitchen.v1.Tray.dish'",
        ),
        ({"ignore_unknown_below": ["kitchen.v1.Tary"]}, "ignore_unknown_below: nothing is called 'kitchen.v1.Tary'"),
    ],
)
def test_names(options: dict[str, Any], words: str) -> None:
    """A name that nothing has refuses to start: misspelt, it would leave a limit off."""
    with pytest.raises(BindingError, match=words):
        Transcoder([(KITCHEN, KitchenServicer())], **options)


def test_names_that_are_there() -> None:
    """Fields of messages inside messages, of maps too, are named as they are."""
    transcoder = Transcoder(
        [(KITCHEN, KitchenServicer())],
        max_elements={"kitchen.v1.Dish.parts": 3, "kitchen.v1.Everything.string_map": 4},
        collect_errors_in=["kitchen.v1.Nested.children"],
        ignore_unknown_below=["kitchen.v1.Nested"],
    )

    assert transcoder.bindings


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((kitchen, KitchenServicer()), r"services\[0\] has to be a pair of a service descriptor"),
        (("kitchen.v1.Kitchen", KitchenServicer()), "a pair that begins with 'kitchen.v1.Kitchen'"),
        (KITCHEN, r"services\[0\] has to be a pair"),
        ((KITCHEN, KitchenServicer), "the servicer is the class KitchenServicer; it has to be an object"),
    ],
)
def test_pairs(pair: Any, words: str) -> None:
    """What is no pair of a descriptor and an object is refused in words that say what it has to be."""
    with pytest.raises(BindingError, match=words):
        Transcoder([pair])


def test_one_name_for_a_list() -> None:
    """A text where names of headers should be is not taken for its letters."""
    with pytest.raises(TypeError, match="header_allow_list"):
        Transcoder([(KITCHEN, KitchenServicer())], header_allow_list="authorization")
