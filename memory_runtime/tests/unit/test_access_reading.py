"""Places for bodies that are being read: bounded, in turn, and nobody keeps others out by sending nothing."""

from __future__ import annotations

import asyncio

import pytest

from memory_runtime.access import ReadingPlaces
from memory_runtime.model.errors import Unavailable


async def quick() -> str:
    return "read"


async def silent() -> str:
    await asyncio.Event().wait()
    return "never"


async def test_no_more_than_the_bound_are_read_at_once_and_all_get_their_turn() -> None:
    places, most = ReadingPlaces(lambda: 3, patience=60.0), 0

    async def body() -> int:
        nonlocal most
        most = max(most, places.taken)
        await asyncio.sleep(0)
        return most

    assert len(await asyncio.gather(*(places.read(body) for _ in range(50)))) == 50
    assert (most, places.taken) == (3, 0)


@pytest.mark.parametrize("newest_first", [False, True])
async def test_who_sends_nothing_loses_the_place_to_who_waits(newest_first: bool) -> None:
    places = ReadingPlaces(lambda: 2, patience=0.05, newest_first=newest_first)
    holders = [asyncio.create_task(places.read(silent)) for _ in range(2)]
    await asyncio.sleep(0.1)
    assert not any(task.done() for task in holders), "nobody waits, so that nobody has to leave"
    assert await asyncio.wait_for(places.read(quick), 5.0) == "read"
    await asyncio.sleep(0.1)
    lost = [task for task in holders if task.done()]
    assert len(lost) == 1, "one waited, and one has to leave"
    with pytest.raises(Unavailable):
        lost[0].result()
    for task in holders:
        task.cancel()
    await asyncio.gather(*holders, return_exceptions=True)
    assert places.taken == 0


async def test_newest_first_serves_an_honest_caller_behind_a_crowd_of_silent_ones() -> None:
    places = ReadingPlaces(lambda: 2, patience=0.05, newest_first=True)
    crowd = [asyncio.create_task(places.read(silent)) for _ in range(500)]
    await asyncio.sleep(0.01)
    assert await asyncio.wait_for(places.read(quick), 2.0) == "read"
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert places.taken == 0
    assert await places.read(quick) == "read"


async def test_a_crowd_that_all_sends_nothing_is_worked_through() -> None:
    """Every place changes hands at once here, again and again: none may be forgotten on the way."""
    places = ReadingPlaces(lambda: 4, patience=0.001)
    crowd = [asyncio.create_task(places.read(silent)) for _ in range(200)]
    assert await asyncio.wait_for(places.read(quick), 20.0) == "read"
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    assert places.taken == 0


async def test_one_who_gives_up_waiting_takes_no_place_along() -> None:
    places = ReadingPlaces(lambda: 1, patience=60.0)
    holder = asyncio.create_task(places.read(silent))
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(places.read(quick)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    holder.cancel()
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.gather(holder, *waiting, return_exceptions=True)
    assert places.taken == 0
    assert await places.read(quick) == "read"


async def test_a_deadline_of_the_callers_own_stays_one() -> None:
    places = ReadingPlaces(lambda: 1, patience=60.0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await places.read(silent)
    assert places.taken == 0
