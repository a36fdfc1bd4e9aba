"""What the server shows after the harm, by every way of asking, and what its file holds: both go into the history."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import Any, Final

import httpx

from hack.torture_harness.blame import Verdict
from hack.torture_harness.clients import Load, ask, at, send, vector_of
from hack.torture_harness.history import ABSENT, Call, History, Kind, Outcome
from hack.torture_harness.witness import Witness

AT_ONCE: Final = 8
PATIENT_TURNS: Final = 5
"""Of two seconds each, for a replica that has to follow another."""
JUDGE: Final = -1
"""The number of the client that reads after the harm."""


async def retry_in_doubt(http: httpx.AsyncClient, load: Load, numbers: Collection[int], verdict: Verdict) -> None:
    """Sends stores in doubt again under their key, twice: the first answer ends the call, the second must repeat it."""
    calls = {call.number: call for call in load.history.calls}
    for number in sorted(numbers):
        first = calls[number]
        group = [call for call in calls.values() if call.group and call.group == first.group] or [first]
        answers = [await send(http, group, load.requests[number]) for _ in range(2)]
        if None in answers:
            raise httpx.TransportError("the server did not answer a store that was sent again")
        if any(answer is None or answer.status_code != 200 for answer in answers):
            verdict.lose(f"{first.key}: a store in doubt could not be sent again: {[a and a.text for a in answers]}")
            continue
        receipts = [(a.headers.get("X-Soma-Seq"), a.headers.get("X-Soma-Version")) for a in answers if a is not None]
        replayed = answers[1] is not None and answers[1].headers.get("Idempotency-Replayed") == "true"
        if receipts[0] != receipts[1] or not replayed:
            verdict.double(f"{first.key}: sent twice under one key, (seq, version) {receipts[0]}, then {receipts[1]}")


async def judge_server(http: httpx.AsyncClient, history: History, keys: Iterable[str], verdict: Verdict) -> None:
    """Reads every one of the keys by coordinate, by vector and by words; the first two go into the history."""
    gate = asyncio.Semaphore(AT_ONCE)
    texts: dict[str, list[str]] = {}
    for call in history.calls:
        if call.kind is Kind.STORE:
            texts.setdefault(call.key, []).append(call.text)

    newest = await _newest(http, history, verdict)

    async def one(key: str) -> None:
        async with gate:
            seen = await _read(http, history, key, Kind.GET, newest)
            recalled = await _read(http, history, key, Kind.RECALL, newest)
            if seen != recalled:
                verdict.halve(f"{key}: {seen or 'nothing'!r} by coordinate, {recalled or 'nothing'!r} by vector")
            for text in {*texts.get(key, [])[-2:], seen} - {ABSENT}:
                await _judge_words(http, key, text, verdict, there=text == seen)

    await asyncio.gather(*(one(key) for key in keys))


async def _newest(http: httpx.AsyncClient, history: History, verdict: Verdict) -> int:
    """The highest seq that was acknowledged, which the index must reach; 0 where it does not."""
    seq = max((call.seq for call in history.calls), default=0)
    wanted = {"vector": vector_of("0.0", history.dim), "top_k": 1, "min_seq": seq}
    for _ in range(PATIENT_TURNS):
        answer = await http.post("/memories/search", json=wanted)
        if answer.status_code != 503 or "min_seq" not in answer.text:
            return seq
    verdict.lose(f"seq {seq} was acknowledged, and the index does not get there: {answer.text[:200]}")
    return 0


async def _read(http: httpx.AsyncClient, history: History, key: str, kind: Kind, newest: int) -> str:
    call = history.begin(JUDGE, kind, key)
    call.after = True
    answer = await ask(http, call, newest, history.dim)
    if call.outcome is not Outcome.OK:
        said = "nothing" if answer is None else f"{answer.status_code} {answer.text[:200]}"
        raise httpx.TransportError(f"the server failed to answer for {key}: {said}")
    return call.text


async def _judge_words(http: httpx.AsyncClient, key: str, text: str, verdict: Verdict, *, there: bool) -> None:
    answer = (await http.post("/keyword_search", json={"term": text, "exact": True})).raise_for_status()
    times = [at(one["coordinate"]) for one in answer.json()["results"]].count(key)
    if times > 1:
        verdict.double(f"{key}: {times} times by words")
    if (times > 0) != there:
        verdict.halve(f"{key}: {text!r} is {'there' if times else 'not there'} by words, by coordinate it is not so")


async def judge_totals(http: httpx.AsyncClient, expected: int, verdict: Verdict) -> None:
    """The counts of ledger and index against how many coordinates hold a memory."""
    stats: dict[str, Any] = (await http.get("/stats")).raise_for_status().json()
    if stats["total_memories"] > expected:
        verdict.double(f"{stats['total_memories']} memories, {expected} are expected")
    elif stats["total_memories"] < expected:
        verdict.lose(f"{stats['total_memories']} memories, {expected} are expected")
    if stats["vector_count"] != stats["total_memories"]:
        verdict.halve(f"{stats['total_memories']} memories, {stats['vector_count']} vectors")


def judge_ledger(witness: Witness, history: History, verdict: Verdict) -> dict[str, str]:
    """The content of every coordinate in the ledger, after looking for halves and for doubles of any kind.

    What the history says about coordinates that nobody has read since the harm is completed from there.
    """
    said = witness.look()
    for kind, count in said.halves.items():
        if count:
            verdict.halve(f"{kind}: {count}")
    for text, count in said.repeated:
        verdict.double(f"{text!r} was applied {count} times")
    stored: dict[str, str] = {}
    for coordinate, text in said.rows:
        if coordinate in stored:
            verdict.double(f"{coordinate}: more than one row")
        stored[coordinate] = text
    _complete(history, stored, verdict)
    return stored


def _complete(history: History, stored: dict[str, str], verdict: Verdict) -> None:
    read = {call.key for call in history.calls if call.after}
    touched = {call.key for call in history.calls}
    for key in touched - read:
        call = history.begin(JUDGE, Kind.GET, key, stored.get(key, ABSENT))
        call.after = True
        call.close(Outcome.OK)
    for key in {*history.initial, *stored} - touched:
        before, now = history.initial.get(key, ABSENT), stored.get(key, ABSENT)
        if before == ABSENT:
            verdict.halve(f"{key}: {now!r} is there, and was never stored")
        elif now != before:
            verdict.lose(f"{key}: {now or 'nothing'!r} is there, {before!r} was, and nobody touched it")


def in_doubt(history: History) -> list[Call]:
    """Writes whose answer never came."""
    return [call for call in history.calls if call.writes and call.outcome is Outcome.UNKNOWN]
