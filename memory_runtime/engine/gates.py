"""The gates' advisor on a running engine: findings, dry runs, and changes that are applied only where that is allowed.

An applied change is a fact of the ledger, so it outlives a restart; it gives way as soon as `gates_apply_allowed` is
taken back or the operator sets the same setting to something else. Every dry run, change and return to the settings
is a line of the audit chain.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from memory_runtime.engine.following import Follower
from memory_runtime.engine.measuring import REPLAYED, measure, try_out
from memory_runtime.engine.refilling import refill
from memory_runtime.engine.retention import Retention
from memory_runtime.engine.sampling import Sampling
from memory_runtime.model.actor import current_actor
from memory_runtime.model.duration import parse_half_life
from memory_runtime.model.errors import Conflict, InvalidArgument, NotFound, PermissionDenied, Unprocessable
from memory_runtime.model.threads import in_thread
from memory_runtime.scoring import ScoringParams
from memory_runtime.scoring.gates import Change, Effect, Finding, Gate, advise, changed, penalty_effect
from memory_runtime.settings import SMFSettings
from memory_runtime.stores.contracts import AuditEntry, Unit
from memory_runtime.stores.sessions import Ledger, LedgerTransaction
from memory_runtime.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

FACT: Final = "gates_applied"
SETTABLE: Final = {
    Gate.G1: "retention_enabled",
    Gate.G2: "importance_exponent",
    Gate.G3: "similarity_exponent",
    Gate.G4: "vector_storage",
    Gate.G5: "residual_penalty",
    Gate.G6: "half_life",
}
"""The setting that each gate changes."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A change in force: the setting, what the settings said, what it is now, when (epoch seconds)."""

    setting: str
    before: Any
    after: Any
    at: float


@dataclass(frozen=True, slots=True)
class GateState:
    """A finding, and whether its change is in force."""

    finding: Finding
    applied: Applied | None


class Gates:
    """The advisor of one engine."""

    def __init__(
        self,
        ledger: Ledger,
        follower: Follower,
        settings: SMFSettings,
        metrics: Metrics,
        sampling: Sampling,
        retention: Retention,
        clock: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._follower = follower
        self._settings = settings
        self._metrics = metrics
        self._sampling = sampling
        self._retention = retention
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._applied: dict[Gate, Applied] = {}
        self._configured = follower.params
        self._stopping = False
        self.notes: tuple[str, ...] = ()

    async def resume(self) -> None:
        """At the start: puts the changes back in force that are still wanted, and notes the others."""
        facts = await self._ledger.read(lambda view: view.facts())
        notes = []
        for name, kept in json.loads(facts.get(FACT, "{}")).items():
            gate, applied = Gate(name), Applied(**kept)
            if not self._settings.gates_apply_allowed:
                notes.append(f"gate {name}: {applied.setting} is as configured while gates_apply_allowed is false")
            elif applied.before != self._setting(applied.setting):
                notes.append(f"gate {name}: {applied.setting} was configured anew, so the gate's change is dropped")
            else:
                self._applied[gate] = applied
                notes.append(f"gate {name}: {applied.setting} is {applied.after}, not {applied.before} as configured")
        self.notes = tuple(notes)
        for note in notes:
            log.warning("%s", note)
        if self._applied:
            await self._put_in_force()

    def stop(self) -> None:
        """Lets a dry run end early."""
        self._stopping = True

    def _setting(self, name: str) -> Any:
        return "float32" if name == "vector_storage" else getattr(self._settings, name)

    async def states(self) -> list[GateState]:
        """Every gate: its condition, what was measured, the change that it asks for, whether one is in force."""
        return [GateState(finding, self._applied.get(finding.gate)) for finding in await self._findings()]

    async def _findings(self) -> list[Finding]:
        measured = await in_thread(
            measure,
            self._follower,
            self._sampling,
            self._metrics,
            retention_enabled=self._retention.enabled,
            retention_bounded=self._retention.bounds.any,
        )
        return advise(measured)

    async def dry_run(self, name: str, *, value: Any = None, actor: str = "") -> tuple[Change, Effect]:
        """The effect of a gate's change (or of another `value`) on the order and the latency of recent queries.

        Raises NotFound for a name that is no gate, Unprocessable where there is nothing to change, InvalidArgument
        for a value that cannot be.
        """
        gate = _gate(name)
        async with self._one_at_a_time:
            change = await self._change(gate, value)
            effect = await self._effect(change)
            await self._audit(actor, "gate.dry_run", gate, {"change": dict(change), "effect": asdict(effect)})
        return change, effect

    async def apply(self, name: str, *, value: Any = None, actor: str = "") -> tuple[Applied, Effect]:
        """Tries a gate's change out, puts it in force and writes both into the audit chain.

        Raises PermissionDenied unless `gates_apply_allowed`, Conflict where the gate's change is in force already, and
        what `dry_run` raises.
        """
        gate = _gate(name)
        if not self._settings.gates_apply_allowed:
            raise PermissionDenied(
                "gates_apply_allowed: gates only advise here",
                field="gates_apply_allowed",
                remedy="look at the dry run, then set SOMA_GATES_APPLY_ALLOWED=true",
            )
        async with self._one_at_a_time:
            if gate in self._applied:
                raise Conflict(f"gate: {gate}'s change is in force", field="gate", remedy="revert it first")
            change = await self._change(gate, value)
            effect = await self._effect(change)
            setting = SETTABLE[gate]
            applied = Applied(setting, self._setting(setting), change[setting], self._clock())
            wanted = self._applied | {gate: applied}
            detail = {"setting": setting, "before": applied.before, "after": applied.after, "effect": asdict(effect)}
            await self._keep(wanted, self._entry(actor, "gate.apply", gate, detail))
            self._applied = wanted
            await self._put_in_force()
        log.warning("gate %s applied: %s is %s", gate, setting, applied.after)
        return applied, effect

    async def revert(self, name: str, *, actor: str = "") -> Applied:
        """Takes a gate's change back: the setting is as configured again. Raises Conflict where none is in force."""
        gate = _gate(name)
        async with self._one_at_a_time:
            applied = self._applied.get(gate)
            if applied is None:
                raise Conflict(f"gate: no change of {gate} is in force", field="gate", remedy="see GET /gates")
            wanted = {one: kept for one, kept in self._applied.items() if one is not gate}
            await self._keep(wanted, self._entry(actor, "gate.revert", gate, asdict(applied)))
            self._applied = wanted
            await self._put_in_force()
        log.warning("gate %s reverted: %s is %s", gate, applied.setting, applied.before)
        return applied

    async def _change(self, gate: Gate, value: Any) -> Change:
        if value is not None:
            if gate not in SETTABLE or gate is Gate.G1:
                raise InvalidArgument(f"value: {gate} takes none", field="value", remedy="leave it out")
            return _checked(SETTABLE[gate], value, self._follower.params)
        finding = next(one for one in await self._findings() if one.gate is gate)
        if finding.change is None:
            raise Unprocessable(
                f"gate: {gate} has nothing to change: {finding.remark or finding.condition}",
                field="gate",
                remedy="see GET /gates for what was measured, or name a value",
            )
        return finding.change

    async def _effect(self, change: Change) -> Effect:
        if "residual_penalty" in change:
            answers = self._sampling.approximate()
            return penalty_effect(answers, change["residual_penalty"] / self._follower.params.residual_penalty)
        gone: Collection[bytes] = await self._retention.leaving() if "retention_enabled" in change else ()
        return await in_thread(
            try_out,
            self._follower,
            self._sampling.recent()[-REPLAYED:],
            changed(self._follower.params, change),
            without=gone,
            stopped=lambda: self._stopping,
        )

    async def _put_in_force(self) -> None:
        change = {applied.setting: applied.after for applied in self._applied.values()}
        self._retention.enabled = bool(change.get("retention_enabled", self._settings.retention_enabled))
        params = changed(self._configured, change)
        if params == self._follower.params:
            return
        before, self._follower.params = self._follower.params, params
        if replace(before, residual_penalty=params.residual_penalty) == params:
            return  # the index has no part in it
        # what is known of rows that were given up was made by the old rules: only the ledger has them all
        given_up = bool(self._follower.residency.bounds(self._follower.index))
        if given_up or params.vector_storage != before.vector_storage:
            await refill(self._ledger, self._follower, self._settings, self._clock)
        else:
            await in_thread(self._follower.index.set_params, params)

    async def _keep(self, applied: dict[Gate, Applied], entry: AuditEntry) -> None:
        text = json.dumps({gate.value: asdict(one) for gate, one in applied.items()}, sort_keys=True)

        def run(transaction: LedgerTransaction) -> None:
            transaction.remember(FACT, text)
            transaction.run(Unit(audit=[entry]))

        await self._ledger.transact(run)

    async def _audit(self, actor: str, action: str, gate: Gate, detail: dict[str, Any]) -> None:
        await self._ledger.commit(Unit(audit=[self._entry(actor, action, gate, detail)]))

    def _entry(self, actor: str, action: str, gate: Gate, detail: dict[str, Any]) -> AuditEntry:
        plain = json.loads(json.dumps(detail))  # tuples are lists in JSON
        return AuditEntry(
            self._settings.default_tenant, actor or current_actor(), action, gate.value, self._clock(), plain
        )


def _gate(name: str) -> Gate:
    try:
        return Gate(name.upper())
    except ValueError:
        raise NotFound(f"gate: there is no gate {name[:20]!r}", field="gate", remedy="name one of G1 to G6") from None


def _checked(setting: str, value: Any, params: ScoringParams) -> Change:
    """The change of one setting to a value that a caller named. Raises InvalidArgument."""
    if setting == "half_life":
        change = {setting: parse_half_life(value, field="value") if isinstance(value, str) else value}
    elif setting == "vector_storage":
        if value not in ("float16", "float32"):
            raise InvalidArgument("value: float16 or float32", field="value", remedy="send one of them")
        change = {setting: value}
    else:
        change = {setting: value}
    if setting != "vector_storage" and (isinstance(value, bool) or not isinstance(change[setting], int | float)):
        raise InvalidArgument(f"value: {setting} is a number", field="value", remedy="send a number, such as 0.5")
    try:
        changed(params, change)
    except InvalidArgument as error:
        raise InvalidArgument(f"value: {error.message}", field="value", remedy=error.remedy) from None
    return change
