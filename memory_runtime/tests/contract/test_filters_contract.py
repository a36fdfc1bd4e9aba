"""Filters mean one thing: SQLite and PostgreSQL answer as plain Python does, for any payload and any filter."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.stores.contracts import Unit
from memory_runtime.stores.postgres.migrations.versions.ledger_0005 import MEND
from memory_runtime.tests.contract.conftest import ask, close, postgres_place, sqlite_place
from memory_runtime.tests.ledgers import ACME, identity, put

KEYS = st.sampled_from(
    [
        *(
            "a",
            "b",
            "a.b",
            "a.a",
            "b.",
            "a..b",
            "",
            "0",
            "$",
            "[0]",
            "back\\slash",
            'q"uote',
            "\\",
            "é",
            "e\u0301",
            "\xa0",
        ),
        *("nul\0", "nul\ufffd", "nul\ue000", "nul\ue0000", "tab\t", "a b", "memory_type", "importance"),
    ]
)
NUMBERS = st.sampled_from(
    [
        *(0, 1, -1, 1.0, -0.0, 0.0, 0.1, 1.5, 0.30000000000000004, 0.3, 5e-324, 1e-7, 2**53, 2**53 + 1, float(2**53)),
        *(1e16, 10**16, 10**16 + 1, 1e23, 10**23, 2**63 - 1, 2**63, float(2**63), -(2**63) - 1, 10**40, 1e40, 1.8e308),
    ]
)
TEXTS = st.one_of(
    st.sampled_from(
        [
            *("", "1", "1.0", "true", "null", "a", "A", "a\0", "\0", "\0\0", "\ufffd", "\ue000", "\ue0000", "\ue0001"),
            *("\\", "\\u0000", "\\\0", "\\\\\0", '"', "é", "e\u0301", "ﬁ", "fi", "😀", "\u2028", "[1]", "episodic"),
        ]
    ),
    st.text(max_size=4),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS.filter(lambda n: n != 1.8e308), TEXTS)
VALUES = st.recursive(
    SCALARS, lambda one: st.one_of(st.lists(one, max_size=3), st.dictionaries(KEYS, one, max_size=3)), max_leaves=5
)
PAYLOADS = st.dictionaries(KEYS, VALUES, max_size=4)


def passes(payload: dict[str, Any], filters: dict[str, Any], memory_type: str, importance: float | None) -> bool:
    return all(_holds(payload, key, wanted, memory_type, importance) for key, wanted in filters.items())


def _holds(payload: dict[str, Any], key: str, wanted: Any, memory_type: str, importance: float | None) -> bool:
    if key in payload and _same(payload[key], wanted):
        return True
    parts = key.split(".")
    if len(parts) > 1 and all(parts):
        value: Any = payload
        for part in parts:
            value = value[part] if isinstance(value, dict) and part in value else _MISSING
        if value is not _MISSING and _same(value, wanted):
            return True
    column = {"memory_type": memory_type, "importance": importance}.get(key)
    return key not in payload and column is not None and _same(column, wanted)


_MISSING = object()


def _same(one: Any, other: Any) -> bool:
    for kind in (bool, str, type(None)):
        if isinstance(one, kind) or isinstance(other, kind):
            return type(one) is type(other) and bool(one == other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | dict) or isinstance(other, list | dict):
        return False
    return Decimal(repr(one)) == Decimal(repr(other))


def test_every_filter_answers_as_plain_python_does(tmp_path: Path, database: str) -> None:
    places = [sqlite_place(tmp_path / "data"), postgres_place(database)]
    ledgers = [place.open() for place in places]

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(PAYLOADS, min_size=1, max_size=5), st.lists(PAYLOADS, min_size=1, max_size=4), st.data())
    @example([{"a": [1]}, {"a": [1.0]}, {"a": {"b": True}}, {"a": {"b": 1}}], [{"a": [1.0]}, {"a": {"b": 1}}], None)
    @example([{"back\\slash": "a\0"}, {"back\\slash": "a"}], [{"back\\slash": "a\0"}, {"back\\slash": "a"}], None)
    @example([{"a": "\0"}, {"a": "\ufffd"}, {"a": "\ue0000"}], [{"a": "\0"}, {"a": "\ufffd"}, {"a": "\ue0000"}], None)
    @example([{"a": 2**53 + 1}, {"a": float(2**53)}, {"a": 10**23}], [{"a": 2**53}, {"a": 1e23}, {"a": 10**23}], None)
    def agree(payloads: list[dict[str, Any]], filters: list[dict[str, Any]], data: Any) -> None:
        asked = list(filters)
        if data is not None:
            # what is asked for is what is there, now and then
            pairs = [(key, value) for payload in payloads for key, value in payload.items()]
            if pairs:
                chosen = data.draw(st.lists(st.sampled_from(pairs), max_size=3))
                asked.extend({key: value} for key, value in chosen)
        raw = [1.0, None, 0.3, 5.0, -0.0]
        puts = [put(n, payload=canonical_json(one), importance=raw[n]) for n, one in enumerate(payloads)]
        puts += [put(n, payload="{}") for n in range(len(payloads), 5)]
        ids = {identity(n).bytes: n for n in range(5)}
        rows = [*payloads, *({} for _ in range(len(payloads), 5))]
        importances = [*raw[: len(payloads)], *(None for _ in range(len(payloads), 5))]
        for ledger in ledgers:
            asyncio.run(ledger.commit(Unit(puts)))
        for one in asked:
            expected = {n for n in range(5) if passes(rows[n], one, "episodic", importances[n])}
            for place, ledger in zip(places, ledgers, strict=True):
                found = ledger.read_now(lambda view: view.allowed_ids(ACME, one, memory_type=None, now=5000.0))  # noqa: B023
                assert {ids[each] for each in found} == expected, (place.kind, one)

    agree()
    for place in places:
        close(place)


@pytest.mark.parametrize("bad", [{"a" * 257: 1}, {"a": float("nan")}, {"a": "\ud800"}, {"\ud800": 1}, {"a": object()}])
def test_what_is_no_filter_is_refused_by_both(place: Any, bad: dict[str, Any]) -> None:
    ledger = place.open()
    with pytest.raises(InvalidArgument, match="filters"):
        ledger.read_now(lambda view: view.allowed_ids(ACME, bad, memory_type=None, now=5000.0))


def test_fields_of_an_older_release_are_made_anew(database: str) -> None:
    """It had one character for NUL; the migration tells them apart again."""
    place = postgres_place(database)
    ledger = place.open()
    texts = ["a\0", "a\ufffd", "a\ue000", "\\u0000", "\\\0\0"]
    asyncio.run(ledger.commit(Unit([put(n, payload=canonical_json({"a": text})) for n, text in enumerate(texts)])))
    close(place)
    ask(
        database,
        r"UPDATE memories SET fields ="
        r" regexp_replace(payload, '(?<!\\)((?:\\\\)*)\\u0000', '\1' || U&'\FFFD', 'g')::jsonb",
    )
    ask(database, MEND)
    place = postgres_place(database)
    ledger = place.open()
    for n, text in enumerate(texts):
        found = ledger.read_now(lambda view: view.allowed_ids(ACME, {"a": text}, memory_type=None, now=5000.0))  # noqa: B023
        assert found == [identity(n).bytes]
    close(place)
