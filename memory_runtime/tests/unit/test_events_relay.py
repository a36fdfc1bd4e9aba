"""The relay against a real ledger; the sink is a list, so that it can fail in the ways that a broker does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import Intake, build_intake
from memory_runtime.engine.validation import check_item
from memory_runtime.events import Lease, Relay, blame
from memory_runtime.model.errors import Conflict, Internal, InvalidArgument, Unavailable
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.contracts import Change, Put, Unit
from memory_runtime.stores.resilience import in_halves, is_of_an_item
from memory_runtime.telemetry.metrics import Metrics

SCOPE = Scope("acme", "notes")


class ListSink:
    """Keeps what it is given; `trouble` is raised as long as it is set."""

    name = "list"

    def __init__(self) -> None:
        self.poison: set[int] = set()
        self.taken: list[Change] = []
        self.calls: list[int] = []
        self.trouble: Exception | None = None
        self.most = 10_000
        self.rebuilt = 0

    async def deliver(self, changes: Sequence[Change]) -> int:
        self.calls.append(len(changes))
        if self.trouble is not None:
            raise self.trouble
        if any(change.seq in self.poison for change in changes):
            raise OverflowError("date value out of range")
        taken = changes[: self.most]
        self.taken += taken
        return taken[-1].seq

    async def rebuild(self) -> int:
        self.rebuilt += 1
        return 5

    async def close(self) -> None:
        pass

    @property
    def seqs(self) -> list[int]:
        return [change.seq for change in self.taken]


OpenIntake = Callable[[], Awaitable[Intake]]


@pytest.fixture
async def open_intake(tmp_path: Path) -> AsyncIterator[OpenIntake]:
    opened: list[Intake] = []

    async def opener() -> Intake:
        settings = SMFSettings(data_dir=tmp_path / "data", embedding_provider="hash", vector_dim=3)
        intake = build_intake(settings)
        await asyncio.to_thread(intake.open)
        opened.append(intake)
        return intake

    yield opener
    for intake in opened:
        await asyncio.to_thread(intake.close)


@pytest.fixture
async def ledger(open_intake: OpenIntake) -> Any:
    return (await open_intake()).ledger


async def store(ledger: Any, count: int, start: int = 1) -> None:
    settings = SMFSettings(vector_dim=3, embedding_provider="hash")
    units = []
    for number in range(start, start + count):
        item = StoreItem((float(number),), {"n": number}, vector=np.array([1.0, 0.0, 0.0], np.float32))
        one = check_item(SCOPE, item, settings)
        put = Put(one.id, SCOPE, "episodic", one.coordinate, one.payload, "", 0.0, 1.0, vector=one.vector)
        units.append(Unit([put]))
    await ledger.commit_many(units)


async def caught_up(relay: Relay, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        await relay.caught_up()


async def until(ask: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not ask():  # noqa: ASYNC110 -- what is waited for sets no event
            await asyncio.sleep(0.01)


def sample(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(name, {"sink": "list"}) or 0.0


async def test_every_change_is_delivered_in_order_and_counted(ledger: Any) -> None:
    sink, metrics = ListSink(), Metrics()
    relay = Relay(ledger, sink, metrics, batch=7)
    relay.start()
    await store(ledger, 20)
    await caught_up(relay)
    await relay.stop()
    assert sink.seqs == list(range(1, 21))
    assert max(sink.calls) <= 7
    assert sample(metrics, "soma_memory_sink_delivered_total") == 20
    assert sample(metrics, "soma_memory_sink_lag") == 0


async def test_it_goes_on_where_it_was_after_a_restart(open_intake: OpenIntake) -> None:
    intake = await open_intake()
    relay = Relay(intake.ledger, ListSink(), Metrics())
    await store(intake.ledger, 3)
    relay.start()
    await caught_up(relay)
    await relay.stop()
    await asyncio.to_thread(intake.close)
    again = (await open_intake()).ledger
    await store(again, 2, start=10)
    sink = ListSink()
    relay = Relay(again, sink, Metrics())
    relay.start()
    await caught_up(relay)
    await relay.stop()
    assert sink.seqs == [4, 5]


async def test_a_sink_that_is_away_loses_nothing_and_keeps_no_one_waiting(ledger: Any) -> None:
    sink, metrics = ListSink(), Metrics()
    sink.trouble = Unavailable("the broker is away")
    relay = Relay(ledger, sink, metrics)
    relay.start()
    await store(ledger, 1)
    await until(lambda: relay.failures >= 2)
    await store(ledger, 49, start=10)
    assert relay.lag == 50
    assert sample(metrics, "soma_memory_sink_lag") == 50
    sink.trouble = None
    await caught_up(relay, 40)
    await relay.stop()
    assert sink.seqs == list(range(1, 51))


async def test_an_open_breaker_tries_one_change_at_a_time(ledger: Any) -> None:
    await store(ledger, 10)
    sink, metrics = ListSink(), Metrics()
    sink.trouble = OSError("no route")
    relay = Relay(ledger, sink, metrics)
    relay.failures = 5
    relay.start()
    await until(lambda: bool(sink.calls))
    assert sample(metrics, "soma_memory_sink_breaker_open") == 1
    sink.trouble = None
    relay.failures = 5
    await caught_up(relay, 40)
    await relay.stop()
    assert sink.calls[0] == 1
    assert sample(metrics, "soma_memory_sink_breaker_open") == 0
    assert sink.seqs == list(range(1, 11))


async def test_what_a_sink_left_out_comes_again(ledger: Any) -> None:
    await store(ledger, 5)
    sink = ListSink()
    sink.most = 2
    relay = Relay(ledger, sink, Metrics())
    relay.start()
    await caught_up(relay)
    await relay.stop()
    assert sink.seqs == [1, 2, 3, 4, 5]
    assert sink.calls == [5, 3, 1]


async def test_one_of_two_replicas_relays_and_the_other_takes_over(ledger: Any) -> None:
    one, two, clock = ListSink(), ListSink(), time.time

    def lease(holder: str) -> Lease:
        return Lease(ledger, "sink:list", clock, seconds=0.6, holder=holder)

    first = Relay(ledger, one, Metrics(), lease=lease("a"))
    second = Relay(ledger, two, Metrics(), lease=lease("b"))
    first.start()
    await store(ledger, 3)
    await caught_up(first)
    second.start()
    await store(ledger, 3, start=10)
    await caught_up(first)
    await caught_up(second)
    assert (one.seqs, two.seqs) == ([1, 2, 3, 4, 5, 6], [])
    await first.stop()
    await store(ledger, 1, start=20)
    await caught_up(second)
    await second.stop()
    assert two.seqs == [7]


async def test_a_relay_that_slept_does_not_move_the_cursor_of_the_one_that_took_over(ledger: Any) -> None:
    await store(ledger, 4)
    entered, leave = asyncio.Event(), asyncio.Event()

    class Slow(ListSink):
        async def deliver(self, changes: Sequence[Change]) -> int:
            entered.set()
            await leave.wait()
            return await super().deliver(changes)

    slow, quick = Slow(), ListSink()
    sleeper = Relay(ledger, slow, Metrics(), lease=Lease(ledger, "sink:list", time.time, seconds=0.2, holder="a"))
    other = Relay(ledger, quick, Metrics(), lease=Lease(ledger, "sink:list", time.time, seconds=30, holder="b"))
    sleeper.start()
    await entered.wait()
    await asyncio.sleep(0.3)
    other.start()
    await caught_up(other)
    await store(ledger, 1, start=10)
    await caught_up(other)
    leave.set()
    await asyncio.sleep(0.2)
    assert (await ledger.read(lambda view: view.sinks()))["list"] == 5
    await sleeper.stop()
    await other.stop()
    assert slow.seqs == [1, 2, 3, 4]


async def test_a_lease_is_free_once_its_holder_is_silent_whatever_its_clock_said(ledger: Any) -> None:
    ahead = Lease(ledger, "x", lambda: time.time() + 86_400, seconds=0.3, holder="a")
    assert await ahead.hold()
    other = Lease(ledger, "x", time.time, seconds=0.3, holder="b")
    assert not await other.hold()
    await asyncio.sleep(0.35)
    assert await other.hold()


async def test_a_lease_that_was_given_back_is_free_at_once(ledger: Any) -> None:
    one, two = Lease(ledger, "x", time.time, holder="a"), Lease(ledger, "x", time.time, holder="b")
    assert await one.hold()
    assert not await two.hold()
    await two.release()
    assert not await two.hold()
    await one.release()
    assert await two.hold()


async def test_a_sink_further_back_than_the_outbox_is_rebuilt(ledger: Any) -> None:
    await store(ledger, 5)
    await ledger.transact(lambda transaction: transaction.trim(0.0, 0))
    await store(ledger, 2, start=10)
    sink = ListSink()
    relay = Relay(ledger, sink, Metrics())
    relay.start()
    await caught_up(relay)
    await relay.stop()
    assert sink.rebuilt == 1
    assert sink.seqs == [6, 7]


async def test_a_sink_keeps_the_outbox_from_being_trimmed(ledger: Any) -> None:
    sink = ListSink()
    sink.trouble = OSError("away")
    relay = Relay(ledger, sink, Metrics())
    relay.start()
    await store(ledger, 5)
    await until(lambda: bool(sink.calls))
    await relay.stop()
    await ledger.transact(lambda transaction: transaction.trim(0.0, 0))
    assert len(await ledger.tail(0)) == ledger.head_seq


class Aside:
    """Where a relay puts what its sink cannot take."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, str, str]] = []
        self.trouble: Exception | None = None

    async def keep(self, sink: str, change: Any, reason: str, error: str) -> None:
        assert sink == "list"
        if self.trouble is not None:
            raise self.trouble
        self.kept.append((change.seq, reason, error))


async def test_a_change_that_the_sink_cannot_take_is_set_aside_and_the_others_go_on(ledger: Any) -> None:
    await store(ledger, 40)
    sink, metrics, aside = ListSink(), Metrics(), Aside()
    sink.poison = {3, 17, 40}
    relay = Relay(ledger, sink, metrics, set_aside=aside.keep)
    relay.start()
    await caught_up(relay, 40)
    await relay.stop()
    assert sink.seqs == [seq for seq in range(1, 41) if seq not in sink.poison]
    assert [(seq, reason) for seq, reason, _ in aside.kept] == [(3, "defect"), (17, "defect"), (40, "defect")]
    assert "OverflowError" in aside.kept[0][2]
    counted = {"source": "relay", "reason": "defect"}
    assert metrics.registry.get_sample_value("soma_memory_dead_letters_total", counted) == 3


async def test_changes_side_by_side_are_set_aside_too(ledger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blame, "TRIES_OF_ALL", 4)
    await store(ledger, 5)
    sink, aside = ListSink(), Aside()
    sink.poison = {2, 3}
    relay = Relay(ledger, sink, Metrics(), set_aside=aside.keep)
    relay.start()
    await caught_up(relay, 40)
    await relay.stop()
    assert sink.seqs == [1, 4, 5]


async def test_nothing_is_passed_over_before_it_is_kept(ledger: Any) -> None:
    await store(ledger, 3)
    sink, aside = ListSink(), Aside()
    sink.poison, aside.trouble = {1}, Unavailable("no broker answers")
    relay = Relay(ledger, sink, Metrics(), set_aside=aside.keep)
    relay.start()
    await until(lambda: relay.failures >= 4)
    assert (sink.seqs, relay.lag) == ([], 3)
    aside.trouble = None
    await caught_up(relay, 40)
    await relay.stop()
    assert (sink.seqs, [seq for seq, _, _ in aside.kept]) == ([2, 3], [1])


@pytest.mark.parametrize(
    ("error", "blamed"),
    [
        (OverflowError("date value out of range"), True),
        (RecursionError("too deep"), True),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"), True),
        (KeyError("text"), True),
        (InvalidArgument("the store refuses it"), True),
        (Unavailable("away"), False),
        (Conflict("another feeds it"), False),
        (Internal("a defect"), False),
        (SettingsError("no topic", setting="kafka_dlq_topic", remedy="create it"), False),
        (TimeoutError(), False),
        (ConnectionResetError(), False),
    ],
)
def test_what_passes_by_itself_is_blamed_on_no_change(error: Exception, blamed: bool) -> None:
    assert is_of_an_item(error) is blamed


async def test_halves_find_each_item_that_cannot_be_taken() -> None:
    taken: list[int] = []
    aside: list[int] = []

    async def act(part: Sequence[int]) -> None:
        if any(one % 10 == 7 for one in part):
            raise ValueError("seven")
        taken.extend(part)

    await in_halves(list(range(50)), act, lambda item, _: aside.append(item))
    assert aside == [7, 17, 27, 37, 47]
    assert taken == [one for one in range(50) if one % 10 != 7]
