"""Statuses: kstatus-true, deterministic, and the same for the same findings."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soma_operator.api import (
    BackupConditionType,
    MemoryConditionType,
    Reason,
    SomaMemory,
    SomaMemoryBackupStatus,
    SomaMemoryStatus,
    SpecError,
)
from soma_operator.api.errors import Problem
from soma_operator.api.status import DriftAction, PreflightPoint
from soma_operator.catalog.kinds import CONFIG_MAP, DEPLOYMENT, DISRUPTION_BUDGET, NETWORK_POLICY, VOLUME_CLAIM
from soma_operator.desired.children import Child, children
from soma_operator.desired.inputs import Defaults, Inputs
from soma_operator.observe.facts import Facts, Rollout, Volume
from soma_operator.plan.drift import Edit
from soma_operator.plan.volume import VolumeState, VolumeVerdict
from soma_operator.status.backup import BackupFindings, backup_status
from soma_operator.status.findings import DriftFinding, Failure, Findings
from soma_operator.status.memory import memory_status

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
COMPLETE = Rollout(
    generation=1, observed_generation=1, wanted=1, total=1, updated=1, ready=1, available=1, deadline_exceeded=False
)
STARTING = replace(COMPLETE, ready=0, available=0)
DRIFT_TIME = "2025-12-31T00:00:00Z"


@cache
def rendered(spec: str, generation: int) -> tuple[SomaMemory, list[Child]]:
    meta = {"name": "store", "namespace": "team", "uid": "u", "generation": generation}
    memory = SomaMemory.parse({"metadata": meta, "spec": json.loads(spec)})
    return memory, children(Inputs(memory, Defaults("image:1", "1"), "d"))


def findings(spec: dict[str, Any] | None = None, rollout: Rollout | None = COMPLETE, generation: int = 1) -> Findings:
    memory, wanted = rendered(json.dumps(spec or {}), generation)
    facts = {}
    for child in wanted:
        content = {DEPLOYMENT: rollout, VOLUME_CLAIM: Volume("Bound")}.get(child.ref.kind)
        facts[child.ref] = Facts(
            ref=child.ref, uid="x", resource_version=1, deleting=False, memory="store", managed=True,
            owner=("SomaMemory", "store", "u"), adopt=None, desired_hash=child.hash,
            template_hash=child.template_hash, digest=child.digest, content=content,
        )  # fmt: skip
    if rollout is None:
        facts = {ref: known for ref, known in facts.items() if ref.kind is not DEPLOYMENT}
    found = Findings("store", "team", generation, memory, children=wanted, facts=facts, image="image:1", version="1")
    found.volume = VolumeVerdict(VolumeState.PRESENT, "store-data", "v1")
    found.volume_phase = "Bound"
    return found


def told(found: Findings, before: SomaMemoryStatus | None = None, now: str = NOW) -> dict[str, tuple[str, str]]:
    status = memory_status(found, before or SomaMemoryStatus(), now)
    return {condition.type: (condition.status.value, condition.reason) for condition in status.conditions}


def test_a_complete_rollout_is_ready_and_current() -> None:
    conditions = told(findings())
    assert conditions["Ready"] == ("True", "Serving")
    assert conditions["Synced"] == ("True", "AllApplied")
    assert conditions["DatabaseReady"] == ("True", "Embedded")
    assert not {"Reconciling", "Stalled"} & set(conditions)
    assert set(conditions) == {kind.value for kind in MemoryConditionType} - {"Reconciling", "Stalled"}


@pytest.mark.parametrize(
    ("rollout", "reason"),
    [
        (None, "Progressing"),
        (STARTING, "PodsNotReady"),
        (replace(COMPLETE, observed_generation=0), "RollingOut"),
        (replace(COMPLETE, updated=0, total=1), "RollingOut"),
    ],
)
def test_an_incomplete_rollout_is_in_progress(rollout: Rollout | None, reason: str) -> None:
    conditions = told(findings(rollout=rollout))
    assert conditions["Ready"] == ("False", reason)
    assert conditions["Reconciling"] == ("True", reason)
    assert "Stalled" not in conditions


def test_an_old_template_that_serves_is_available_and_not_ready() -> None:
    found = findings()
    child = found.deployment
    assert child is not None
    found.facts = {**found.facts, child.ref: replace(found.facts[child.ref], desired_hash="old")}
    conditions = told(found)
    assert (conditions["Ready"][0], conditions["Available"]) == ("False", ("True", "Serving"))


def test_a_passed_deadline_is_stalled_with_the_pods_reason() -> None:
    found = findings(rollout=replace(STARTING, deadline_exceeded=True))
    found.pods = Failure(Reason.IMAGE_PULL_FAILED, "the image cannot be pulled")
    status = memory_status(found, SomaMemoryStatus(), NOW)
    stalled = next(c for c in status.conditions if c.type == "Stalled")
    assert stalled.reason == "ProgressDeadlineExceeded"
    assert "cannot be pulled" in stalled.message
    assert "Reconciling" not in {condition.type for condition in status.conditions}


def test_missing_rights_for_one_kind_stall_nothing() -> None:
    found = findings()
    policy = next(child.ref for child in found.children if child.ref.kind is NETWORK_POLICY)
    found.failures[policy] = Failure(Reason.FORBIDDEN, "the operator may not patch this kind")
    conditions = told(found)
    assert conditions["NetworkRestricted"] == ("False", "Forbidden")
    assert conditions["Synced"] == ("False", "Forbidden")
    assert "Stalled" not in conditions


@pytest.mark.parametrize("reason", [Reason.RESOURCE_CONFLICT, Reason.IMMUTABLE_CONFLICT, Reason.REFUSED])
def test_a_permanent_refusal_stalls(reason: Reason) -> None:
    found = findings()
    config = next(child.ref for child in found.children if child.ref.kind is CONFIG_MAP)
    found.failures[config] = Failure(reason, "no")
    assert told(found)["Stalled"] == ("True", reason.value)


def test_initialized_never_goes_back() -> None:
    served = memory_status(findings(), SomaMemoryStatus(), NOW)
    assert told(findings(rollout=None), served)["Initialized"] == ("True", "Initialized")
    assert told(findings(rollout=None))["Initialized"] == ("False", "NeverServed")


def test_times_change_only_with_the_status_of_a_condition() -> None:
    first = memory_status(findings(rollout=STARTING), SomaMemoryStatus(), NOW)
    second = memory_status(findings(rollout=STARTING), first, LATER)
    assert second == first
    third = memory_status(findings(), first, LATER)
    times = {condition.type: condition.last_transition_time for condition in third.conditions}
    assert (times["Ready"], times["Suspended"]) == (LATER, NOW)


def test_an_update_by_the_operator_that_waits_leaves_it_ready() -> None:
    found = findings()
    child = found.deployment
    assert child is not None
    found.facts = {**found.facts, child.ref: replace(found.facts[child.ref], desired_hash="of the former operator")}
    found.waits_for_slot = True
    conditions = told(found)
    assert conditions["Ready"] == ("True", "Serving")
    assert conditions["Synced"] == ("False", "WaitingForSlot")
    assert "Reconciling" not in conditions
    assert memory_status(found, SomaMemoryStatus(), NOW).history[0].completed_at is None


def test_a_missing_disruption_budget_does_not_keep_it_from_serving() -> None:
    found = findings()
    budget = next(child.ref for child in found.children if child.ref.kind is DISRUPTION_BUDGET)
    found.failures[budget] = Failure(Reason.FORBIDDEN, "no")
    assert told(found)["Ready"] == ("True", "Serving")
    assert told(found)["Synced"] == ("False", "Forbidden")


def test_a_lost_volume_keeps_its_record() -> None:
    before = memory_status(findings(), SomaMemoryStatus(), NOW)
    found = findings()
    found.volume = VolumeVerdict(VolumeState.LOST, "store-data", "v1")
    found.stall = Failure(Reason.DATA_LOST, "gone")
    after = memory_status(found, before, LATER)
    assert after.volume is not None
    assert after.volume.uid == "v1"
    assert told(found, before)["DatabaseReady"] == ("False", "DataLost")
    assert told(found, before)["Available"] == ("True", "Serving")


def test_an_invalid_spec_keeps_what_is_known_and_names_the_field() -> None:
    before = memory_status(findings(), SomaMemoryStatus(), NOW)
    found = findings()
    invalid = Findings("store", "team", 2, facts=found.facts)
    invalid.stall = Failure(Reason.INVALID_SPEC, "spec.api: no")
    after = memory_status(invalid, before, LATER)
    conditions = {condition.type: condition for condition in after.conditions}
    assert conditions["Stalled"].message == "spec.api: no"
    assert conditions["Available"].reason == "Serving"
    assert conditions["DatabaseReady"].reason == "Embedded"
    assert set(told(invalid)) == {kind.value for kind in MemoryConditionType} - {"Reconciling"}
    assert told(invalid)["DatabaseReady"] == ("Unknown", "InvalidSpec")


def test_suspended_is_not_reconciling() -> None:
    conditions = told(findings({"suspend": True}))
    assert conditions["Suspended"] == ("True", "Suspended")
    assert conditions["Ready"] == ("True", "Serving")
    stopped = told(findings({"suspend": True}, rollout=None))
    assert stopped["Ready"] == ("False", "Suspended")
    assert "Reconciling" not in stopped


def test_features_that_are_off_are_true_and_those_not_built_false() -> None:
    off = told(findings())
    assert {off[kind] for kind in ("KafkaReady", "TopicsReady", "ConsumerReady", "MonitoringReady")} == {
        ("True", "Disabled")
    }
    assert off["BackedUp"] == ("False", "NotImplemented")
    asked = told(
        findings({"observability": {"serviceMonitor": {"enabled": True}}, "networkPolicy": {"enabled": False}})
    )
    assert asked["MonitoringReady"] == ("False", "NotImplemented")
    assert asked["NetworkRestricted"] == ("True", "Disabled")


def edit(path: str = "f:spec", manager: str = "kubectl", time: str | None = DRIFT_TIME) -> Edit:
    return Edit(findings().children[0].ref, (path,), manager, time)


def drifted(*found: DriftFinding, generation: int = 1) -> Findings:
    made = findings(generation=generation)
    made.drift = list(found)
    made.examined = {str(child.ref) for child in made.children}
    return made


def drift_of(found: Findings, before: SomaMemoryStatus, now: str = LATER) -> tuple[int, list[str]]:
    drift = memory_status(found, before, now).drift
    assert drift is not None
    return drift.count, [item.action.value for item in drift.items]


def test_what_stands_is_counted_and_what_was_corrected_is_listed() -> None:
    reported = drifted(DriftFinding(edit(), DriftAction.REPORTED))
    first = memory_status(reported, SomaMemoryStatus(), NOW)
    assert first.drift is not None
    assert (first.drift.count, first.drift.items[0].path) == (1, ".spec")
    assert memory_status(reported, first, LATER).drift == first.drift, "the same edit is counted once"
    corrected = memory_status(drifted(DriftFinding(edit(), DriftAction.CORRECTED)), first, LATER)
    assert drift_of(drifted(), corrected) == (0, ["Corrected"])
    assert drift_of(drifted(generation=2), corrected) == (0, ["Corrected"]), "of whatever generation"
    assert drift_of(drifted(), first) == (0, []), "its author took it back"


def test_a_correction_is_forgotten_after_a_day_however_old_the_edit_was() -> None:
    old = drifted(DriftFinding(edit(time="2020-01-01T00:00:00Z"), DriftAction.CORRECTED))
    corrected = memory_status(old, SomaMemoryStatus(), "2026-11-27T12:00:00Z")
    assert drift_of(drifted(), corrected, "2026-11-28T11:59:59Z") == (0, ["Corrected"])
    assert drift_of(drifted(), corrected, "2026-11-28T12:00:00Z") == (0, [])


def test_what_was_not_looked_at_stands_as_it_did() -> None:
    first = memory_status(drifted(DriftFinding(edit(), DriftAction.REPORTED)), SomaMemoryStatus(), NOW)
    assert drift_of(findings(), first) == (1, ["Reported"]), "suspended, or stalled before its turn"


def test_at_most_ten_edits_are_listed_those_that_stand_first_and_all_are_counted() -> None:
    def many(action: DriftAction, word: str) -> list[DriftFinding]:
        return [DriftFinding(edit(f"f:{word}{number:02}"), action) for number in range(14)]

    both = drifted(*many(DriftAction.CORRECTED, "a"), *many(DriftAction.REPORTED, "b"))
    assert drift_of(both, SomaMemoryStatus()) == (14, ["Reported"] * 10)
    assert drift_of(findings(), memory_status(both, SomaMemoryStatus(), NOW)) == (14, ["Reported"] * 10)
    assert drift_of(drifted(*many(DriftAction.CORRECTED, "a")), SomaMemoryStatus()) == (0, ["Corrected"] * 10)


def test_an_edit_without_a_time_does_not_make_the_status_flap() -> None:
    found = drifted(DriftFinding(edit(time=None), DriftAction.REPORTED))
    first = memory_status(found, SomaMemoryStatus(), NOW)
    assert memory_status(found, first, LATER) == first


def test_open_drift_is_not_synced() -> None:
    assert told(drifted(DriftFinding(edit(), DriftAction.REPORTED)))["Synced"] == ("False", "DriftDetected")
    assert told(drifted(DriftFinding(edit(), DriftAction.BACKING_OFF)))["Synced"] == ("False", "DriftBackingOff")
    assert told(drifted(DriftFinding(edit(), DriftAction.CORRECTED)))["Synced"] == ("True", "AllApplied")


def test_history_holds_five_generations_newest_first() -> None:
    status = SomaMemoryStatus()
    for generation in range(1, 8):
        spec = {"observability": {"logLevel": "DEBUG" if generation % 2 else "INFO"}}
        status = memory_status(findings(spec, generation=generation), status, NOW)
    assert [entry.generation for entry in status.history] == [7, 6, 5, 4, 3]
    assert {(entry.outcome, entry.completed_at) for entry in status.history} == {("Serving", NOW)}
    unfinished = memory_status(findings(rollout=STARTING, generation=8), status, LATER)
    assert (unfinished.history[0].outcome, unfinished.history[0].completed_at) == ("PodsNotReady", None)


def test_preflight_has_ten_points_with_evidence() -> None:
    checks = memory_status(findings(), SomaMemoryStatus(), NOW).preflight
    assert [check.name for check in checks] == list(PreflightPoint)
    found = {check.name.value: check.status.value for check in checks}
    assert found["TLSAssetsMounted"] == found["KafkaReadiness"] == "NotApplicable"
    assert found["PersistenceEnabled"] == found["AccessControls"] == found["RestartOnRotation"] == "Passed"
    assert found["BackupsRunning"] == found["DisasterRecoveryDrill"] == found["Observability"] == "Failed"
    scraped = findings({"podTemplate": {"annotations": {"prometheus.io/scrape": "true"}}})
    checks = memory_status(scraped, SomaMemoryStatus(), NOW).preflight
    assert next(c for c in checks if c.name is PreflightPoint.OBSERVABILITY).status.value == "Passed"


REASONS = st.sampled_from(list(Reason))
FAILURES = st.lists(st.tuples(st.integers(0, 9), REASONS, st.text(max_size=400)), max_size=4)
ROLLOUTS = st.one_of(
    st.none(),
    st.builds(
        Rollout, st.integers(0, 3), st.integers(0, 3), st.just(1), st.integers(0, 2), st.integers(0, 2),
        st.integers(0, 2), st.integers(0, 2), st.booleans(),
    ),
)  # fmt: skip


@settings(deadline=None)  # a loaded machine is no defect
@given(ROLLOUTS, FAILURES, st.booleans(), st.booleans())
def test_any_findings_give_a_settled_kstatus_true_status(
    rollout: Rollout | None, failures: list[tuple[int, Reason, str]], suspend: bool, slot: bool
) -> None:
    found = findings({"suspend": suspend}, rollout)
    for index, reason, message in failures:
        found.failures[found.children[index].ref] = Failure(reason, message)
    found.waits_for_slot = slot
    status = memory_status(found, SomaMemoryStatus(), NOW)
    assert memory_status(found, status, LATER) == status, "the same findings write nothing"
    conditions = {condition.type: condition.status.value for condition in status.conditions}
    assert not {"Stalled", "Reconciling"} <= set(conditions)
    if conditions["Ready"] == "True":
        assert not {"Stalled", "Reconciling"} & set(conditions)
    assert all(len(condition.message) <= 256 for condition in status.conditions)
    assert all(condition.reason in set(Reason) for condition in status.conditions)
    assert SomaMemoryStatus.model_validate(status.to_manifest(), by_alias=True, by_name=False) == status


def test_a_backup_is_stalled_because_it_is_not_made() -> None:
    problem = SpecError([Problem("spec.schedule", "no", "")])
    for found, reason in (
        (BackupFindings(1, None, problem, memory_exists=False), "InvalidSpec"),
        (BackupFindings(1, None, None, memory_exists=True), "NotImplemented"),
    ):
        status = backup_status(found, SomaMemoryBackupStatus(), NOW)
        conditions = {condition.type: condition.reason for condition in status.conditions}
        assert conditions["Stalled"] == conditions["Ready"] == reason
        assert set(conditions) == {kind.value for kind in BackupConditionType} - {"Reconciling"}
        assert backup_status(found, status, LATER) == status
