"""The words of memories: an FTS5 index over `memories.text` that lives and dies with the record, in the same commit.

FTS5's tokenizer cuts and folds by rules of its own, so it is given ASCII words only: `memories.text` is the text itself
where that is ASCII, else `MARK` and the words as `model.words` writes them (the text itself is in the payload). What is
in that column is what the index holds of the row. A release that writes other texts there keeps to that too, so both
may serve the same ledger, and `unfolded` finds what it wrote.

The index holds stems (Porter), so that hybrid recall finds `adopted` by `adopt`; exact search asks `holds_phrase` too.
"""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

from memory_runtime.model import words
from memory_runtime.model.payload_text import payload_text
from memory_runtime.model.records import Scope
from memory_runtime.stores.contracts import KeywordHit
from memory_runtime.stores.sqlite.filters import conditions

MARK: Final = "\x01"
UNFOLDED: Final = "length(text) <> length(CAST(text AS BLOB))"
"""The rows whose text is not ASCII: an older release wrote them. A partial index holds them, and then no more."""


def stored(text: str) -> str:
    """What `memories.text` holds of a text."""
    if text.isascii() and not text.startswith(MARK) and "\0" not in text:
        return text
    return MARK + words.indexed(text).words


def learn(connection: sqlite3.Connection, row: int, text: str) -> None:
    """Indexes a row that is not indexed by its `stored` text; empty text has no words, and `forget` passes it over."""
    if text:
        connection.execute("INSERT INTO memories_text (rowid, text) VALUES (?, ?)", (row, text))


def forget(connection: sqlite3.Connection, row: int, text: str) -> None:
    """Takes a row out; `text` must be what `learn` was given, as the index keeps no copy."""
    if text:
        connection.execute(
            "INSERT INTO memories_text (memories_text, rowid, text) VALUES ('delete', ?, ?)", (row, text)
        )


def unfolded(connection: sqlite3.Connection) -> bool:
    """Whether `refold` has anything to do."""
    found = connection.execute(f"SELECT 1 FROM memories INDEXED BY memories_unfolded WHERE {UNFOLDED}")  # noqa: S608
    return found.fetchone() is not None


def refold(connection: sqlite3.Connection, limit: int) -> int:
    """Writes up to `limit` texts of an older release as `stored` would have; returns how many there were."""
    found = connection.execute(
        f"SELECT row, text FROM memories INDEXED BY memories_unfolded WHERE {UNFOLDED} LIMIT ?",  # noqa: S608
        (limit,),
    ).fetchall()
    for row, text in found:
        anew = stored(text)
        forget(connection, row, text)
        connection.execute("UPDATE memories SET text = ? WHERE row = ?", (anew, row))
        learn(connection, row, anew)
    return len(found)


def install(connection: sqlite3.Connection) -> None:
    """Makes the functions that searches call: on every connection."""
    connection.create_function("holds_phrase", 2, holds_phrase, deterministic=True)
    connection.create_function("raw_text", 2, raw_text, deterministic=True)
    connection.create_function("composed", 1, composed, deterministic=True)


def holds_phrase(text: str, sought: str) -> bool:
    """Whether the very words of a phrase stand in a `stored` text one after the other, in any case."""
    held = text[len(MARK) :] if text.startswith(MARK) else words.indexed(text).words
    return words.holds_phrase(held, sought)


def raw_text(text: str, payload: str) -> str:
    """The text that a `stored` text was made of."""
    return payload_text(json.loads(payload)) if text.startswith(MARK) else text


def composed(text: str) -> str:
    """Unicode's NFC: the same characters, however they were typed."""
    return unicodedata.normalize("NFC", text)


def phrase(text: str) -> str | None:
    """An FTS5 query for these words, one after the other; None where the text holds no word."""
    found = words.phrase(text)
    return f'"{found}"' if found else None


def any_word(text: str) -> str | None:
    """An FTS5 query for any of the words; None where the text holds none."""
    found = words.phrases(text)
    return " OR ".join(f'"{one}"' for one in found) if found else None


def search_text(
    connection: sqlite3.Connection,
    scope: Scope,
    match: str,
    *,
    limit: int,
    now: float,
    memory_type: str | None = None,
    contains: str | None = None,
    exactly: str | None = None,
    filters: Mapping[str, Any] | None = None,
) -> list[KeywordHit]:
    """The best matches of an FTS5 query in a scope, by BM25 and then id.

    `contains` asks for these very characters (case counts), `exactly` for these very words in a row, where the index
    alone would take others of the same stem; `filters` are equalities on the payload, held before the
    limit. Expired memories are not found. Cost: the number of matches of the rarest word, over all scopes.
    """
    where = ["memories_text MATCH ?", "m.tenant = ?", "m.namespace = ?", "m.collection = 0", "m.deleted = 0"]
    values: list[object] = [match, scope.tenant, scope.namespace]
    where.append("(m.expires_at IS NULL OR m.expires_at > ? OR m.pinned OR m.hold)")
    values.append(now)
    if memory_type is not None:
        where.append("m.memory_type = ?")
        values.append(memory_type)
    if contains is not None:
        where.append("instr(composed(raw_text(m.text, m.payload)), ?) > 0")
        values.append(composed(contains))
    if exactly is not None:
        where.append("holds_phrase(m.text, ?)")
        values.append(words.indexed(exactly).words)
    if filters:
        tests, bound = conditions(filters)
        where.extend(tests)
        values.extend(bound)
    sql = (  # every condition is a literal above
        "SELECT m.id, bm25(memories_text) AS rank FROM memories_text JOIN memories m ON m.row = memories_text.rowid"  # noqa: S608
        f" WHERE {' AND '.join(where)} ORDER BY rank, m.id LIMIT ?"
    )
    return [KeywordHit(*found) for found in connection.execute(sql, (*values, limit))]
