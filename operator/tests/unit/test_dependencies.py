"""Back ends as they are looked at: what is told when, who shares a probe, and what Kafka's bytes mean."""

from __future__ import annotations

import asyncio
import struct
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from soma_operator.api import SomaMemory
from soma_operator.catalog.back_ends import BackEnd, Endpoint
from soma_operator.catalog.kinds import SOMA_MEMORY, Ref
from soma_operator.desired.dependencies import dependencies
from soma_operator.observe.dependencies import Answer, Health, Sight, after
from soma_operator.probes import kafka
from soma_operator.probes.names import Names
from soma_operator.probes.prober import PER_NAMESPACE, Prober
from soma_operator.probes.turns import Turns

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


async def settled(asked: Sequence[object], count: int) -> None:
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
    prober = Prober(0.08, lambda ref: woken.append(ref.name), loop.time, question, timeout=0.01)
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


def silent(namespace: str, number: int) -> Endpoint:
    return Endpoint(BackEnd.KAFKA, ((f"k{number}.{namespace}.svc", 9092),), tls=False)


def test_turns_are_shared_between_namespaces_not_between_endpoints() -> None:
    turns = Turns(at_once=6, per_namespace=4)
    for number in range(100):
        turns.wait(silent("greedy", number), ["greedy"])
    first = [turns.take() for _ in range(5)]
    assert [turn[1] for turn in first if turn] == ["greedy"] * 4, "a namespace never takes all turns"
    for name in ("b", "c"):
        for number in range(3):
            turns.wait(silent(name, number), [name])
    assert [turn[1] for turn in (turns.take(), turns.take(), turns.take()) if turn] == ["b", "c"]
    turns.done("greedy")
    turn = turns.take()
    assert turn is not None
    assert turn[1] == "b", "fewer under way than greedy, served before c"


def test_a_shared_endpoint_is_looked_at_once_on_the_account_of_whoever_is_first() -> None:
    turns = Turns(at_once=6, per_namespace=1)
    turns.wait(silent("greedy", 1), ["greedy"])
    assert turns.take() is not None
    turns.wait(HERE, ["greedy", "team"])
    assert turns.take() == (HERE, "team")
    turns.done("greedy")
    assert turns.take() is None


def test_turns_forget_namespaces_that_are_gone() -> None:
    turns = Turns(at_once=6, per_namespace=4)
    for number in range(10):
        turns.wait(silent(f"n{number}", 0), [f"n{number}"])
        assert turns.take() is not None
        turns.done(f"n{number}")
    assert not any((turns._queues, turns._served, turns._waiting, turns._under_way))


async def test_silent_back_ends_of_others_do_not_delay_the_first_look_of_a_namespace() -> None:
    """Counted, not timed: while nobody answers, every other namespace has its first look in the first round."""
    started: list[Endpoint] = []
    never = asyncio.Event()

    async def question(endpoint: Endpoint, seconds: float) -> Answer:
        started.append(endpoint)
        await never.wait()
        return DOWN

    prober = Prober(10, lambda ref: None, asyncio.get_running_loop().time, question, timeout=0.0)
    running = asyncio.create_task(prober.run())
    try:
        for number in range(100):
            memory = Ref(SOMA_MEMORY, "greedy", f"m{number}")
            prober.want(memory, [silent("greedy", 16 * number + n) for n in range(16)])
        await settled(started, 4)
        for name in ("team-a", "team-b", "team-c"):
            prober.want(Ref(SOMA_MEMORY, name, "store"), [silent(name, 0)])
        await settled(started, 7)
        assert {e.addresses[0][0].split(".")[1] for e in started[4:]} == {"team-a", "team-b", "team-c"}
    finally:
        running.cancel()


async def test_bad_news_is_told_at_one_time_whatever_the_matter_was() -> None:
    """How soon a failure shows would tell a closed port from a filtered one."""
    told: list[float] = []
    loop = asyncio.get_running_loop()

    async def question(endpoint: Endpoint, seconds: float) -> Answer:
        await asyncio.sleep(0.0 if endpoint == HERE else seconds)
        return DOWN

    prober = Prober(60, lambda ref: told.append(loop.time()), loop.time, question, timeout=0.3)
    begun = loop.time()
    prober.want(Ref(SOMA_MEMORY, "team", "store"), [HERE, silent("team", 1)])
    running = asyncio.create_task(prober.run())
    try:
        await settled(told, 2)
        assert min(told) - begun >= 0.3
    finally:
        running.cancel()


async def test_a_look_that_fails_in_an_unforeseen_way_ends_no_other() -> None:
    asked: list[Endpoint] = []

    async def question(endpoint: Endpoint, seconds: float) -> Answer:
        asked.append(endpoint)
        if endpoint != HERE:
            raise RuntimeError("never seen before")
        return UP

    prober = Prober(0.04, lambda ref: None, asyncio.get_running_loop().time, question, timeout=0.01)
    prober.want(Ref(SOMA_MEMORY, "team", "store"), [HERE, silent("team", 1)])
    running = asyncio.create_task(prober.run())
    try:
        await settled(asked, 8)
        assert prober.want(Ref(SOMA_MEMORY, "team", "other"), [HERE])[HERE].answers
    finally:
        running.cancel()


async def test_a_name_server_that_stalls_takes_only_the_turns_of_who_asked() -> None:
    stalled = threading.Event()
    looked_up: list[str] = []

    def lookup(host: str) -> tuple[str, ...]:
        looked_up.append(host)
        if ".greedy." in host:
            stalled.wait(10)
        raise OSError("no such name")

    told: list[str] = []
    prober = Prober(
        0.1, lambda ref: told.append(ref.name), asyncio.get_running_loop().time, names=Names(lookup), timeout=0.1
    )
    running = asyncio.create_task(prober.run())
    try:
        for number in range(20):
            prober.want(Ref(SOMA_MEMORY, "greedy", f"g{number}"), [silent("greedy", number)])
        await asyncio.sleep(0.3)
        prober.want(Ref(SOMA_MEMORY, "team", "store"), [silent("team", 0)])
        await settled(told, 1)
        assert told == ["store"]
        greedy = [host for host in looked_up if ".greedy." in host]
        assert len(greedy) == PER_NAMESPACE, "a stalled look-up keeps the turn of its namespace"
    finally:
        stalled.set()
        running.cancel()


def _topic(name: str, error: int, partitions: int) -> bytes:
    partition = struct.pack(">hii", 0, 0, 1) + struct.pack(">ii", 1, 1) + struct.pack(">ii", 1, 1)
    head = struct.pack(">hh", error, len(name)) + name.encode() + b"\x00"
    return head + struct.pack(">i", partitions) + partition * partitions


def test_topics_are_read_from_the_bytes_of_a_broker() -> None:
    broker = struct.pack(">ih", 1, 1) + b"k" + struct.pack(">ih", 9092, -1)
    head = struct.pack(">iii", 3, 0, 1) + broker + struct.pack(">h", -1) + struct.pack(">ii", 1, 2)
    answer = head + _topic("there", 0, 3) + _topic("absent", 3, 0)
    assert topics_present(answer) == {"there"}


def topics_present(answer: bytes, asked: tuple[str, ...] = ("there", "absent")) -> frozenset[str]:
    reader = kafka.TopicReader(answer, asked)
    for _ in reader.steps():
        pass
    return reader.present


def test_an_answer_of_any_shape_is_read_in_bounded_steps() -> None:
    head = struct.pack(">ii", 3, 0)
    broker = struct.pack(">ihih", 1, 0, 9092, -1)
    brokers = (kafka.LARGEST_METADATA - 64) // len(broker)
    rest = struct.pack(">h", -1) + struct.pack(">ii", 1, 1)
    many_brokers = head + struct.pack(">i", brokers) + broker * brokers + rest + _topic("there", 0, 1)
    partition = struct.pack(">hii", 0, 0, 1) + struct.pack(">ii", 0, -1)
    partitions = (kafka.LARGEST_METADATA - 64) // len(partition)
    topic = struct.pack(">hh", 0, 5) + b"there" + b"\x00" + struct.pack(">i", partitions) + partition * partitions
    many_partitions = head + struct.pack(">i", 0) + rest + topic
    for answer, entries in ((many_brokers, brokers), (many_partitions, partitions)):
        assert len(answer) <= kafka.LARGEST_METADATA
        reader = kafka.TopicReader(answer, ["there"])
        assert sum(1 for _ in reader.steps()) >= entries // kafka.STEP
        assert reader.present == {"there"}


@pytest.mark.parametrize(
    "answer",
    [
        struct.pack(">iii", 3, 0, 0x7FFFFFFF),
        struct.pack(">iiihiii", 3, 0, 0, -1, 1, 3, 0),
        struct.pack(">iiihiihh", 3, 0, 0, -1, 1, 1, 0, 0x7FFF),
        struct.pack(">iiihiihhbi", 3, 0, 0, -1, 1, 1, 0, 0, 0, 0x7FFFFFFF),
        struct.pack(">iiihiihhbihiiii", 3, 0, 0, -1, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0x7FFFFFFF, 0x7FFFFFFF),
    ],
    ids=["brokers", "more topics than asked for", "name", "partitions", "replicas"],
)
def test_counts_that_the_answer_cannot_hold_are_not_believed(answer: bytes) -> None:
    with pytest.raises(ValueError, match="not Kafka"):
        topics_present(answer)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n", bytes(40) + b"\x7f\xff\xff\xff"])
def test_what_is_not_kafka_is_an_error_of_its_own(answer: bytes) -> None:
    with pytest.raises(ValueError, match="not Kafka"):
        kafka.check_versions(answer)
    with pytest.raises(ValueError, match="not Kafka"):
        topics_present(answer[:20])
