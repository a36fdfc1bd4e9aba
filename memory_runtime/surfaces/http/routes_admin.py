"""What whoever runs the service asks of it: retention and its archives, gates, importance, the vector store.

Same token as all routes. Retention, archives and importance are of the caller's scope; gates and the vector store are
of the whole process.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.requests import Request

from memory_runtime.engine.retention import Bounds, Plan
from memory_runtime.events.brokers import publishes
from memory_runtime.events.relay import REPUBLISH
from memory_runtime.model.coordinates import parse_coordinate
from memory_runtime.model.duration import parse_duration
from memory_runtime.model.errors import Unprocessable
from memory_runtime.surfaces.explanations import plain
from memory_runtime.surfaces.http import requests as bodies
from memory_runtime.surfaces.http import responses as answers
from memory_runtime.surfaces.http.context import engine, scope
from memory_runtime.surfaces.http.rendering import answer, resource

router = APIRouter(tags=["administration"])

GateName = Annotated[str, Path(max_length=64, description="G1 to G6.")]
ArchiveName = Annotated[str, Path(max_length=255, description="A name from GET /retention/archives.")]


class ChangeBody(BaseModel):
    """A gate's change; without a value, the one that the gate proposes."""

    value: bodies.Number | Annotated[str, Field(max_length=64)] | None = Field(
        None, description="Another value for the setting that the gate changes."
    )


class RestoreBody(BaseModel):
    """How to restore an archive."""

    pin: bool = Field(False, description="Pin what is restored, so that it is not forgotten again.")


class HoldBody(BaseModel):
    """A legal hold on a memory, or its end."""

    coord: bodies.Coord
    memory_type: bodies.TypeName | None = Field(None, description="Only this type; absent: all at the coordinate.")
    hold: bool = Field(True, description="False ends the hold.")


class ReconcileBody(BaseModel):
    """How to compare the vector store with the ledger."""

    repair: bool = Field(False, description="Mend what differs; else only say what does.")


def _plan(plan: Plan) -> answers.Json:
    shown: answers.Json = plain(plan)
    shown["listed"] = [
        {"score": one.score, "bytes": one.bytes, "reason": one.reason, "memory": resource(one.record)}
        for one in plan.listed
    ]
    return shown


@router.get("/retention/plan", response_model=answers.Open)
async def retention_plan(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ttl: Annotated[bodies.Duration | None, Query(description="Preview under this age instead.")] = None,
    max_rows: Annotated[int | None, Query(ge=1, le=2**53, description="Preview under this bound instead.")] = None,
    max_bytes: Annotated[int | None, Query(ge=1, le=2**53, description="Preview under this bound instead.")] = None,
) -> Response:
    """Dry run: what retention would archive and purge now, lowest score first, and why. Changes nothing."""
    bounds = None
    if ttl is not None or max_rows is not None or max_bytes is not None:
        age = None if ttl is None else parse_duration(ttl, field="ttl")
        bounds = Bounds(age, max_rows or 0, max_bytes or 0)
    return answer(_plan(await engine(request).retention.plan(scope(request), bounds=bounds, limit=limit)))


@router.post("/retention/sweep", response_model=answers.Open)
async def retention_sweep(request: Request) -> Response:
    """Archives and purges what is over the scope's bounds now rather than at the next sweep."""
    return answer(plain(await engine(request).retention.sweep(scope(request))))


@router.post("/retention/hold", response_model=answers.Open)
async def retention_hold(request: Request, body: HoldBody) -> Response:
    """Puts a memory under a legal hold, or ends it. What is held can be neither deleted nor forgotten."""
    coordinate = parse_coordinate(body.coord)
    held = await engine(request).retention.hold(scope(request), coordinate, body.memory_type, hold=body.hold)
    return answer({"coord": body.coord, "hold": body.hold, "memories": held})


@router.get("/retention/archives", response_model=answers.Open)
async def archives(request: Request) -> Response:
    """The scope's archives, oldest first; -1 memories in one that is damaged."""
    found = await engine(request).retention.listed(scope(request))
    return answer({"archives": [one._asdict() for one in found]})


@router.post("/retention/archives/{name}/restore", response_model=answers.Open)
async def restore_archive(request: Request, name: ArchiveName, body: RestoreBody | None = None) -> Response:
    """Puts an archive's memories back as they were; what lives is left as it is."""
    pin = body is not None and body.pin
    restored = await engine(request).retention.restore(scope(request), name, pin=pin)
    return answer(restored._asdict())


@router.get("/gates", response_model=answers.Open)
async def gates(request: Request) -> Response:
    """The gates G1 to G6: each one's condition, what was measured, the change that it asks for, what is applied."""
    states = await engine(request).gates.states()
    allowed = engine(request).settings.gates_apply_allowed
    return answer({"apply_allowed": allowed, "gates": [_gate(plain(state)) for state in states]})


def _gate(state: Any) -> Any:
    return state["finding"] | {"applied": state["applied"]}


@router.post("/gates/{gate}/dry-run", response_model=answers.Open)
async def gate_dry_run(request: Request, gate: GateName, body: ChangeBody | None = None) -> Response:
    """What a gate's change would do to the order and the latency of recent queries. Changes nothing."""
    value = None if body is None else body.value
    change, effect = await engine(request).gates.dry_run(gate, value=value)
    return answer({"change": plain(dict(change)), "effect": plain(effect)})


@router.post("/gates/{gate}/apply", response_model=answers.Open)
async def gate_apply(request: Request, gate: GateName, body: ChangeBody | None = None) -> Response:
    """Puts a gate's change in force, where SOMA_GATES_APPLY_ALLOWED says so; it can be reverted."""
    value = None if body is None else body.value
    applied, effect = await engine(request).gates.apply(gate, value=value)
    return answer({"applied": plain(applied), "effect": plain(effect)})


@router.post("/gates/{gate}/revert", response_model=answers.Open)
async def gate_revert(request: Request, gate: GateName) -> Response:
    """Takes a gate's change back: the setting is as configured again."""
    return answer({"reverted": plain(await engine(request).gates.revert(gate))})


@router.get("/importance", response_model=answers.Open)
async def importance_pending(request: Request) -> Response:
    """The rebuild of the tenant's importances that waits to be confirmed or undone, if there is one."""
    return answer({"pending": plain(await engine(request).importance.pending(scope(request).tenant))})


@router.post("/importance/preview", response_model=answers.Open)
async def importance_preview(request: Request) -> Response:
    """What a rebuild of the tenant's importances would change in recent answers. Changes nothing."""
    return answer(plain(await engine(request).importance.preview(scope(request).tenant)))


@router.post("/importance/rebuild", response_model=answers.Open)
async def importance_rebuild(request: Request) -> Response:
    """Gives every memory of the tenant the importance of one new normaliser version, all at once; can be undone."""
    done = await engine(request).importance.rebuild(scope(request).tenant)
    return answer({"pending": plain(done)})


@router.post("/importance/undo", response_model=answers.Open)
async def importance_undo(request: Request) -> Response:
    """Gives back the importances from before the rebuild."""
    return answer({"undone": plain(await engine(request).importance.undo(scope(request).tenant))})


@router.post("/importance/confirm", response_model=answers.Open)
async def importance_confirm(request: Request) -> Response:
    """Keeps the rebuild for good and forgets the importances from before."""
    done = await engine(request).importance.confirm(scope(request).tenant)
    return answer({"confirmed": plain(done)})


@router.post("/vectors/reconcile", response_model=answers.Open)
async def vectors_reconcile(request: Request, body: ReconcileBody | None = None) -> Response:
    """Compares the vector store with the ledger by range hashes, row by row where they differ; with `repair`, mends."""
    return answer(plain(await engine(request).vectors.reconcile(repair=body is not None and body.repair)))


@router.post("/events/republish", response_model=answers.Open)
async def events_republish(request: Request) -> Response:
    """Publishes every memory and every delete once more, under the ids that their events had, in the background.

    For consumers that have missed events: those that have them see nothing new.
    """
    if not publishes(engine(request).settings):
        raise Unprocessable(
            "events: nothing is published from here", field="events", remedy="set KAFKA_BOOTSTRAP_SERVERS"
        )
    await engine(request).ledger.transact(lambda transaction: transaction.remember(REPUBLISH, "1"))
    return answer({"begun": True})


@router.post("/vectors/rebuild", response_model=answers.Open)
async def vectors_rebuild(request: Request) -> Response:
    """Fills the vector store again from the ledger, in the background; compare it with the ledger to see it through."""
    return answer({"begun": engine(request).vectors.begin_rebuild()})
