"""Clients that store, replace, delete and read until the server is gone, and write down what they were told."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import httpx

from hack.torture_harness.history import ABSENT, Call, History, Kind, Outcome

HOT_KEYS: Final = 4
"""Coordinates that all clients write at once; the others belong to one client each."""
BULK: Final = 5
_NOTHING_DONE: Final = ("nothing was stored", "still starting", "the runtime is", "the ledger is closed", "are waiting")


def vector_of(key: str, dim: int) -> list[float]:
    """The coordinate's own direction: a recall by it finds this coordinate first, whatever it holds."""
    drawn = b"".join(sha256(f"{key}/{n}".encode()).digest() for n in range((dim + 7) // 8))
    return [number / 2**31 - 1.0 for number in struct.unpack_from(f">{dim}I", drawn)]


@dataclass(slots=True)
class Load:
    """What the clients of one run share: the history, the first coordinates of earlier runs, and who said what."""

    history: History
    seed: int
    run: int
    old_keys: Sequence[str] = ()
    first_answer: asyncio.Event = field(default_factory=asyncio.Event)
    refusals: list[str] = field(default_factory=list)
    requests: dict[int, tuple[str, str, dict[str, Any] | None]] = field(default_factory=dict)
    """Of each store in doubt, by number: how to send it again."""


class Client:
    """One caller with its own session: what it has seen, it asks to see again (`min_seq`)."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._number = number
        self._dice = random.Random(f"{load.seed}/{load.run}/{number}")
        self._mine: list[str] = []
        self._made = 0
        self._seen = 0

    async def work(self, http: httpx.AsyncClient) -> None:
        """Works until the first request that is not answered."""
        while await self._step(http):
            pass

    async def _step(self, http: httpx.AsyncClient) -> bool:
        choice = self._dice.random()
        if choice < 0.20 and (self._mine or self._load.old_keys):
            return await self._read(http, self._known_key())
        if choice < 0.32 and (self._mine or self._load.old_keys):
            return await self._delete(http, self._known_key())
        if choice < 0.50 and (self._mine or self._load.old_keys):
            return await self._store(http, self._known_key())
        if choice < 0.54:
            return await self._bulk(http)
        return await self._store(http, self._new_key())

    def _known_key(self) -> str:
        choice = self._dice.random()
        if choice < 0.4:
            return f"0.0,{float(self._load.run)},{float(self._dice.randrange(HOT_KEYS))}"
        if self._load.old_keys and (choice < 0.6 or not self._mine):
            return self._dice.choice(self._load.old_keys)
        return self._dice.choice(self._mine) if self._mine else self._new_key()

    def _new_key(self) -> str:
        self._made += 1
        key = f"{float(self._number + 1)},{float(self._load.run)},{float(self._made)}"
        self._mine.append(key)
        return key

    def _text(self) -> str:
        self._made += 1
        mark = f"s{self._load.seed}r{self._load.run}c{self._number}n{self._made}"
        return f"{mark}alpha {mark}beta"

    async def _store(self, http: httpx.AsyncClient, key: str) -> bool:
        call = self._load.history.begin(self._number, Kind.STORE, key, self._text())
        call.idempotency_key = f"{self._load.seed}-{self._load.run}-{call.number}"
        self._load.requests[call.number] = ("/memories", call.idempotency_key, _body(call, self._load.history.dim))
        return await self._send(http, [call])

    async def _bulk(self, http: httpx.AsyncClient) -> bool:
        self._made += 1
        group = f"{self._load.run}/{self._number}/{self._made}"
        keys = [
            f"{float(-self._number - 1)},{float(self._load.run)},{float(self._made * BULK + n)}" for n in range(BULK)
        ]
        calls = [self._load.history.begin(self._number, Kind.STORE, key, self._text(), group=group) for key in keys]
        items = [_body(call, self._load.history.dim) for call in calls]
        for call in calls:
            call.idempotency_key = f"{self._load.seed}-{group}"
        self._load.requests[calls[0].number] = ("/store_bulk", calls[0].idempotency_key, {"items": items})
        return await self._send(http, calls)

    async def _delete(self, http: httpx.AsyncClient, key: str) -> bool:
        return await self._send(http, [self._load.history.begin(self._number, Kind.DELETE, key)])

    async def _read(self, http: httpx.AsyncClient, key: str) -> bool:
        kind = self._dice.choice((Kind.GET, Kind.RECALL))
        call = self._load.history.begin(self._number, kind, key)
        answer = await ask(http, call, self._seen, self._load.history.dim)
        self._seen = max(self._seen, call.seq)
        return await self._go_on(answer)

    async def _send(self, http: httpx.AsyncClient, calls: Sequence[Call]) -> bool:
        answer = await send(http, calls, self._load.requests.get(calls[0].number))
        if calls[0].outcome is Outcome.OK:
            self._load.first_answer.set()
        self._seen = max(self._seen, *(call.seq for call in calls))
        return await self._go_on(answer)

    async def _go_on(self, answer: httpx.Response | None) -> bool:
        if answer is None or answer.status_code in (200, 404):
            return answer is not None
        self._load.refusals.append(f"{answer.status_code} {answer.text[:160]}")
        await asyncio.sleep(0.02)
        return answer.status_code == 503


def _body(call: Call, dim: int) -> dict[str, Any]:
    return {"coord": call.key, "payload": {"text": call.text}, "vector": vector_of(call.key, dim)}


async def send(
    http: httpx.AsyncClient, calls: Sequence[Call], request: tuple[str, str, dict[str, Any] | None] | None
) -> httpx.Response | None:
    """Sends a delete, or a store as `request` says (path, idempotency key, body), and notes the answer in `calls`."""
    try:
        if request is None:
            answer = await http.delete(f"/memories/{calls[0].key}")
        else:
            path, key, body = request
            answer = await http.post(path, json=body, headers={"Idempotency-Key": key})
    except httpx.HTTPError:
        return None
    if answer.status_code != 200:
        for call in calls:
            call.close(outcome_of(answer))
        return answer
    seq, version = int(answer.headers.get("X-Soma-Seq", 0)), int(answer.headers.get("X-Soma-Version", 0))
    if request is None:
        calls[0].found = bool(answer.json()["deleted"])
    for call in calls:
        own = seq if call is calls[-1] and call.found is not False else 0
        call.close(Outcome.OK, seq=own, version=version)
    return answer


def outcome_of(answer: httpx.Response) -> Outcome:
    """Whether the refusal promises that nothing was done."""
    refused = 400 <= answer.status_code < 500 or any(words in answer.text for words in _NOTHING_DONE)
    return Outcome.REFUSED if refused else Outcome.UNKNOWN


async def ask(http: httpx.AsyncClient, call: Call, min_seq: int, dim: int) -> httpx.Response | None:
    """Reads the coordinate by the call's way, and notes what was seen. A 404 and an empty answer are `ABSENT`."""
    try:
        if call.kind is Kind.GET:
            answer = await http.get(f"/memories/{call.key}")
        else:
            wanted = {"vector": vector_of(call.key, dim), "top_k": 3, "min_seq": min_seq}
            answer = await http.post("/memories/search", json=wanted)
    except httpx.HTTPError:
        return None
    if answer.status_code not in (200, 404):
        call.close(outcome_of(answer))
        return answer
    call.text, seq, version = _seen(answer, call)
    call.close(Outcome.OK, seq=seq, version=version)
    return answer


def _seen(answer: httpx.Response, call: Call) -> tuple[str, int, int]:
    if answer.status_code == 404:
        return ABSENT, 0, 0
    body = answer.json()
    found = [body["memory"]] if call.kind is Kind.GET else body["memories"]
    for one in found:
        if at(one["coordinate"]) == call.key:
            return str(one["payload"]["text"]), int(one["seq"]), int(one["version"])
    return ABSENT, 0, 0


def at(coordinate: Sequence[float]) -> str:
    """The coordinate as keys are written."""
    return ",".join(map(repr, map(float, coordinate)))
