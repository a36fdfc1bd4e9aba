"""The words of memories: an FTS5 index over `memories.text` that lives and dies with the record, in the same commit.

The index holds stems (Porter), so that hybrid recall finds `adopted` by `adopt`; exact search asks `holds_phrase` too.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Mapping
from typing import Any

from memory_runtime.model.records import Scope
from memory_runtime.stores.contracts import KeywordHit
from memory_runtime.stores.sqlite.filters import conditions

_WORD = re.compile(r"[^\W_]+")
MAX_WORDS = 64


def learn(connection: sqlite3.Connection, row: int, text: str) -> None:
    """Indexes the text of a row that is not indexed; empty text has no words, and `forget` will pass it over too."""
    if text:
        connection.execute("INSERT INTO memories_text (rowid, text) VALUES (?, ?)", (row, text))


def forget(connection: sqlite3.Connection, row: int, text: str) -> None:
    """Takes a row out; `text` must be what `learn` was given, as the index keeps no copy."""
    if text:
        connection.execute(
            "INSERT INTO memories_text (memories_text, rowid, text) VALUES ('delete', ?, ?)", (row, text)
        )


def holds_phrase(text: str, sought: str) -> bool:
    """Whether the very words of `sought` stand in `text` one after the other; case and accents do not count."""
    return f" {_folded(sought)} " in f" {_folded(text)} "


def _folded(text: str) -> str:
    plain = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    return " ".join(_WORD.findall(plain.casefold()))


def phrase(text: str) -> str | None:
    """An FTS5 query for these words, one after the other; None where the text holds no word."""
    words = _WORD.findall(text)[:MAX_WORDS]
    return f'"{" ".join(words)}"' if words else None


def any_word(text: str) -> str | None:
    """An FTS5 query for any of the words; None where the text holds none."""
    words = list(dict.fromkeys(_WORD.findall(text)))[:MAX_WORDS]
    return " OR ".join(f'"{word}"' for word in words) if words else None


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
    where.append("(m.expires_at IS NULL OR m.expires_at > ?)")
    values.append(now)
    if memory_type is not None:
        where.append("m.memory_type = ?")
        values.append(memory_type)
    if contains is not None:
        where.append("instr(m.text, ?) > 0")
        values.append(contains)
    if exactly is not None:
        where.append("holds_phrase(m.text, ?)")
        values.append(exactly)
    if filters:
        tests, bound = conditions(filters)
        where.extend(tests)
        values.extend(bound)
    sql = (  # every condition is a literal above
        "SELECT m.id, bm25(memories_text) AS rank FROM memories_text JOIN memories m ON m.row = memories_text.rowid"  # noqa: S608
        f" WHERE {' AND '.join(where)} ORDER BY rank, m.id LIMIT ?"
    )
    return [KeywordHit(*found) for found in connection.execute(sql, (*values, limit))]
