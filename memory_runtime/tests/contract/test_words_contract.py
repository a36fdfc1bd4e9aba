"""Words in every script: SQLite and PostgreSQL hold the same ones, score them alike, and index old texts anew."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from memory_runtime.lexical import question_words
from memory_runtime.stores.contracts import Unit
from memory_runtime.stores.sqlite import fts
from memory_runtime.stores.values import Visible
from memory_runtime.tests.contract.conftest import ask, close, postgres_place, sqlite_place
from memory_runtime.tests.languages import LANGUAGES
from memory_runtime.tests.ledgers import ACME, Place, drop, identity, put

SEEN = Visible(ACME, 5000.0)
TEXTS = [
    *(text for asked in LANGUAGES.values() for text in asked.memories),
    "Die Straße „Am Fluß“ 5 €",
    "die strasse am fluss",
    "Cafe\u0301 crème ﬁn m² Ⅻ",
    "面面面 拉面拉面",
    "\x01 marked, and a zero \x00 inside",
    "…!!!",
    "plain words, q9abc0 and 1e5 x_y 3.14 a@b.org",
]
TERMS = [
    *(word for asked in LANGUAGES.values() for word in asked.words),
    *("STRASSE", "cafe", "CAFÉ crème", "拉面", "面", "了面", "q9abc0", "1e5", "x", "5", "€", "…", "marked", "inside"),
    *("word", "m2", "xii", "fin", "b org"),
]


def filled(place: Place) -> Any:
    ledger = place.open()
    units = [put(n, text, payload=json.dumps({"text": text})) for n, text in enumerate(TEXTS)]
    return ledger, Unit(units)


def everything(view: Any) -> dict[str, Any]:
    """All that can be asked about words."""
    asked = {"limit": 50, "memory_type": None, "filters": None, "now": 5000.0}
    found: dict[str, Any] = {}
    rows = {row.id: row.row for row in view.rows(SEEN, [identity(n).bytes for n in range(len(TEXTS))])}
    names = {number: one for one, number in rows.items()}
    for term in TERMS:
        for exact, case_sensitive in ((True, False), (True, True), (False, False)):
            hits = view.by_words(ACME, term, exact=exact, case_sensitive=case_sensitive, **asked)
            found[f"{term} {exact} {case_sensitive}"] = sorted(one.coordinate[0] for one in hits)
        found[f"{term} frequency"] = view.frequency(term, limit=50)
        scores = view.word_scores(term, list(rows.values()))
        found[f"{term} scores"] = {names[number]: pytest.approx(score) for number, score in scores.items()}
    for language, one in LANGUAGES.items():
        best = view.best_by_words(SEEN, question_words(one.question), limit=50)
        found[language] = {key: pytest.approx(score) for key, score in best.items()}
    return found


async def test_both_ledgers_find_and_score_the_same_words(tmp_path: Path, database: str) -> None:
    places = [sqlite_place(tmp_path / "data"), postgres_place(database)]
    answers = []
    for place in places:
        ledger, unit = filled(place)
        await ledger.commit(unit)
        answers.append(await ledger.read(everything))
        # what is put over and deleted is taken out under the words it was indexed by
        changed = [put(n, TEXTS[-1 - n], payload=json.dumps({"text": TEXTS[-1 - n]})) for n in range(0, 20, 2)]
        await ledger.commit(Unit([*changed, *(drop(n) for n in range(1, 20, 2))]))
        answers.append(await ledger.read(everything))
        assert not any(place.half_visible().values())
        close(place)
    of_sqlite, sqlite_changed, of_postgres, postgres_changed = answers
    assert of_postgres == of_sqlite
    assert postgres_changed == sqlite_changed
    for asked in LANGUAGES.values():
        for word in asked.words:
            assert TEXTS.index(asked.memories[0]) in of_sqlite[f"{word} True False"], word


def as_an_older_release_wrote_them(place: Place, database: str | None) -> None:
    """Words that are not ASCII in the index as they are."""
    if database is not None:
        ask(
            database,
            "WITH old AS (UPDATE memories_text t SET folded = lower(m.text), length = 1 FROM memories m"
            " WHERE m.row = t.row AND octet_length(m.text) <> char_length(m.text) RETURNING 1)"
            " SELECT count(*) FROM old",
        )
        ask(
            database,
            "UPDATE ledger_head SET tokens = (SELECT sum(length) FROM memories_text)",
        )
        return
    path = Path(place.ask("PRAGMA database_list")[0][2])
    connection = sqlite3.connect(path, isolation_level=None)
    fts.install(connection)
    for row, text, raw in connection.execute("SELECT row, text, raw_text(text, payload) FROM memories").fetchall():
        fts.forget(connection, row, text)
        connection.execute("UPDATE memories SET text = ? WHERE row = ?", (raw, row))
        fts.learn(connection, row, raw)
    connection.close()


async def test_texts_of_an_older_release_are_indexed_anew_in_batches(
    place: Place, request: pytest.FixtureRequest
) -> None:
    ledger, unit = filled(place)
    await ledger.commit(unit)
    fresh = await ledger.read(everything)
    ledger.close()
    database = request.getfixturevalue("database") if place.kind == "postgres" else None
    await asyncio.to_thread(as_an_older_release_wrote_them, place, database)
    ledger = place.open()
    assert await ledger.read(lambda view: view.unfolded())
    before = await ledger.read(everything)
    assert before["拉面 True False"] != fresh["拉面 True False"]
    batches = []
    while not batches or batches[-1] == 7:
        batches.append(await ledger.transact(lambda one: one.refold_words(7)))
    assert sum(batches) > 50
    assert not await ledger.read(lambda view: view.unfolded())
    assert await ledger.read(everything) == fresh
    assert not any(place.half_visible().values())
