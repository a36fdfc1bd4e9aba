"""Specs as the operator parses them: defaults, refusals that name the field, and texts that never repeat a value."""

from __future__ import annotations

from typing import Any

import pytest

from memory_runtime.model.weights import SLACK, exceed_one
from soma_operator.api import Mode, SomaMemory, SomaMemoryBackup, SpecError
from soma_operator.api.endpoints import Endpoints
from soma_operator.api.network import NetworkPolicy
from soma_operator.api.persistence import DeletionPolicy
from soma_operator.api.references import TLSMode
from soma_operator.api.resources import NAME_LIMIT
from soma_operator.api.scoring import MOST_WEIGHT
from soma_operator.api.spec import DriftPolicy

PARSERS = {"SomaMemory": SomaMemory.parse, "SomaMemoryBackup": SomaMemoryBackup.parse}


def parsed(spec: dict[str, Any] | None, **body: Any) -> SomaMemory:
    return SomaMemory.parse({"metadata": {"name": "tested", "namespace": "here"}, "spec": spec} | body)


def refusal(spec: dict[str, Any]) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parsed(spec)
    return caught.value


def test_an_empty_spec_is_one_embedded_store_that_keeps_its_data() -> None:
    spec = parsed({}).spec
    assert spec.mode is Mode.EMBEDDED
    assert spec.persistence.size == "10Gi"
    assert spec.scoring.embedding.dimension == 384
    assert spec.deletion_policy is DeletionPolicy.RETAIN
    assert spec.drift_policy is DriftPolicy.ENFORCE
    assert spec.suspend is False


def test_what_guards_the_service_is_on_unless_switched_off() -> None:
    spec = parsed({}).spec
    assert spec.network_policy.enabled
    postgresql = {"host": "pg.data.svc", "credentialsSecretRef": {"name": "pg"}}
    endpoints = Endpoints.model_validate({"postgresql": postgresql})
    assert endpoints.postgresql is not None
    assert endpoints.postgresql.tls.mode is TLSMode.VERIFY_FULL


def test_authentication_cannot_be_switched_off() -> None:
    assert not {"disabled", "anonymous", "enabled"} & set(type(parsed({}).spec.access).model_fields)


def test_nothing_is_deleted_unless_asked_for() -> None:
    assert set(parsed({}).spec.retention.model_dump().values()) == {None}


@pytest.mark.parametrize("mode", [None, {}])
def test_a_spec_that_is_absent_is_an_empty_one(mode: Any) -> None:
    assert parsed(mode).spec == parsed({}).spec


def test_a_violation_is_refused_by_the_parser_too(refused_spec: Any) -> None:
    with pytest.raises(SpecError) as caught:
        PARSERS[refused_spec.kind](refused_spec.body())
    reason = refused_spec.says.partition(": ")[0].removeprefix("metadata.name ")
    assert reason in str(caught.value) or reason == "a key does not have the form"


def test_a_refusal_names_the_field_as_kubectl_explain_does() -> None:
    assert refusal({"scoring": {"halfLife": "soon"}}).field == "spec.scoring.halfLife"
    assert refusal({"podTemplate": {"env": [{"value": "x"}]}}).field == "spec.podTemplate.env[0].name"
    assert refusal({"api": {"replicas": 2}}).field == "spec.api.replicas"


def test_a_field_that_does_not_exist_is_refused_even_in_its_pythonic_spelling() -> None:
    assert refusal({"scoring": {"half_life": "3d"}}).field == "spec.scoring.half_life"


def test_a_wrong_item_is_named_and_not_the_list_that_lacks_it() -> None:
    assert (
        refusal({"networkPolicy": {"extraEgress": [{"to": [{}]}]}}).field == "spec.networkPolicy.extraEgress[0].to[0]"
    )


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"scoring": {"halfLife": "1" * 19 + "d"}}, "spec.scoring.halfLife"),
        ({"scoring": {"halfLifeByType": {"a": "0.0d"}}}, "spec.scoring.halfLifeByType.a"),
        ({"retention": {"ttl": "1" * 31 + "h"}}, "spec.retention.ttl"),
        ({"tenancy": {"namespace": "tab\there"}}, "spec.tenancy.namespace"),
        ({"tenancy": {"defaultTenant": "zero\u200bwidth"}}, "spec.tenancy.defaultTenant"),
        ({"events": {"topic": ".."}}, "spec.events.topic"),
        ({"endpoints": {"kafka": {"bootstrapServers": ["k:65536"]}}}, "spec.endpoints.kafka.bootstrapServers[0]"),
        ({"endpoints": {"kafka": {"bootstrapServers": ["k..x:1"]}}}, "spec.endpoints.kafka.bootstrapServers[0]"),
        ({"scoring": {"featureWeights": {"a": 0.5, "b": 0.5000001}}}, "spec.scoring.featureWeights"),
    ],
)
def test_what_the_runtime_would_not_start_with_is_refused(spec: dict[str, Any], field: str) -> None:
    assert refusal(spec).field == field


def test_names_may_be_of_any_script_and_topics_may_begin_with_dots() -> None:
    spec = parsed(
        {"tenancy": {"namespace": "Erinnerungen für 拉面"}, "events": {"topic": "..a", "auditTopic": ".b"}}
    ).spec
    assert (spec.tenancy.namespace, spec.events.topic, spec.events.audit_topic) == (
        "Erinnerungen für 拉面",
        "..a",
        ".b",
    )


def test_weights_that_admission_lets_through_pass_the_runtimes_rule_in_any_order() -> None:
    """One rule in two programs that may not import one another: the operator's bound leaves room for rounding."""
    assert MOST_WEIGHT - 1 < SLACK / 1.5
    weights = [MOST_WEIGHT / 16] * 16
    assert not exceed_one(weights)
    assert not exceed_one(reversed([*weights[:15], weights[15] + 1e-12]))
    assert exceed_one([0.5, 0.5 + 3 * SLACK])


def test_a_refusal_lists_every_problem_in_a_fixed_order() -> None:
    one = refusal({"unknown": 1, "api": {"replicas": 0}, "persistence": {"size": "big"}})
    other = refusal({"persistence": {"size": "big"}, "api": {"replicas": 0}, "unknown": 1})
    assert str(one) == str(other)
    assert [problem.field for problem in one.problems] == ["spec.api.replicas", "spec.persistence.size", "spec.unknown"]
    assert str(one).endswith("(and 2 more)")


@pytest.mark.parametrize(
    "spec",
    [
        {"access": {"tokenSecretRef": {"name": "HUNTER2", "key": "token"}}},
        {"podTemplate": {"env": [{"name": "HUNTER2 is no name"}]}},
        {"access": {"tokenSecretRef": "HUNTER2"}},
        {"access": {"tokenSecretRef": {"name": "a", "key": "HUNTER2!"}}},
    ],
)
def test_a_refusal_never_repeats_what_was_given(spec: dict[str, Any]) -> None:
    assert "HUNTER2" not in str(refusal(spec))


def test_a_refusal_fits_the_message_of_a_condition() -> None:
    assert len(str(refusal({"f" * 400: 1, "g": 1}))) <= 256


@pytest.mark.parametrize("name", ["", "A", "1st", "two.parts", "-a", "a-", "a" * (NAME_LIMIT + 1)])
def test_a_name_that_children_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(SpecError) as caught:
        parsed({}, metadata={"name": name})
    assert caught.value.field == "metadata.name"


@pytest.mark.parametrize("suffix", ["-consumer", "-settings", "-migrate-0123456789", "-backup"])
def test_the_longest_name_leaves_room_for_what_is_made_from_it(suffix: str) -> None:
    """52 characters for CronJobs, 63 for Jobs, Services and the values of labels."""
    assert len("a" * NAME_LIMIT + suffix) <= (52 if suffix == "-backup" else 63)


@pytest.mark.parametrize(
    ("scoring", "half_life"),
    [
        ({}, None),
        ({"preset": "balanced"}, "30d"),
        ({"preset": "recent"}, "1d"),
        ({"preset": "recent", "halfLife": "none"}, None),
        ({"halfLife": "12h"}, "12h"),
    ],
)
def test_a_half_life_that_is_set_wins_over_its_preset(scoring: dict[str, Any], half_life: str | None) -> None:
    assert parsed({"scoring": scoring}).spec.scoring.resolved_half_life == half_life


def test_a_number_of_cpus_may_be_written_without_quotes() -> None:
    resources = parsed({"api": {"resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}}).spec.api.resources
    assert resources is not None
    assert resources.requests == {"cpu": "1", "memory": "1Gi"}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"podTemplate": {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}}, "spec.podTemplate.env"),
        (
            {
                "api": {
                    "scheduling": {
                        "topologySpread": [
                            {"maxSkew": skew, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
                            for skew in (1, 2)
                        ]
                    }
                }
            },
            "spec.api.scheduling.topologySpread",
        ),
        ({"api": {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1500M"}}}}, ".resources.limits"),
        ({"image": {"repository": "Team/Runtime"}}, "spec.image.repository"),
        ({"api": {"resources": {"requests": {"nvidia.com/gpu": "1"}}}}, ".resources.limits"),
        ({"api": {"resources": {"limits": {"nvidia.com/gpu": "500m"}}}}, ".resources.limits"),
    ],
)
def test_what_kubernetes_would_refuse_in_a_child_is_refused_in_the_spec(spec: dict[str, Any], field: str) -> None:
    assert refusal(spec).field.endswith(field)


@pytest.mark.parametrize("repository", ["runtime", "registry:5000/runtime", "r.example.com/team/soma__runtime-x.y"])
def test_a_repository_is_whatever_a_registry_takes(repository: str) -> None:
    assert parsed({"image": {"repository": repository}}).spec.image.repository == repository


def test_a_manifest_has_the_names_of_the_wire_and_no_nulls() -> None:
    spec = parsed({"networkPolicy": {"from": [{"podSelector": {"matchLabels": {"a": "b"}}}]}}).spec
    manifest = spec.to_manifest()
    assert manifest["networkPolicy"]["from"] == [{"podSelector": {"matchLabels": {"a": "b"}}}]
    assert "externalSecret" not in manifest
    assert NetworkPolicy.model_validate(manifest["networkPolicy"]) == spec.network_policy


def test_a_status_of_another_version_is_understood_as_far_as_it_goes() -> None:
    condition = {"type": "Ready", "status": "True", "reason": "Serving", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {
        "observedGeneration": 3,
        "conditions": [condition],
        "newField": 1,
        "objects": "unreadable",
        "drift": {"x": 1},
    }
    memory = parsed({}, status=status)
    assert memory.status.observed_generation == 3
    assert memory.status.conditions[0].reason == "Serving"
    assert memory.status.objects is None


def test_metadata_that_is_absent_is_empty() -> None:
    memory = SomaMemory.parse({"metadata": {"name": "a"}})
    assert (memory.metadata.generation, memory.metadata.finalizers, memory.metadata.deletion_timestamp) == (0, (), None)
