"""One run: load, a random wait, the kill, the restart, the verdict. And the sum of many."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from hack.crash_harness.load import History, write_until_gone
from hack.crash_harness.target import Target, TargetError
from hack.crash_harness.verdict import Verdict, judge, judge_file, judge_totals


@dataclass(slots=True)
class Plan:
    """How to torture: `longest` and `shortest` are seconds between the first acknowledgement and the kill."""

    runs: int
    seed: int
    writers: int = 8
    shortest: float = 0.02
    longest: float = 0.8
    namespace: str = field(default_factory=lambda: f"crash-{secrets.token_hex(4)}")


@dataclass(slots=True)
class Outcome:
    """What the runs showed."""

    runs: int = 0
    acknowledged: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    longest_restart: float = 0.0


async def torture(target: Target, token: str, plan: Plan, tell: Callable[[str], None]) -> Outcome:
    """Runs the plan; the target is up before, and up again after. Raises TargetError where it does not come back."""
    outcome = Outcome()
    history = History()
    dice = random.Random(plan.seed)
    await asyncio.to_thread(target.start)
    for run in range(plan.runs):
        before = history.acks
        touched = await _run(target, token, plan, run, history, dice.uniform(plan.shortest, plan.longest), outcome)
        outcome.runs += 1
        outcome.acknowledged = history.acks
        verdict = outcome.verdict
        tell(
            f"run {run + 1}/{plan.runs}: {history.acks - before} acknowledged, {touched} checked; in all lost "
            f"{verdict.lost}, half visible {verdict.half_visible}, duplicates {verdict.duplicates}"
        )
    if target.ledger is not None:
        await asyncio.to_thread(judge_file, target.ledger, history, outcome.verdict)
    return outcome


async def _run(
    target: Target, token: str, plan: Plan, run: int, history: History, delay: float, outcome: Outcome
) -> int:
    headers = {"Authorization": f"Bearer {token}", "X-Soma-Namespace": plan.namespace}
    limits = httpx.Limits(max_connections=plan.writers)
    known = dict(history.acknowledged)
    async with httpx.AsyncClient(
        base_url=target.url, headers=headers, timeout=20.0, limits=limits, trust_env=False
    ) as client:
        load = asyncio.create_task(write_until_gone(client, history, plan.seed, run, plan.writers))
        await _first_acknowledgement(history, load)
        await asyncio.sleep(delay)
        await asyncio.to_thread(target.kill)
        await load
    started = time.monotonic()
    await asyncio.to_thread(target.start)
    outcome.longest_restart = max(outcome.longest_restart, time.monotonic() - started)
    touched = [key for key, text in history.acknowledged.items() if known.get(key) != text] + list(history.in_doubt)
    async with httpx.AsyncClient(base_url=target.url, headers=headers, timeout=60.0, trust_env=False) as client:
        try:
            await judge(client, history, sorted(set(touched)), outcome.verdict)
            await judge_totals(client, history, outcome.verdict)
        except httpx.HTTPError as error:
            raise TargetError(f"the restarted server failed to answer: {error!r}") from error
    return len(set(touched))


async def _first_acknowledgement(history: History, load: asyncio.Task[None]) -> None:
    """Waits until the run is under way: a kill before the first answer tests nothing but the start."""
    history.progress.clear()
    waiting = asyncio.create_task(history.progress.wait())
    await asyncio.wait({waiting, load}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not history.progress.is_set():
        raise TargetError(f"the server answered no writer: {history.refused[-1:] or 'connections failed'}")
