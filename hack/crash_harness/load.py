"""Writers that store, replace and delete until the server is gone, and remember what it acknowledged."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import httpx

DELETED = ""
"""The content of a coordinate whose delete was acknowledged."""


@dataclass(slots=True)
class History:
    """What each coordinate must hold: the acknowledged content, and what was asked for and not answered."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    in_doubt: dict[str, set[str]] = field(default_factory=dict)
    acks: int = 0
    refused: list[str] = field(default_factory=list)
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    def allowed(self, coordinate: str) -> set[str]:
        """The contents that the coordinate may have after the crash; `DELETED` stands for none."""
        return {self.acknowledged.get(coordinate, DELETED)} | self.in_doubt.get(coordinate, set())

    def settle(self, coordinate: str, content: str) -> None:
        """After a verdict, what is there is what must stay there."""
        self.acknowledged[coordinate] = content
        self.in_doubt.pop(coordinate, None)


def content(seed: int, run: int, writer: int, number: int) -> str:
    """A text whose words no other memory has."""
    mark = f"s{seed}r{run}w{writer}n{number}"
    return f"{mark}alpha {mark}beta {mark}gamma {mark}delta"


class Writer:
    """One client with its own coordinates."""

    def __init__(self, history: History, seed: int, run: int, writer: int) -> None:
        self._history = history
        self._dice = random.Random(f"{seed}/{run}/{writer}")
        self._seed, self._run, self._writer = seed, run, writer
        self._mine: list[str] = []

    async def work(self, client: httpx.AsyncClient) -> None:
        """Writes until the first request that is not answered."""
        number = 0
        while True:
            number += 1
            coordinate, wanted = self._next(number)
            self._history.in_doubt.setdefault(coordinate, set()).add(wanted)
            try:
                answer = await self._send(client, coordinate, wanted)
            except httpx.HTTPError:
                return
            if answer.status_code != 200:
                # refused while going down: it stays in doubt, as a client must leave it
                self._history.refused.append(f"{answer.status_code} {answer.text[:120]}")
                return
            self._history.settle(coordinate, wanted)
            self._history.acks += 1
            self._history.progress.set()

    def _next(self, number: int) -> tuple[str, str]:
        text = content(self._seed, self._run, self._writer, number)
        choice = self._dice.random()
        if self._mine and choice < 0.15:
            return self._dice.choice(self._mine), text
        if self._mine and choice < 0.25:
            return self._dice.choice(self._mine), DELETED
        coordinate = f"{float(self._run)},{float(self._writer)},{float(number)}"
        self._mine.append(coordinate)
        return coordinate, text

    @staticmethod
    async def _send(client: httpx.AsyncClient, coordinate: str, wanted: str) -> httpx.Response:
        if wanted == DELETED:
            return await client.delete(f"/memories/{coordinate}")
        return await client.post("/memories", json={"coord": coordinate, "payload": {"text": wanted}})


async def write_until_gone(client: httpx.AsyncClient, history: History, seed: int, run: int, writers: int) -> None:
    """All writers of one run; returns when the server no longer answers any of them."""
    await asyncio.gather(*(Writer(history, seed, run, number).work(client) for number in range(writers)))
