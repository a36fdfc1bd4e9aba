"""Planning: what has to be done, from values alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soma_operator.api import SomaMemory, SomaMemorySpec
from soma_operator.catalog.kinds import CONFIG_MAP, DEPLOYMENT, JOB, SECRET, SERVICE, SOMA_MEMORY, VOLUME_CLAIM, Ref
from soma_operator.desired.children import Child, children
from soma_operator.desired.inputs import Defaults, Inputs
from soma_operator.observe.facts import Facts, Volume, facts_of
from soma_operator.observe.store import Parent
from soma_operator.plan.drift import Corrections
from soma_operator.plan.migration import MigrationState, judge_migration, restarts_pods
from soma_operator.plan.readiness import unsafe_to_ignore
from soma_operator.plan.steps import Step, Verb, Verdict, plan
from soma_operator.plan.volume import VolumeState, judge_volume
from soma_operator.reconcile.carrying_out import unasked_rollout

BODY = {"metadata": {"name": "store", "namespace": "team", "uid": "u", "generation": 1}, "spec": {}}
CHILDREN = children(Inputs(SomaMemory.parse(BODY), Defaults("image:1", "1")))


def applied(child: Child, **changes: object) -> Facts:
    facts = Facts(
        ref=child.ref, uid=f"uid-{child.ref}", resource_version=1, deleting=False, memory="store", managed=True,
        owner=("SomaMemory", "store", "u"), adopt=None, desired_hash=child.hash, template_hash=child.template_hash,
        digest=child.digest,
    )  # fmt: skip
    return replace(facts, **changes)  # type: ignore[arg-type]


def verbs(observed: dict[Ref, Facts], verdicts: dict[str, Verdict] | None = None) -> dict[str, Verb]:
    return {str(step.ref): step.verb for step in plan("store", "u", CHILDREN, observed, verdicts or {})}


ALL = {child.ref: applied(child) for child in CHILDREN}


def test_nothing_there_creates_everything_in_order() -> None:
    steps = plan("store", "u", CHILDREN, {}, {})
    assert {step.verb for step in steps} == {Verb.CREATE}
    order = [step.ref.kind.name for step in steps]
    assert order.index("NetworkPolicy") < order.index("Secret") < order.index("Service") < order.index("Deployment")


def test_all_as_it_should_be_costs_nothing() -> None:
    assert set(verbs(ALL).values()) == {Verb.LEAVE}


def carry_out(steps: list[Step], observed: dict[Ref, Facts]) -> dict[Ref, Facts]:
    """What a faithful API server makes of the steps."""
    after = dict(observed)
    for step in steps:
        if step.verb is Verb.DELETE:
            del after[step.ref]
        elif step.child is not None and step.verb in (Verb.CREATE, Verb.CHANGE, Verb.VERIFY):
            after[step.ref] = applied(step.child)
    return after


FACTS = st.fixed_dictionaries(
    {},
    optional={
        child.ref: st.builds(
            applied,
            st.just(child),
            desired_hash=st.sampled_from([child.hash, "old", None]),
            digest=st.sampled_from([child.digest, "edited", None]),
        )
        for child in CHILDREN
    },
)


@settings(deadline=None)  # a loaded machine is no defect
@given(FACTS)
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(observed: dict[Ref, Facts]) -> None:
    after = carry_out(plan("store", "u", CHILDREN, observed, {}), observed)
    again = plan("store", "u", CHILDREN, after, {})
    assert {step.verb for step in again} == {Verb.LEAVE}


@settings(deadline=None)  # a loaded machine is no defect
@given(FACTS)
def test_a_plan_depends_on_nothing_but_its_inputs(observed: dict[Ref, Facts]) -> None:
    backwards = dict(reversed(list(observed.items())))
    assert plan("store", "u", CHILDREN, observed, {}) == plan("store", "u", CHILDREN, backwards, {})


@pytest.mark.parametrize(
    ("changes", "verb"),
    [
        ({"desired_hash": "old"}, Verb.CHANGE),
        ({"digest": None}, Verb.CHANGE),
        ({"digest": "edited"}, Verb.VERIFY),
        ({"deleting": True}, Verb.WAIT),
        ({"owner": ("SomaMemory", "another", "x"), "memory": "another"}, Verb.CONFLICT),
        ({"owner": ("Application.argoproj.io", "app", "x")}, Verb.CONFLICT),
        ({"owner": None, "managed": False, "memory": None, "digest": None}, Verb.CONFLICT),
        ({"owner": None, "managed": False, "memory": None, "digest": None, "adopt": "store"}, Verb.CHANGE),
        ({"owner": None, "managed": False, "memory": None, "digest": None, "adopt": "another"}, Verb.CONFLICT),
        # Cloned or restored: the owner of a former life, of the same name.
        ({"owner": ("SomaMemory", "store", "former")}, Verb.LEAVE),
    ],
)
def test_one_objects_step(changes: dict[str, object], verb: Verb) -> None:
    child = next(child for child in CHILDREN if child.ref.kind is CONFIG_MAP)
    assert verbs({**ALL, child.ref: applied(child, **changes)})[str(child.ref)] is verb


def test_a_verdict_saves_the_second_question_until_something_changes() -> None:
    child = CHILDREN[0]
    odd = applied(child, digest="odd")
    trusted = {odd.uid: Verdict(child.hash, "odd", drifted=False)}
    assert verbs({**ALL, child.ref: odd}, trusted)[str(child.ref)] is Verb.LEAVE
    assert verbs({**ALL, child.ref: replace(odd, digest="edited")}, trusted)[str(child.ref)] is Verb.VERIFY


def test_what_is_no_longer_desired_is_deleted_but_never_data() -> None:
    extra = next(child for child in CHILDREN if child.ref.kind is SERVICE)
    old = {
        Ref(kind, "team", "old"): applied(extra, ref=Ref(kind, "team", "old"))
        for kind in (SERVICE, SECRET, VOLUME_CLAIM)
    }
    found = verbs({**ALL, **old})
    assert found["Service/old"] is Verb.DELETE
    assert "Secret/old" not in found
    assert "PersistentVolumeClaim/old" not in found
    stranger = {Ref(SERVICE, "team", "old"): applied(extra, ref=Ref(SERVICE, "team", "old"), owner=None)}
    assert "Service/old" not in verbs({**ALL, **stranger})


CLAIM = next(child for child in CHILDREN if child.ref.kind is VOLUME_CLAIM)
THERE = applied(CLAIM, uid="v1", content=Volume("Bound"))


@pytest.mark.parametrize(
    ("recorded", "facts", "accepted", "state"),
    [
        (None, None, None, VolumeState.TO_CREATE),
        (None, THERE, None, VolumeState.PRESENT),
        ("v1", THERE, None, VolumeState.PRESENT),
        ("v1", None, None, VolumeState.LOST),
        ("v1", None, "v1", VolumeState.TO_CREATE),
        ("v1", None, "v0", VolumeState.LOST),
        ("v0", THERE, None, VolumeState.LOST),
        ("v0", THERE, "v0", VolumeState.PRESENT),
        ("v1", replace(THERE, deleting=True), None, VolumeState.LEAVING),
        ("v1", replace(THERE, content=Volume("Lost")), None, VolumeState.LOST),
    ],
)
def test_the_volume_is_never_silently_replaced(
    recorded: str | None, facts: Facts | None, accepted: str | None, state: VolumeState
) -> None:
    verdict = judge_volume("store-data", recorded, facts, accepted, existing=False)
    assert verdict.state is state
    assert verdict.usable == (state in (VolumeState.TO_CREATE, VolumeState.PRESENT))


def test_somebody_elses_claim_is_waited_for() -> None:
    assert judge_volume("mine", None, None, None, existing=True).state is VolumeState.WAITING
    assert judge_volume("mine", "v1", None, None, existing=True).state is VolumeState.LOST


def test_corrections_are_bounded_for_each_manager_and_window() -> None:
    now = [0.0]
    corrections = Corrections(lambda: now[0])
    ref = CHILDREN[0].ref
    for _ in range(5):
        assert corrections.allowed(ref, "argo")
        corrections.note(ref, "argo")
        now[0] += 10
    assert not corrections.allowed(ref, "argo")
    assert corrections.allowed(ref, "kubectl")
    assert corrections.allowed(CHILDREN[1].ref, "argo")
    assert corrections.retry_after(ref, "argo") == pytest.approx(550)
    now[0] = 600.5
    assert corrections.allowed(ref, "argo")


def test_what_is_unsafe_to_ignore_names_its_field() -> None:
    spec = SomaMemorySpec.model_validate({"encryption": {"keySecretRef": {"name": "a", "key": "b"}}})
    assert [problem.field for problem in unsafe_to_ignore(spec)] == ["spec.encryption"]
    assert unsafe_to_ignore(SomaMemorySpec()) == []


def test_distributed_mode_is_built_and_half_a_verification_is_not() -> None:
    def problems(tls: dict[str, str]) -> list[str]:
        postgresql = {"host": "pg", "credentialsSecretRef": {"name": "pg"}, "tls": {"mode": "Required"}}
        endpoints = {"postgresql": postgresql, "redis": {"host": "r", "tls": tls}}
        spec = SomaMemorySpec.model_validate({"mode": "distributed", "endpoints": endpoints})
        return [problem.field for problem in unsafe_to_ignore(spec)]

    assert problems({"mode": "Disabled"}) == problems({"mode": "VerifyFull"}) == []
    assert problems({"mode": "Required"}) == ["spec.endpoints.redis.tls.mode"]


MIGRATED = facts_of(JOB, {"metadata": {}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}})
RUNNING = facts_of(JOB, {"metadata": {}, "status": {"active": 1}})
FAILED = facts_of(JOB, {"metadata": {}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}})


@pytest.mark.parametrize(
    ("facts", "state"),
    [
        (None, MigrationState.WAITING),
        (RUNNING, MigrationState.RUNNING),
        (MIGRATED, MigrationState.DONE),
        (FAILED, MigrationState.FAILED),
        (replace(MIGRATED, deleting=True), MigrationState.WAITING),
    ],
)
def test_a_migration_is_judged_by_its_job(facts: Facts | None, state: MigrationState) -> None:
    assert judge_migration(CHILDREN[0], facts) is state
    assert judge_migration(None, facts) is MigrationState.NOT_NEEDED


def test_only_new_pods_wait_for_a_migration() -> None:
    deployment = next(child for child in CHILDREN if child.ref.kind is DEPLOYMENT)
    same = applied(deployment, desired_hash="other replicas")
    newer = applied(deployment, template_hash="other pods")
    assert restarts_pods(Step(Verb.CREATE, deployment.ref, deployment))
    assert restarts_pods(Step(Verb.CHANGE, deployment.ref, deployment, newer))
    assert not restarts_pods(Step(Verb.CHANGE, deployment.ref, deployment, same))
    assert not restarts_pods(Step(Verb.LEAVE, deployment.ref, deployment, newer))


SERVED_ONCE = [{"generation": 1, "completedAt": "2026-11-27T00:00:00Z", "outcome": "Serving"}]


@pytest.mark.parametrize(
    ("history", "unasked"),
    [
        (None, False),
        ([{"generation": 2, "outcome": "MigrationRunning"}, *SERVED_ONCE], False),
        ([{"generation": 2, "outcome": "Serving"}, {"generation": 2, "completedAt": "2026-11-27T00:00:01Z"}], True),
    ],
)
def test_a_rollout_was_asked_for_until_its_generation_has_served(
    history: list[dict[str, object]] | None, unasked: bool
) -> None:
    # The second case was seen: a new version migrated first, and by then its generation was an observed one.
    status = {"observedGeneration": 2, "version": {"current": "1"}, "history": history}
    body = {**BODY, "metadata": {**BODY["metadata"], "generation": 2}, "status": status}
    parent = Parent(Ref(SOMA_MEMORY, "team", "store"), "u", 1, body)
    deployment = next(child for child in CHILDREN if child.ref.kind is DEPLOYMENT)
    change = Step(Verb.CHANGE, deployment.ref, deployment, applied(deployment, template_hash="other pods"))
    job = Step(Verb.CREATE, Ref(JOB, "team", "store-migrate"), deployment)
    assert [unasked_rollout(step, parent) for step in (change, job)] == [unasked, unasked]
    same = Step(Verb.CHANGE, deployment.ref, deployment, applied(deployment, desired_hash="other replicas"))
    assert not unasked_rollout(same, parent), "it restarts no pod"
