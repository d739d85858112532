"""
Which feature was likely meant by a name that the environment does not have.

A name of other case or other separators is found in a table. Of the rest only features that share rare pairs of characters
with it are compared, a bounded number of them, so that the cost grows with the names and not with names times features.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

_SEPARATORS: Final = re.compile(r"[-_.\s]+")
_LIKENESS: Final = 0.8
# Longer names are compared as a whole alone: a near miss costs the square of the length.
_MAX_CHARACTERS: Final = 100
# What is looked at for one name: entries of the index, and features that are compared with it.
_MAX_ENTRIES: Final = 2_000
_MAX_COMPARED: Final = 8
# Products of lengths, of all that is compared: some two seconds.
_MAX_WORK: Final = 8_000_000


class LikelyMatches:
    """
    Finds the feature that was likely meant; one object for one answer, since what it compares has an end.

    Args:
        features: Exact names that the environment has.
    """

    def __init__(self, features: Iterable[str]) -> None:
        self._work_left = _MAX_WORK
        self._by_case: dict[str, str] = {}
        self._by_letters: dict[str, str] = {}
        self._by_pair: defaultdict[str, list[str]] = defaultdict(list)
        for feature in sorted(features):
            self._by_case.setdefault(feature.casefold(), feature)
            self._by_letters.setdefault(_letters(feature), feature)
        for letters in self._by_letters:
            if len(letters) <= _MAX_CHARACTERS:
                for pair in _pairs(letters):
                    self._by_pair[pair].append(letters)

    def match(self, name: str) -> str | None:
        """Return the feature that *name* likely meant: of another case, else of other separators, else nearly the same."""
        found = self._by_case.get(name.casefold())
        if found is not None:
            return found
        letters = _letters(name)
        found = self._by_letters.get(letters) if letters else None
        return self._near(letters) if found is None else found

    def _near(self, letters: str) -> str | None:
        if not letters or len(letters) > _MAX_CHARACTERS:
            return None
        matcher = SequenceMatcher(autojunk=False)
        matcher.set_seq2(letters)
        best, likeness = None, 0.0
        for candidate in self._candidates(letters):
            self._work_left -= len(letters) * len(candidate)
            if self._work_left < 0:
                break
            matcher.set_seq1(candidate)
            if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < max(_LIKENESS, likeness):
                continue
            ratio = matcher.ratio()
            if ratio >= _LIKENESS and ratio > likeness:
                best, likeness = candidate, ratio
        return None if best is None else self._by_letters[best]

    def _candidates(self, letters: str) -> list[str]:
        """Return the features that share most pairs of characters with *letters*, counted from the rarest pair on."""
        shared: Counter[str] = Counter()
        left = _MAX_ENTRIES
        for entries in sorted((self._by_pair[pair] for pair in _pairs(letters) if pair in self._by_pair), key=len):
            shared.update(entries[:left])
            left -= len(entries)
            if left <= 0:
                break
        return [candidate for candidate, _ in shared.most_common(_MAX_COMPARED)]


def _letters(name: str) -> str:
    return _SEPARATORS.sub("", name.casefold())


def _pairs(letters: str) -> set[str]:
    # With its ends, so that a name of few characters has some pairs left where one of them is wrong.
    whole = f"\x00{letters}\x00"
    return {whole[i : i + 2] for i in range(len(whole) - 1)}
