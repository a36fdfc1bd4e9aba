"""`soma dlq` as its user types it, and the role that tries refused events again."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import pytest

from memory_runtime.engine.ingesting import IncomingEvent, Outcome
from memory_runtime.events.dlq import DeadLetterQueue, Position
from memory_runtime.events.dlq_consumer import DlqConsumer
from memory_runtime.model.errors import Conflict, NotFound, SomaError, Unavailable
from memory_runtime.surfaces.cli import main
from memory_runtime.tests.integration.events.conftest import NewSite, Site, eventually, publish, read_all
from memory_runtime.tests.integration.events.test_events_faults import environment_of
from memory_runtime.tests.integration.events.test_events_pipeline import event, raw

pytestmark = pytest.mark.integration


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


Soma = Callable[..., Awaitable[Done]]


@pytest.fixture
def soma(topics: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Soma]:
    """Runs a `soma dlq` command, in this process: `await soma("list", brokers="…")`."""
    for name, value in environment_of(topics).items():
        monkeypatch.setenv(name, value)
    handlers, level = logging.root.handlers[:], logging.root.level

    async def run(*arguments: str, brokers: str | None = None) -> Done:
        if brokers is not None:
            monkeypatch.setenv("SOMA_KAFKA_BOOTSTRAP_SERVERS", brokers)
        code = await asyncio.to_thread(main, ["dlq", *arguments])
        return Done(code, *capsys.readouterr())

    yield run
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


async def bury(site: Site, *poison: bytes) -> None:
    """Has the consumer set these aside."""
    async with site.consuming():
        await publish(site.settings, *poison, headers=[("x-from", b"a test")])
        await eventually(lambda: site.count("dead") == len(poison))


async def test_letters_are_listed_shown_put_back_and_cleared_away(
    site: Site, topics: dict[str, Any], soma: Soma
) -> None:
    wrong = raw(event(1, embedding=[1.0, 2.0], event_id="the-one"))
    await bury(site, b"\xffnot json", wrong)
    listed = await soma("list", "--json")
    letters = json.loads(listed.stdout)["letters"]
    assert listed.returncode == 0
    assert {one["reason"] for one in letters} == {"not_json", "invalid"}
    chosen = next(one for one in letters if one["reason"] == "invalid")
    shown = await soma("show", chosen["letter"])
    assert "header x-from: a test" in shown.stdout
    assert '"event_id": "the-one"' in shown.stdout

    back = await soma("replay", chosen["letter"], "--json")
    assert json.loads(back.stdout) == {"replayed": [chosen["letter"]], "left": []}
    records = await read_all(topics["kafka_bootstrap_servers"], topics["kafka_memory_events_topic"])
    assert [record.value for record in records].count(wrong) == 2
    assert all(record.headers == (("x-from", b"a test"),) for record in records)
    assert [one["reason"] for one in json.loads((await soma("list", "--json")).stdout)["letters"]] == ["not_json"]
    everything = json.loads((await soma("list", "--all", "--json")).stdout)["letters"]
    assert sorted(one["state"] for one in everything) == ["replayed", "waiting"]

    done = await soma("purge", "--yes", "--json")
    assert json.loads(done.stdout) == {"purged": 2}
    assert await site.letters() == []


async def test_what_is_put_back_has_its_one_effect(site: Site, new_site: NewSite) -> None:
    """The same event, refused by a memory of another dimension, then accepted twice over."""
    other = await new_site(vector_dim=2)
    await bury(site, raw(event(1, embedding=[1.0, 2.0])))
    queue = DeadLetterQueue(site.settings)
    await queue.replay(None)
    await queue.replay([entry.position for entry in await queue.entries()])
    async with other.consuming():
        await eventually(lambda: other.count("applied") == 1 and other.count("duplicate") == 2)
    assert len(await other.changes()) == 1


async def test_a_purge_of_what_is_settled_keeps_what_waits(site: Site) -> None:
    await bury(site, b"first", b"second")
    queue = DeadLetterQueue(site.settings)
    first, second = sorted(await queue.entries(), key=lambda entry: entry.letter.value or b"")
    await queue.replay([first.position])
    assert await queue.purge(settled_only=True) == 1
    assert [entry.position for entry in await queue.entries()] == [second.position]
    with pytest.raises(NotFound):
        await queue.replay([Position(0, 10_000)])


async def test_brokers_that_do_not_answer_are_said_so(soma: Soma) -> None:
    done = await soma("list", brokers="127.0.0.1:1")
    assert done.returncode == 3
    assert "127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["purge"], "--yes; nothing was changed"),
        (["replay"], "--all; nothing was changed"),
        (["replay", "--all", "0:1"], "nothing was changed"),
        (["list"], "kafka_bootstrap_servers"),
        (["list", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["show", "7"], "kafka_bootstrap_servers|partition:offset"),
    ],
)
def test_wrong_usage_changes_nothing_and_says_what_is_missing(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("SOMA_KAFKA", "KAFKA_"))]:
        monkeypatch.delenv(name)
    assert main(["dlq", *arguments]) == 2
    assert re.search(says, capsys.readouterr().err)


class Held:
    """Refuses as a memory under a legal hold does, so many times; then applies. Once, the ledger is away."""

    def __init__(self, site: Site, refusals: int) -> None:
        self.inner, self.left, self.away = site.intake.ingestor, refusals, True

    async def apply(self, events: list[IncomingEvent]) -> list[Outcome | SomaError]:
        if self.left > 0:
            self.left -= 1
            return [Conflict("the memory is under a legal hold") for _ in events]
        if self.away:
            self.away = False
            raise Unavailable("away")
        return await self.inner.apply(events)


async def test_a_refused_event_is_tried_again_until_it_passes(new_site: NewSite) -> None:
    site = await new_site(dlq_retry_seconds=0.2)
    held = Held(site, 3)
    async with site.consuming(held):
        await publish(site.settings, b"poison", raw(event(1)))
        await eventually(lambda: site.count("dead") == 2)
    stop = asyncio.Event()
    task = asyncio.create_task(DlqConsumer(site.settings, held, site.metrics).run(stop))
    await eventually(lambda: retried(site, "applied") == 1)
    stop.set()
    await task
    assert len(await site.changes()) == 1
    assert [entry.letter.reason for entry in await site.letters() if entry.state == "waiting"] == ["not_json"]


async def test_a_refused_event_waits_for_a_person_in_the_end(new_site: NewSite) -> None:
    site = await new_site(dlq_retry_seconds=0.1, dlq_max_attempts=2)
    held = Held(site, 1000)
    async with site.consuming(held):
        await publish(site.settings, raw(event(1)))
        await eventually(lambda: site.count("dead") == 1)
    stop = asyncio.Event()
    task = asyncio.create_task(DlqConsumer(site.settings, held, site.metrics).run(stop))
    await eventually(lambda: retried(site, "parked") == 1)
    stop.set()
    await task
    (waiting,) = [entry for entry in await site.letters() if entry.state == "waiting"]
    assert waiting.letter.attempts == 2


def retried(site: Site, outcome: str) -> float:
    return site.metrics.registry.get_sample_value("soma_memory_dlq_letters_total", {"outcome": outcome}) or 0.0
