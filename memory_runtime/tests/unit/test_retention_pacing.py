"""A round ends after so many rows or so much time, work rests between rounds, and closing ends it at once."""

from __future__ import annotations

import asyncio
import time

import pytest

from memory_runtime.engine.pacing import Interrupted, Pace


async def test_a_round_is_bounded_by_rows() -> None:
    pace = Pace(100, 3600.0, asyncio.Event(), rest=1000.0)
    await pace.spent(99)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pace.spent(1), 0.01)
    assert pace.examined == 100


async def test_a_round_is_bounded_by_time_and_rests_in_proportion_to_it() -> None:
    pace = Pace(10**9, 0.1, asyncio.Event(), rest=4.0)
    await pace.spent(1)
    time.sleep(0.12)  # noqa: ASYNC251 -- the work of a round
    began = time.monotonic()
    await pace.spent(1)
    assert time.monotonic() - began >= 0.48
    began = time.monotonic()
    await pace.spent(1)
    assert time.monotonic() - began < 0.4


async def test_closing_ends_a_rest_at_once() -> None:
    stop = asyncio.Event()
    pace = Pace(1, 3600.0, stop, rest=10**9)
    resting = asyncio.create_task(pace.spent(1))
    await asyncio.sleep(0.01)
    stop.set()
    with pytest.raises(Interrupted):
        await asyncio.wait_for(resting, 5)


async def test_a_dry_run_never_rests() -> None:
    pace = Pace(0, 0.0, asyncio.Event(), rest=0.0)
    await asyncio.wait_for(pace.spent(10**6), 1)
