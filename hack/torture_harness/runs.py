"""Runs: start, check what the run before left, load, harm. And the sum of many."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from hack.torture_harness import faults
from hack.torture_harness.blame import Verdict, judge_history
from hack.torture_harness.clients import HOT_KEYS, Client, Load
from hack.torture_harness.faults import HOST, Harm
from hack.torture_harness.fleet import Fleet
from hack.torture_harness.history import ABSENT, DIM, History, Kind, Outcome
from hack.torture_harness.target import HostTarget, Target, TargetError
from hack.torture_harness.verdict import (
    in_doubt,
    judge_ledger,
    judge_server,
    judge_totals,
    retry_in_doubt,
)

RUNS_OF_A_DIRECTORY: Final = 40
"""A file that grows for ever would make every later start slower, and prove nothing more."""
NO_HARM: Final = Harm("none", 0.0)
SAMPLE: Final = 12
"""Coordinates that are read through the server after a harm, beside all those in doubt; the file shows the others."""


@dataclass(slots=True)
class Plan:
    """How to torture: `longest` is seconds between the first answer and the harm; `faults` are names of `HARMS`."""

    runs: int
    seed: int
    clients: int = 8
    longest: float = 0.4
    faults: Sequence[str] = HOST
    until: float = float("inf")
    """When to begin no further run, in time.monotonic()."""
    dim: int = DIM
    """Of the vectors that are stored."""
    namespace: str = field(default_factory=lambda: f"torture-{secrets.token_hex(4)}")


@dataclass(slots=True)
class Findings:
    """What the runs showed."""

    runs: int = 0
    acknowledged: int = 0
    in_doubt: int = 0
    sprung: int = 0
    harms: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    longest_restart: float = 0.0
    broken: list[History] = field(default_factory=list)
    """The histories that could not be explained."""


class Torture:
    """One series of runs on one target."""

    def __init__(self, target: Target, token: str, plan: Plan, tell: Callable[[str], None]) -> None:
        self.outcome = Findings()
        self._target = target
        self._plan = plan
        self._tell = tell
        self._dice = random.Random(plan.seed)
        self._headers = {"Authorization": f"Bearer {token}", "X-Soma-Namespace": plan.namespace}
        self._known: dict[str, str] = {}
        self._floor = 0
        self._last: Load | None = None

    async def run(self) -> Findings:
        """All runs. The target is up again afterwards. Raises TargetError where it does not come back."""
        for run in range(self._plan.runs):
            if time.monotonic() >= self._plan.until:
                break
            # A fleet is checked through a replica that has no traps
            first = 2 if isinstance(self._target, Fleet) else faults.SETTLING_COMMITS
            harm = faults.draw(self._dice, self._plan.faults, self._plan.longest, first)
            if harm.name in faults.AT_ANY_TIME:
                await asyncio.to_thread(self._start, NO_HARM)
                await self._settle()
                await asyncio.to_thread(self._target.kill)
            await asyncio.to_thread(self._start, harm)
            await self._settle_under(harm)
            if run and run % RUNS_OF_A_DIRECTORY == 0:
                await asyncio.to_thread(self._move, run, harm)
            await self._load(run, harm)
        await asyncio.to_thread(self._start, NO_HARM)
        await self._settle()
        await asyncio.to_thread(self._judge_whole_file)
        return self.outcome

    def _start(self, harm: Harm) -> None:
        started = time.monotonic()
        target = self._target
        if harm.name == "start" and isinstance(target, HostTarget):
            faults.kill_while_starting(target, self._dice)
            started = time.monotonic()
        try:
            target.start(harm.failpoints)
        except TargetError:
            # a trap may spring before the server is ready: that is a kill while starting
            if not self._trapped(harm):
                raise
            self.outcome.sprung += 1
            target.kill()
            started = time.monotonic()
            target.start()
        self.outcome.longest_restart = max(self.outcome.longest_restart, time.monotonic() - started)

    def _move(self, run: int, harm: Harm) -> None:
        """On to an empty directory; the old one is checked as a whole first."""
        target = self._target
        if not isinstance(target, HostTarget):
            return
        target.stop()
        self._judge_whole_file()
        shutil.rmtree(target.data)
        target.settle(target.data.with_name(f"data-{run}"))
        self._known, self._floor = {}, 0
        self._start(harm)

    def _judge_whole_file(self) -> None:
        if self._target.witness is not None:
            self._target.witness.judge_whole(self.outcome.verdict)

    def _client(self, url: str, seconds: float = 20.0) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=self._plan.clients)
        return httpx.AsyncClient(base_url=url, headers=self._headers, timeout=seconds, limits=limits, trust_env=False)

    async def _load(self, run: int, harm: Harm) -> None:
        plan = self._plan
        history = History(dict(self._known), dim=plan.dim)
        live = [key for key, text in self._known.items() if text != ABSENT]
        old = random.Random(f"{plan.seed}/{run}").sample(live, min(20, len(live)))
        load = Load(history, plan.seed, run, old)
        async with contextlib.AsyncExitStack() as stack:
            doors = [await stack.enter_async_context(self._client(url)) for url in self._target.urls]
            clients = [Client(load, number).work(doors[number % len(doors)]) for number in range(plan.clients)]
            working = asyncio.gather(*clients)
            if not await _first_answer(working, load) and not self._trapped(harm):
                raise TargetError(f"the server answered no client: {load.refusals[-1:] or 'connections failed'}")
            self.outcome.sprung += await faults.inflict(harm, self._target)
            await working
        self._last = load
        outcome = self.outcome
        outcome.runs += 1
        outcome.acknowledged += history.acknowledged
        outcome.in_doubt += len(in_doubt(history))
        outcome.harms[harm.label] += 1
        found = outcome.verdict
        self._tell(
            f"run {run + 1}/{plan.runs} {harm.label}: {history.acknowledged} acknowledged, {len(in_doubt(history))} in "
            f"doubt; in all lost {found.lost}, resurrected {found.resurrected}, half visible {found.half_visible}, "
            f"duplicates {found.duplicates}, stale {found.stale}"
        )

    async def _settle_under(self, harm: Harm) -> None:
        """`_settle`; a trap that springs meanwhile is a kill as good as any, and the check begins again after it."""
        try:
            await self._settle()
        except TargetError:
            if not self._trapped(harm):
                raise
            self.outcome.sprung += 1
            await asyncio.to_thread(self._target.kill)
            await asyncio.to_thread(self._start, NO_HARM)
            await self._settle()

    def _trapped(self, harm: Harm) -> bool:
        """Whether the server is gone by a trap of its own, before it answered anybody."""
        return bool(harm.failpoints) and not self._target.alive()

    async def _settle(self) -> None:
        """Judges the run before, now that its server is back, and takes over what is there."""
        load = self._last
        if load is None:
            return
        history, verdict = load.history, self.outcome.verdict
        before = len(verdict.complaints)
        dice = random.Random(f"{load.seed}/{load.run}/settle")
        doubtful = in_doubt(history)
        again = [call.number for call in doubtful if call.number in load.requests and dice.random() < 0.5]
        # The last of several has no failpoints
        async with self._client(self._target.urls[-1], 60.0) as http:
            try:
                await retry_in_doubt(http, load, again, verdict)
                await judge_server(http, history, self._sample(history, dice), verdict)
                if self._target.witness is not None:
                    now = await asyncio.to_thread(judge_ledger, self._target.witness, history, verdict)
                else:
                    now = self._known | {
                        call.key: call.text for call in history.calls if call.after and call.kind is Kind.GET
                    }
                await judge_totals(http, sum(text != ABSENT for text in now.values()), verdict)
            except httpx.HTTPError as error:
                raise TargetError(f"the restarted server failed to answer: {error!r}") from error
        judge_history(history, verdict, self._floor, self._target.ways)
        if len(verdict.complaints) > before:
            self.outcome.broken.append(history)
        self._last, self._known = None, now
        acknowledged = (call.seq for call in history.calls if call.writes and call.outcome is Outcome.OK)
        self._floor = max(self._floor, *acknowledged, 0)

    def _sample(self, history: History, dice: random.Random) -> list[str]:
        """Everything where the file cannot be seen; else what was in doubt or contended, and some of the others."""
        touched = sorted(history.by_key())
        if self._target.witness is None:
            return touched
        asked = {call.key for call in in_doubt(history)} | set(touched[: HOT_KEYS * 2])
        return sorted(asked | set(dice.sample(touched, min(SAMPLE, len(touched)))))


async def _first_answer(working: asyncio.Future[list[None]], load: Load) -> bool:
    """Waits until the run is under way: harm before the first answer tests nothing but the start. False without one."""
    waiting: asyncio.Future[bool] = asyncio.ensure_future(load.first_answer.wait())
    futures: set[asyncio.Future[Any]] = {waiting, working}
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return load.first_answer.is_set()
