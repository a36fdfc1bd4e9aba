"""The old service's own rules for words, in force with the compat profile.

A payload's text fields are all its texts, however deep. Keyword search finds the memories of which one is the term
(`exact`), or holds it (a substring). Hybrid recall gives score + boost * matches, where a match is one term in one text
field, by the same two rules; without terms they are what the query puts in quotes, its hexadecimal numbers and its
words of four letters or more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from memory_runtime.model.records import MemoryRecord, Scope
from memory_runtime.stores.answer_size import answer_of
from memory_runtime.stores.resilience.deadline import check_time
from memory_runtime.stores.sessions import LedgerView

CANDIDATE_MULTIPLIER: Final = 4
"""Memories nearest by vector that are considered, times the top k."""
MAX_HOLDING: Final = 10_000
"""Memories that may hold a term, of which no more are looked at."""
MOST_READ: Final = 256 << 20
"""Bytes of the payloads that are read for that."""
_DEEPEST: Final = 6
_MOST_FIELDS: Final = 4096
_QUOTED: Final = re.compile(r'"([^"]+)"|\'([^\']+)\'')
_HEXADECIMAL: Final = re.compile(r"0x[0-9a-fA-F]+")
_WORD: Final = re.compile(r"[A-Za-z0-9_\-]{4,}")
_PLAIN: Final = re.compile(r"[A-Za-z0-9]+")


class Terms(NamedTuple):
    """What is looked for, and how: as a whole text field or inside of one, with its case or without."""

    terms: tuple[str, ...]
    exact: bool
    case_sensitive: bool

    def matches(self, payload: Mapping[str, Any]) -> int:
        """How often a text field of the payload is, or holds, one of the terms."""
        sought = self.terms if self.case_sensitive else [term.lower() for term in self.terms]
        count = 0
        for text in text_fields(payload):
            held = text if self.case_sensitive else text.lower()
            count += sum(held == term if self.exact else term in held for term in sought)
        return count

    def holding(
        self,
        view: LedgerView,
        scope: Scope,
        *,
        memory_type: str | None,
        filters: Mapping[str, Any] | None,
        now: float,
    ) -> list[tuple[MemoryRecord, int]]:
        """The scope's memories with a match and how many, by coordinate; of at most 10,000 that may have one."""
        fragments = [_fragment(term) for term in self.terms]
        if not fragments:
            return []
        # what is read to be counted is not yet an answer, and has a bound of its own
        with answer_of(MOST_READ):
            found = view.holding(
                scope,
                fragments if all(fragments) else [],
                memory_type=memory_type,
                filters=filters,
                now=now,
                limit=MAX_HOLDING,
            )
        counted = []
        for record in found:
            check_time()
            if count := self.matches(record.payload):
                counted.append((record, count))
        return counted


def derived_terms(query: str) -> tuple[str, ...]:
    """The terms of a query that names none."""
    quoted = [one or other for one, other in _QUOTED.findall(query)]
    return tuple(dict.fromkeys([*quoted, *_HEXADECIMAL.findall(query), *_WORD.findall(query)]))


def text_fields(payload: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a payload, at most six levels deep and 4,096 of them."""
    left = _MOST_FIELDS

    def walk(value: Any, depth: int) -> Iterator[str]:
        nonlocal left
        if left <= 0 or depth > _DEEPEST:
            return
        if isinstance(value, str):
            left -= 1
            yield value
        elif isinstance(value, Mapping):
            for one in value.values():
                yield from walk(one, depth + 1)
        elif isinstance(value, list):
            for one in value:
                yield from walk(one, depth + 1)

    return walk(dict(payload), 0)


def candidates(top_k: int) -> int:
    """How many of the nearest by vector the hybrid rule considers."""
    return math.ceil(top_k * CANDIDATE_MULTIPLIER)


def _fragment(term: str) -> str:
    """What a payload's JSON holds, in lower case, wherever it holds the term: letters and digits are never escaped."""
    return max(_PLAIN.findall(term), key=len, default="").lower()


def in_words(terms: Sequence[str] | None, query: str | None, *, exact: bool, case_sensitive: bool) -> Terms:
    """What a hybrid recall looks for."""
    return Terms(tuple(terms) if terms else derived_terms(query or ""), exact, case_sensitive)
