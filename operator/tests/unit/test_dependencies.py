"""Back ends as they are looked at: what is told when, who shares a probe, and what Kafka's bytes mean."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from soma_operator.api import SomaMemory
from soma_operator.catalog.back_ends import BackEnd, Endpoint
from soma_operator.catalog.kinds import SOMA_MEMORY, Ref
from soma_operator.desired.dependencies import dependencies
from soma_operator.observe.dependencies import Answer, Health, Sight, after
from soma_operator.probes import kafka
from soma_operator.probes.prober import Prober

UP, DOWN = Answer(Sight.ANSWERS), Answer(Sight.SILENT)
HERE = Endpoint(BackEnd.POSTGRESQL, (("pg.team.svc", 5432),), tls=True)


def known(*answers: tuple[Answer, float]) -> Health:
    health = None
    for answer, now in answers:
        health = after(health, answer, now)
    assert health is not None
    return health


def test_one_or_two_failures_are_not_told() -> None:
    assert known((UP, 0), (DOWN, 10), (DOWN, 20)).answers
    assert not known((UP, 0), (DOWN, 10), (DOWN, 20), (DOWN, 30)).answers


def test_a_minute_of_failure_is_told_however_seldom_it_is_looked_at() -> None:
    assert known((UP, 0), (DOWN, 100)).answers
    assert not known((UP, 0), (DOWN, 100), (DOWN, 160)).answers


def test_good_news_counts_at_once_and_starts_the_count_anew() -> None:
    assert known((UP, 0), (DOWN, 1), (DOWN, 2), (DOWN, 3), (UP, 4)).answers
    assert known((UP, 0), (DOWN, 1), (DOWN, 2), (UP, 3), (DOWN, 4), (DOWN, 5)).answers


def test_the_first_answer_is_told_whatever_it_is() -> None:
    assert not known((DOWN, 0)).answers


def memory(**spec: Any) -> SomaMemory:
    body = {"metadata": {"name": "store", "namespace": "team", "uid": "u", "generation": 1}, "spec": spec}
    return SomaMemory.parse(body)


def test_a_bare_name_is_looked_for_in_the_namespace_of_its_memory() -> None:
    found = dependencies(
        memory(
            mode="distributed",
            endpoints={
                "postgresql": {"host": "pg", "credentialsSecretRef": {"name": "pg"}},
                "redis": {"host": "redis.data.svc", "tls": {"mode": "Disabled"}},
            },
        )
    )
    assert found[BackEnd.POSTGRESQL].addresses == (("pg.team.svc", 5432),)
    assert found[BackEnd.REDIS].addresses == (("redis.data.svc", 6379),)
    assert (found[BackEnd.POSTGRESQL].tls, found[BackEnd.REDIS].tls) == (True, False)
    assert dependencies(memory()) == {}


async def settled(asked: list[Endpoint], count: int) -> None:
    for _ in range(200):
        if len(asked) >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"asked {len(asked)} times, not {count}")


async def test_a_probe_is_shared_wakes_its_users_and_ends_with_the_last() -> None:
    asked: list[Endpoint] = []
    woken: list[str] = []
    answers = [UP, DOWN, DOWN, DOWN]

    async def question(endpoint: Endpoint, seconds: float) -> Answer:
        asked.append(endpoint)
        return answers[min(len(asked), len(answers)) - 1]

    loop = asyncio.get_running_loop()
    prober = Prober(0.08, lambda ref: woken.append(ref.name), loop.time, question)
    one, two = (Ref(SOMA_MEMORY, "team", name) for name in ("one", "two"))
    running = asyncio.create_task(prober.run())
    try:
        assert prober.want(one, [HERE]) == prober.want(two, [HERE]) == {}
        await settled(asked, 4)
        await asyncio.sleep(0.02)
        assert sorted(woken) == ["one", "one", "two", "two"], "once when it answered, once when it had failed enough"
        assert not prober.want(one, [HERE])[HERE].answers
        prober.forget(one)
        prober.forget(two)
        await asyncio.sleep(0.1)
        before = len(asked)
        await asyncio.sleep(0.1)
        assert len(asked) == before
    finally:
        running.cancel()


def _topic(name: str, error: int, partitions: int) -> bytes:
    partition = struct.pack(">hii", 0, 0, 1) + struct.pack(">ii", 1, 1) + struct.pack(">ii", 1, 1)
    head = struct.pack(">hh", error, len(name)) + name.encode() + b"\x00"
    return head + struct.pack(">i", partitions) + partition * partitions


def test_topics_are_read_from_the_bytes_of_a_broker() -> None:
    broker = struct.pack(">ih", 1, 1) + b"k" + struct.pack(">ih", 9092, -1)
    head = struct.pack(">iii", 3, 0, 1) + broker + struct.pack(">h", -1) + struct.pack(">ii", 1, 2)
    answer = head + _topic("there", 0, 3) + _topic("absent", 3, 0)
    assert kafka.topics_present(answer) == {"there"}


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n", bytes(40) + b"\x7f\xff\xff\xff"])
def test_what_is_not_kafka_is_an_error_of_its_own(answer: bytes) -> None:
    with pytest.raises(ValueError, match="not Kafka"):
        kafka.check_versions(answer)
    with pytest.raises(ValueError, match="not Kafka"):
        kafka.topics_present(answer[:20])
