"""Events: a trickle, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import pytest

from soma_operator.catalog.kinds import SOMA_MEMORY, Ref
from soma_operator.cluster.client import ClusterClient
from soma_operator.events.recorder import NORMAL, Recorder

REF = Ref(SOMA_MEMORY, "team", "store")


class Sink:
    """Takes what a cluster would."""

    def __init__(self) -> None:
        self.created: list[Mapping[str, Any]] = []
        self.extended: list[Mapping[str, Any]] = []

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        self.created.append(event)

    async def apply_event(self, namespace: str, name: str, event: Mapping[str, Any]) -> None:
        self.extended.append(event)


@pytest.fixture
def now() -> list[float]:
    return [0.0]


async def sent(now: list[float], *happenings: tuple[float, str]) -> Sink:
    """What reaches the cluster of messages at times."""
    sink = Sink()
    recorder = Recorder(cast(ClusterClient, sink), "me", lambda: now[0])
    task = asyncio.create_task(recorder.run())
    for time, message in happenings:
        now[0] = time
        recorder.record(REF, "uid", NORMAL, "Said", message)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    task.cancel()
    return sink


async def test_an_event_regards_the_resource(now: list[float]) -> None:
    (event,) = (await sent(now, (0, "a"))).created
    assert (event["regarding"]["name"], event["regarding"]["uid"]) == ("store", "uid")
    assert (event["reason"], event["note"], event["type"]) == ("Said", "a", "Normal")


async def test_a_repeated_event_extends_its_series_once_a_minute(now: list[float]) -> None:
    sink = await sent(now, (0, "a"), (1, "a"), (2, "a"), (70, "a"))
    assert len(sink.created) == 1
    assert [event["series"]["count"] for event in sink.extended] == [4]


async def test_a_resource_that_keeps_changing_its_mind_is_cut_short(now: list[float]) -> None:
    sink = await sent(now, *[(0.0, str(number)) for number in range(100)])
    assert len(sink.created) == 25
    later = await sent(now, *[(0.0, str(number)) for number in range(30)], (600.0, "again"))
    assert later.created[-1]["note"] == "again"
