"""What hybrid recall reads beside vectors: each word's matches, and the memories before, after and linked to one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np

from memory_runtime.model.records import Vector
from memory_runtime.stores.rows import FUSED, fused
from memory_runtime.stores.sqlite import fts
from memory_runtime.stores.sqlite.filters import conditions
from memory_runtime.stores.values import Row, Visible

_MAX_VARIABLES = 400


def _seen(visible: Visible, *, along_scope: bool = False) -> tuple[str, list[Any]]:
    """The condition on `memories m` and its values.

    The pluses keep SQLite from walking the whole scope where ids, rows or words say what is wanted; `along_scope`
    leaves them out, for a query that goes along an index of the scope.
    """
    plus = "" if along_scope else "+"
    where = [f"{plus}m.tenant = ?", f"{plus}m.namespace = ?", "m.collection = 0", "m.deleted = 0"]
    where.append("(m.expires_at IS NULL OR m.expires_at > ? OR m.pinned OR m.hold)")
    values: list[Any] = [visible.scope.tenant, visible.scope.namespace, visible.at]
    if visible.hide_later:
        where.append("m.event_time <= ?")
        values.append(visible.at)
    if visible.memory_type is not None:
        where.append("m.memory_type = ?")
        values.append(visible.memory_type)
    if visible.filters:
        tests, bound = conditions(visible.filters)
        where.extend(tests)
        values.extend(bound)
    return " AND ".join(where), values


_ROW = ", ".join(f"m.{name}" for name in FUSED)


def frequency(connection: sqlite3.Connection, word: str, *, limit: int) -> int:
    """How many memories of the whole ledger hold the word, in any form; `limit` + 1 where more than that do."""
    match = fts.phrase(word)
    if match is None:
        return 0
    sql = "SELECT count(*) FROM (SELECT rowid FROM memories_text WHERE memories_text MATCH ? LIMIT ?)"
    return int(connection.execute(sql, (match, limit + 1)).fetchone()[0])


def best_by_words(
    connection: sqlite3.Connection, visible: Visible, words: Sequence[str], *, limit: int
) -> dict[bytes, float]:
    """BM25, higher is better, of the best matches of any of the words, by id.

    BM25's statistics are those of the whole ledger. Cost: about a microsecond a match.
    """
    match = " OR ".join(filter(None, map(fts.phrase, words)))
    if not match:
        return {}
    where, values = _seen(visible)
    sql = (
        "SELECT m.id, bm25(memories_text) AS rank FROM memories_text JOIN memories m ON m.row = memories_text.rowid"  # noqa: S608
        f" WHERE memories_text MATCH ? AND {where} ORDER BY rank, m.id LIMIT ?"
    )
    return {identity: -rank for identity, rank in connection.execute(sql, (match, *values, limit))}


def word_scores(connection: sqlite3.Connection, word: str, numbers: Sequence[int]) -> dict[int, float]:
    """BM25 of one word in these rows; a row without the word is absent.

    The plus keeps SQLite from looking each row up by itself: one pass over the word's matches is a tenth of that, and
    only rows that are asked for are scored.
    """
    match = fts.phrase(word)
    if match is None or not numbers:
        return {}
    marks = ",".join("?" * len(numbers))
    sql = f"SELECT rowid, bm25(memories_text) FROM memories_text WHERE memories_text MATCH ? AND +rowid IN ({marks})"  # noqa: S608
    return {row: -rank for row, rank in connection.execute(sql, (match, *numbers))}


def rows(connection: sqlite3.Connection, visible: Visible, ids: Sequence[bytes]) -> list[Row]:
    """Those of the ids that are visible, in no order."""
    where, values = _seen(visible)
    found: list[Row] = []
    for start in range(0, len(ids), _MAX_VARIABLES):
        part = ids[start : start + _MAX_VARIABLES]
        sql = f"SELECT {_ROW} FROM memories m WHERE m.id IN ({','.join('?' * len(part))}) AND {where}"  # noqa: S608
        found.extend(map(fused, connection.execute(sql, (*part, *values))))
    return found


def around(
    connection: sqlite3.Connection, visible: Visible, row: Row, *, reach: int, gap: float
) -> tuple[list[Row], list[Row]]:
    """Up to `reach` memories of the same type before and after, nearest first, no more than `gap` seconds from one to
    the next: what was said in the same sitting. Memories of one time stand in the order in which they were stored.
    """
    where, values = _seen(visible, along_scope=True)
    sides = []
    for sign, order in (("<", "DESC"), (">", "ASC")):
        sql = (
            f"SELECT {_ROW} FROM memories m INDEXED BY memories_time"  # noqa: S608
            f" WHERE {where} AND m.memory_type = ? AND (m.event_time, m.row) {sign} (?, ?)"
            f" AND m.event_time BETWEEN ? AND ? ORDER BY m.event_time {order}, m.row {order} LIMIT ?"
        )
        low, high = row.event_time - reach * gap, row.event_time + reach * gap
        bound = (*values, row.memory_type, row.event_time, row.row, low, high, reach)
        side: list[Row] = []
        last = row.event_time
        for found in map(fused, connection.execute(sql, bound)):
            if abs(found.event_time - last) > gap:
                break
            side.append(found)
            last = found.event_time
        sides.append(side)
    return sides[0], sides[1]


def linked(
    connection: sqlite3.Connection, visible: Visible, seeds: Sequence[Row], *, limit: int
) -> list[tuple[bytes, Row, float]]:
    """Memories that the seeds' coordinates are linked with, either way: (seed's id, the other, the edge's weight)."""
    by_coordinate: dict[str, list[bytes]] = {}
    for seed in seeds:
        by_coordinate.setdefault(seed.coordinate, []).append(seed.id)
    if not by_coordinate:
        return []
    where, values = _seen(visible, along_scope=True)
    there = (
        f"SELECT {_ROW} FROM memories m INDEXED BY memories_scope"  # noqa: S608
        f" WHERE m.coordinate_first = ? AND m.coordinate = ? AND {where}"
    )
    names = list(by_coordinate)[:_MAX_VARIABLES]
    marks = ",".join("?" * len(names))
    scope = visible.scope
    found: list[tuple[bytes, Row, float]] = []
    for near, far in (("source", "target"), ("target", "source")):
        sql = (
            f"SELECT {near}, {far}, weight FROM edges WHERE tenant = ? AND namespace = ? AND {near} IN ({marks})"  # noqa: S608
            f" ORDER BY weight DESC, {far} LIMIT ?"
        )
        for name, other, weight in connection.execute(sql, (scope.tenant, scope.namespace, *names, limit)).fetchall():
            place = (float(other.partition(",")[0]), other)
            for row in map(fused, connection.execute(there, (*place, *values))):
                found.extend((seed, row, weight) for seed in by_coordinate[name] if seed != row.id)
    return found


def vectors(connection: sqlite3.Connection, numbers: Sequence[int]) -> dict[int, Vector]:
    """The vectors of these rows, by row; a row without one is absent."""
    found: dict[int, Vector] = {}
    for start in range(0, len(numbers), _MAX_VARIABLES):
        part = numbers[start : start + _MAX_VARIABLES]
        sql = f"SELECT row, vector FROM vectors WHERE row IN ({','.join('?' * len(part))})"  # noqa: S608
        found.update((row, np.frombuffer(blob, np.float32)) for row, blob in connection.execute(sql, part))
    return found
