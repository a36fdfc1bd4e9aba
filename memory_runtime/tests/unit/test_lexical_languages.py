"""Recall and keyword search in twenty languages, through the engine, and for ledgers of older releases."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from memory_runtime.engine import MemoryEngine, RecallRequest
from memory_runtime.engine.housekeeping import REFOLD_BATCH
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.stores.sqlite import fts
from memory_runtime.tests.languages import LANGUAGES

ALL = [(name, asked.memories) for name, asked in LANGUAGES.items()]


async def fill(engine: MemoryEngine, scope: Scope) -> None:
    """Every memory of every language, an hour apart, the answers neither first nor together."""
    lines = [text for place in (1, 0, 2) for _, memories in ALL for text in (memories[place],)]
    items = [StoreItem((float(n),), {"text": text}, timestamp=1e9 + n * 3600) for n, text in enumerate(lines)]
    await engine.store_bulk(scope, items)


async def keywords(engine: MemoryEngine, scope: Scope, term: str, **rest: Any) -> list[str]:
    return [one.payload["text"] for one in await engine.keyword_search(scope, term, **rest)]


async def answers_every_language(engine: MemoryEngine, scope: Scope) -> None:
    for name, asked in LANGUAGES.items():
        found = await engine.recall(scope, RecallRequest(query=asked.question, top_k=1, hybrid=True))
        assert found.hits[0].record.payload["text"] == asked.memories[0], name
        for word in asked.words:
            assert asked.memories[0] in await keywords(engine, scope, word), (name, word)
            assert asked.memories[0] in await keywords(engine, scope, word, exact=False), (name, word)


async def test_the_right_memory_is_first_in_every_language(open_engine: Any, scope: Scope) -> None:
    engine = await open_engine()
    await fill(engine, scope)
    await answers_every_language(engine, scope)


@pytest.mark.parametrize("language", LANGUAGES)
async def test_one_languages_memories_alone_are_told_apart(open_engine: Any, scope: Scope, language: str) -> None:
    """Few memories: statistics say nothing of which words are common."""
    engine = await open_engine()
    asked = LANGUAGES[language]
    await engine.store_bulk(scope, [StoreItem((float(n),), {"text": one}) for n, one in enumerate(asked.memories)])
    found = await engine.recall(scope, RecallRequest(query=asked.question, top_k=3, hybrid=True))
    assert found.hits[0].record.payload["text"] == asked.memories[0]


async def test_exact_and_case_sensitive_search_see_the_text_itself(open_engine: Any, scope: Scope) -> None:
    engine = await open_engine()
    texts = ["Die Straße „Am Fluß“ 5 €", "die strasse am fluss", "Cafe\u0301 crème", "昨天吃了拉面。", "50 % § plain"]
    await engine.store_bulk(scope, [StoreItem((float(n),), {"text": one}) for n, one in enumerate(texts)])
    assert set(await keywords(engine, scope, "STRASSE")) == set(texts[:2])
    assert await keywords(engine, scope, "Straße", case_sensitive=True) == [texts[0]]
    assert await keywords(engine, scope, "strasse", case_sensitive=True) == [texts[1]]
    assert await keywords(engine, scope, "Café", case_sensitive=True) == [texts[2]]
    assert await keywords(engine, scope, "café", case_sensitive=True) == []
    assert await keywords(engine, scope, "拉面", case_sensitive=True) == [texts[3]]
    assert await keywords(engine, scope, "了面") == []
    assert await keywords(engine, scope, "€") == [texts[0]]
    assert await keywords(engine, scope, "„") == [texts[0]]
    assert await keywords(engine, scope, "§") == [texts[4]]


def as_an_older_release_wrote_it(path: Path) -> int:
    """Texts as they are, cut by FTS5's own tokenizer."""
    connection = sqlite3.connect(path, isolation_level=None)
    fts.install(connection)
    rows = connection.execute("SELECT row, text, raw_text(text, payload) FROM memories WHERE text != ''").fetchall()
    for row, text, raw in rows:
        fts.forget(connection, row, text)
        connection.execute("UPDATE memories SET text = ? WHERE row = ?", (raw, row))
        fts.learn(connection, row, raw)
    connection.execute("INSERT INTO memories_text (memories_text, rank) VALUES ('integrity-check', 1)")
    connection.close()
    return len(rows)


def check_words(path: Path) -> int:
    """Proves that the index of words holds what `memories.text` says, and counts the texts of an older release."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("INSERT INTO memories_text (memories_text, rank) VALUES ('integrity-check', 1)")
    (left,) = connection.execute(f"SELECT count(*) FROM memories WHERE {fts.UNFOLDED}").fetchone()  # noqa: S608
    connection.close()
    return int(left)


async def test_a_ledger_of_an_older_release_is_indexed_anew(open_engine: Any, scope: Scope, tmp_path: Path) -> None:
    engine = await open_engine()
    await fill(engine, scope)
    await engine.close()
    path = tmp_path / "data" / "ledger.sqlite3"
    assert as_an_older_release_wrote_it(path) == 3 * len(LANGUAGES)
    engine = await open_engine()
    await answers_every_language(engine, scope)
    await engine.close()
    assert check_words(path) == 0


async def test_what_an_older_release_wrote_after_a_rollback_is_found_again(
    open_engine: Any, scope: Scope, tmp_path: Path
) -> None:
    """It takes out what is in `memories.text` and writes texts there as they are, on the newest schema."""
    engine = await open_engine()
    await fill(engine, scope)
    await engine.close()
    path = tmp_path / "data" / "ledger.sqlite3"
    connection = sqlite3.connect(path, isolation_level=None)
    asked = LANGUAGES["Chinese"]
    for row, text in connection.execute("SELECT row, text FROM memories WHERE row % 2 = 0").fetchall():
        connection.execute(
            "INSERT INTO memories_text (memories_text, rowid, text) VALUES ('delete', ?, ?)", (row, text)
        )
        payload = '{"text":"' + asked.memories[0] + '"}'
        sql = "UPDATE memories SET text = ?, payload = ? WHERE row = ?"
        connection.execute(sql, (asked.memories[0], payload, row))
        connection.execute("INSERT INTO memories_text (rowid, text) VALUES (?, ?)", (row, asked.memories[0]))
    connection.close()
    assert check_words(path) == 3 * len(LANGUAGES) // 2
    engine = await open_engine()
    assert len(await keywords(engine, scope, "拉面", top_k=100)) >= 3 * len(LANGUAGES) // 2
    await engine.close()
    assert check_words(path) == 0


async def test_a_stop_in_the_middle_loses_nothing_and_the_rest_follows(open_engine: Any, scope: Scope) -> None:
    engine = await open_engine()
    count = REFOLD_BATCH + 50
    await engine.store_bulk(scope, [StoreItem((float(n),), {"text": f"Straße {n}"}) for n in range(count)])

    def as_it_was(transaction: Any) -> None:
        connection = transaction.connection
        for row, text, raw in connection.execute("SELECT row, text, raw_text(text, payload) FROM memories").fetchall():
            fts.forget(connection, row, text)
            connection.execute("UPDATE memories SET text = ? WHERE row = ?", (raw, row))
            fts.learn(connection, row, raw)

    await engine.ledger.transact(as_it_was)
    assert await engine.ledger.read(lambda view: view.unfolded())
    assert await engine.ledger.transact(lambda one: one.refold_words(REFOLD_BATCH)) == REFOLD_BATCH
    assert len(await keywords(engine, scope, "strasse", top_k=1000)) == REFOLD_BATCH
    await engine.close()
    engine = await open_engine()
    assert len(await keywords(engine, scope, "strasse", top_k=1000)) == count
    assert not await engine.ledger.read(lambda view: view.unfolded())
