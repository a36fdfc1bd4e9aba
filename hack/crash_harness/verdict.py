"""What the server shows after a crash against what it had acknowledged: by key, words, vector, and in the file."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from hack.crash_harness.load import DELETED, History
from memory_runtime.stores.sqlite import following

_AT_ONCE = 8


@dataclass(slots=True)
class Verdict:
    """Counts of what must be zero, and a sentence for each."""

    lost: int = 0
    half_visible: int = 0
    duplicates: int = 0
    complaints: list[str] = field(default_factory=list)

    def lose(self, sentence: str) -> None:
        """An acknowledged effect is not there."""
        self.lost += 1
        self.complaints.append(sentence)

    def halve(self, sentence: str) -> None:
        """There by one way, and not by another."""
        self.half_visible += 1
        self.complaints.append(sentence)

    def double(self, sentence: str) -> None:
        """There more than once."""
        self.duplicates += 1
        self.complaints.append(sentence)


async def judge(client: httpx.AsyncClient, history: History, coordinates: list[str], verdict: Verdict) -> None:
    """Asks for every one of the coordinates in three ways, and settles what was in doubt by what is there."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(coordinate: str) -> None:
        async with gate:
            await _judge_one(client, history, coordinate, verdict)

    await asyncio.gather(*(one(coordinate) for coordinate in coordinates))


async def _judge_one(client: httpx.AsyncClient, history: History, coordinate: str, verdict: Verdict) -> None:
    allowed = history.allowed(coordinate)
    found = await _by_key(client, coordinate)
    if found not in allowed:
        verdict.lose(f"{coordinate}: holds {found or 'nothing'!r}, allowed is one of {sorted(allowed)}")
    for text in sorted((allowed | {found}) - {DELETED}):
        for way, hits in (("words", await _by_words(client, text)), ("vector", await _by_vector(client, text))):
            times = hits.count(coordinate)
            if times > 1:
                verdict.double(f"{coordinate}: {times} times by {way}")
            if (times > 0) != (text == found):
                verdict.halve(
                    f"{coordinate}: {text!r} is {'there' if times else 'not there'} by {way}, by key {found!r}"
                )
    history.settle(coordinate, found)


async def _by_key(client: httpx.AsyncClient, coordinate: str) -> str:
    answer = await client.get(f"/memories/{coordinate}")
    if answer.status_code == 404:
        return DELETED
    answer.raise_for_status()
    return str(answer.json()["memory"]["payload"]["text"])


def _at(coordinate: list[float]) -> str:
    return ",".join(map(repr, map(float, coordinate)))


async def _by_words(client: httpx.AsyncClient, text: str) -> list[str]:
    answer = await client.post("/keyword_search", json={"term": text, "exact": True})
    answer.raise_for_status()
    return [_at(one["coordinate"]) for one in answer.json()["results"]]


async def _by_vector(client: httpx.AsyncClient, text: str) -> list[str]:
    answer = await client.post("/memories/search", json={"query": text, "top_k": 5})
    answer.raise_for_status()
    # a neighbour by similarity is no proof: only the very text is
    return [_at(one["coordinate"]) for one in answer.json()["memories"] if one["payload"].get("text") == text]


async def judge_totals(client: httpx.AsyncClient, history: History, verdict: Verdict) -> None:
    """The counts of ledger and index, and that there is nothing that was never asked for."""
    expected = sum(text != DELETED for text in history.acknowledged.values())
    stats: dict[str, Any] = (await client.get("/stats")).raise_for_status().json()
    if stats["total_memories"] != expected:
        verdict.double(f"{stats['total_memories']} memories, {expected} were asked for")
    if stats["vector_count"] != stats["total_memories"]:
        verdict.halve(f"{stats['total_memories']} memories, {stats['vector_count']} vectors")


def judge_file(ledger: Path, history: History, verdict: Verdict) -> None:
    """Looks into the ledger file itself: integrity, halves, and every acknowledged content of all runs, once."""
    with closing(sqlite3.connect(ledger)) as connection:
        damage = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if damage != "ok":
            verdict.lose(f"the file is damaged: {damage}")
        for kind, count in following.half_visible(connection).items():
            if count:
                verdict.halve(f"{kind}: {count}")
        rows = connection.execute("SELECT coordinate, payload ->> '$.text' FROM memories WHERE deleted = 0").fetchall()
    stored: dict[str, list[str]] = {}
    for coordinate, text in rows:
        stored.setdefault(coordinate, []).append(text)
    for coordinate, texts in stored.items():
        if len(texts) > 1:
            verdict.double(f"{coordinate}: {len(texts)} rows")
    for coordinate, text in history.acknowledged.items():
        if stored.get(coordinate, [DELETED])[0] != text:
            verdict.lose(f"{coordinate}: the file holds {stored.get(coordinate)}, acknowledged was {text!r}")
