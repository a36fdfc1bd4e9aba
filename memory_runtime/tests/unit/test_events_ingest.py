"""Applying events to a real ledger: one effect each, embedded where they must be, refused one by one."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_runtime.engine import Intake, build_intake
from memory_runtime.engine.ingesting import EventOperation, IncomingEvent, Outcome
from memory_runtime.model.coordinates import NAMESPACE_SOMA_COORDINATES, memory_id
from memory_runtime.model.errors import Internal, SomaError, Unavailable, Unprocessable
from memory_runtime.model.records import Scope
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.contracts import Collection, Committed, Put, Unit

SCOPE = Scope("acme", "notes")
DIM = 8
EVENT = IncomingEvent(
    event_id="e1",
    scope=SCOPE,
    operation=EventOperation.CREATED,
    id="m1",
    memory_type="episodic",
    coordinate=(1.0, 2.0),
    payload={"text": "tea"},
    timestamp=1_700_000_000.0,
)


@pytest.fixture
async def intake(tmp_path: Path) -> AsyncIterator[Intake]:
    opened = build_intake(SMFSettings(data_dir=tmp_path / "data", embedding_provider="hash", vector_dim=DIM))
    await asyncio.to_thread(opened.open)
    yield opened
    await asyncio.to_thread(opened.close)


def told(**changes: Any) -> IncomingEvent:
    return dataclasses.replace(EVENT, **changes)


async def kept(intake: Intake, event: IncomingEvent = EVENT) -> Any:
    text = ",".join(map(repr, event.coordinate))
    return await intake.ledger.get(memory_id("acme", "notes", event.memory_type, text))


async def test_an_event_without_a_vector_is_embedded(intake: Intake) -> None:
    assert await intake.ingestor.apply([EVENT]) == [Outcome.APPLIED]
    record = await kept(intake)
    assert record.model_revision == intake.provider.revision
    assert np.array_equal(record.vector, (await intake.provider.embed(["tea"]))[0])


async def test_a_vector_of_another_model_is_made_anew_and_a_clients_own_is_kept(intake: Intake) -> None:
    given = [1.0, *[0.0] * (DIM - 1)]
    theirs = told(embedding=given, model_revision="another-model@1")
    own = told(event_id="e2", coordinate=(2.0,), embedding=given, model_revision="client")
    assert await intake.ingestor.apply([theirs, own]) == [Outcome.APPLIED] * 2
    assert (await kept(intake)).model_revision == intake.provider.revision
    mine = await kept(intake, own)
    assert (mine.model_revision, mine.vector[0]) == ("client", 1.0)


async def test_each_event_of_a_batch_has_its_own_fate(intake: Intake) -> None:
    batch = [EVENT, EVENT, told(event_id="e2", embedding=[0.0] * DIM), told(event_id="e3", coordinate=(3.0,))]
    one, again, refused, other = await intake.ingestor.apply(batch)
    assert (one, again, other) == (Outcome.APPLIED, Outcome.DUPLICATE, Outcome.APPLIED)
    assert isinstance(refused, SomaError)
    assert "vector" in refused.message
    assert [change.version for change in await intake.ledger.tail(0)] == [1, 1]


async def test_an_event_of_a_type_too_many_is_refused_until_there_is_room(tmp_path: Path) -> None:
    settings = SMFSettings(data_dir=tmp_path / "data", embedding_provider="hash", vector_dim=DIM, max_memory_types=2)
    opened = build_intake(settings)
    await asyncio.to_thread(opened.open)
    batch = [told(event_id=f"e{n}", memory_type=f"type-{n}") for n in range(4)]
    first, second, third, fourth = await opened.ingestor.apply(batch)
    assert (first, second) == (Outcome.APPLIED, Outcome.APPLIED)
    assert isinstance(third, Unprocessable)
    assert isinstance(fourth, Unprocessable)
    record = await kept(opened, batch[0])
    gone = told(event_id="gone", operation=EventOperation.DELETED, memory_type="type-0", id=str(record.id))
    assert await opened.ingestor.apply([gone]) == [Outcome.APPLIED]
    assert await opened.ingestor.apply([batch[2]]) == [Outcome.APPLIED]
    await asyncio.to_thread(opened.close)


async def test_events_are_applied_in_their_order(intake: Intake) -> None:
    batch = [told(event_id=str(n), payload={"text": f"v{n}"}) for n in range(300)]
    batch.insert(150, told(event_id="gone", operation=EventOperation.DELETED))
    assert set(await intake.ingestor.apply(batch)) == {Outcome.APPLIED}
    changes = await intake.ledger.tail(0, 1000)
    assert [change.operation.value for change in changes].index("delete") == 150
    assert (await kept(intake)).payload == {"text": "v299"}


async def test_an_old_version_of_an_origin_changes_nothing(intake: Intake) -> None:
    second = told(event_id="e2", origin="a", version=2, payload={"text": "second"})
    assert await intake.ingestor.apply([second]) == [Outcome.APPLIED]
    assert await intake.ingestor.apply([told(origin="a", version=1)]) == [Outcome.LATE]
    assert (await kept(intake)).payload == {"text": "second"}
    assert await intake.ingestor.apply([told(event_id="e3", origin="b", version=1)]) == [Outcome.APPLIED]


async def test_a_delete_that_comes_first_keeps_the_creation_out(intake: Intake) -> None:
    gone = told(event_id="e2", origin="a", version=2, operation=EventOperation.DELETED)
    assert await intake.ingestor.apply([gone, told(origin="a", version=1)]) == [Outcome.APPLIED, Outcome.LATE]
    assert await kept(intake) is None


async def test_a_row_of_the_old_grpc_service_has_no_vector_and_an_id_of_its_own(intake: Intake) -> None:
    row = told(collection=Collection.COORDINATES, coordinate=(0.0, 0.0), memory_type="memories")
    assert await intake.ingestor.apply([row]) == [Outcome.APPLIED]
    (change,) = await intake.ledger.tail(0)
    assert change.collection is Collection.COORDINATES
    assert change.id == memory_id("acme", "notes", "memories", "0.0,0.0", root=NAMESPACE_SOMA_COORDINATES)


async def test_one_unit_that_cannot_be_written_costs_the_others_nothing(intake: Intake) -> None:
    broken = Put(
        memory_id("acme", "notes", "episodic", "9.0"), SCOPE, "episodic", "9.0", None, "", 0.0, 0.0  # type: ignore[arg-type]
    )  # fmt: skip
    fine = [Put(memory_id("acme", "notes", "e", f"{n}.0"), SCOPE, "e", f"{n}.0", "{}", "", 0.0, 0.0) for n in range(5)]
    units = [Unit([put]) for put in (*fine[:2], broken, *fine[2:])]
    fates = await intake.ledger.commit_many(units)
    assert isinstance(fates[2], Internal)
    assert sum(isinstance(fate, Committed) for fate in fates) == 5
    assert intake.ledger.head_seq == 5


async def test_a_batch_that_fails_as_a_whole_is_halved_until_the_culprit_is_alone(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_many = intake.ledger.commit_many

    async def fails_for_one(units: list[Unit]) -> Any:
        if any(unit.idempotency is not None and unit.idempotency.key == "e5" for unit in units):
            raise OverflowError("int too large to convert to float")
        return await commit_many(units)

    monkeypatch.setattr(intake.ledger, "commit_many", fails_for_one)
    batch = [told(event_id=f"e{n}", coordinate=(float(n),)) for n in range(20)]
    fates = await intake.ingestor.apply(batch)
    assert isinstance(fates[5], Internal)
    assert [fate for at, fate in enumerate(fates) if at != 5] == [Outcome.APPLIED] * 19
    assert [change.coordinate for change in await intake.ledger.tail(0, 100)] == [f"{n}.0" for n in range(20) if n != 5]


@pytest.mark.parametrize(
    "changes",
    [
        {"importance": 10**400},
        {"embedding": [10**400, *[0.0] * (DIM - 1)]},
        {"coordinate": (10**400,)},
        {"timestamp": 10**400},
        {"version": 2**63, "origin": "a"},
        {"payload": {"text": {"deep": [[[]]]}, "n": float("nan")}},
        {"features": {"mood": 10**400}},
        {"expires_at": float("inf")},
        {"expires_at": float("nan")},
        {"expires_at": 1e300},
        {"memory_type": "\ud800"},
    ],
)
async def test_no_event_takes_its_batch_with_it(intake: Intake, changes: dict[str, Any]) -> None:
    culprit = told(event_id="culprit", **({"coordinate": (7.0,)} | changes))
    one, refused, other = await intake.ingestor.apply([EVENT, culprit, told(event_id="e3", coordinate=(3.0,))])
    assert (one, other) == (Outcome.APPLIED, Outcome.APPLIED)
    assert isinstance(refused, SomaError)
    assert len(await intake.ledger.tail(0)) == 2


async def test_what_passes_by_itself_is_no_fate(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_: Any) -> Any:
        raise Unavailable("the ledger is away")

    monkeypatch.setattr(intake.ledger, "commit_many", away)
    with pytest.raises(Unavailable):
        await intake.ingestor.apply([EVENT, told(event_id="e2")])


def test_an_intake_checks_the_ledger_as_a_server_does(tmp_path: Path) -> None:
    first = build_intake(SMFSettings(data_dir=tmp_path / "data", embedding_provider="hash", vector_dim=DIM))
    first.open()
    first.close()
    other = build_intake(SMFSettings(data_dir=tmp_path / "data", embedding_provider="hash", vector_dim=DIM + 1))
    with pytest.raises(SettingsError, match="vector_dim"):
        other.open()
