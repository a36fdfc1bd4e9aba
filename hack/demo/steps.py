"""The steps of the demo, in order. Each says what it does, checks that it came out so, and raises DemoError where it
did not."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hack import install
from hack.cluster import Cluster, up
from hack.demo.conversation import Conversation, Question
from hack.demo.errors import DemoError
from hack.demo.screen import Screen
from hack.demo.service import Hit, Resource, batches, day
from hack.images import Image, build
from hack.kube import Kubectl, wait_until

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "manifests" / "samples" / "embedded-minimal.yaml"
NAMESPACE = "soma-demo"
HALF_LIFE = "120d"
TOP_K = 3
MOST_QUESTIONS = 6
READY_SECONDS = 180.0
EDITOR = "demo-editor"
DRIFT_LINES = 8  # Drift, Count, Items, and the five fields of one edit
DAY = 86_400.0


@dataclass
class Demo:
    """What the steps hand on to one another."""

    screen: Screen
    conversation: Conversation
    shipped: bool  # the conversation is ours, so that what must be found is known
    cluster_name: str
    cluster: Cluster | None = None
    images: dict[str, Image] = field(default_factory=dict)
    operator: Kubectl | None = None
    resource: Resource | None = None
    before: dict[str, list[Hit]] = field(default_factory=dict)

    @property
    def scope(self) -> str:
        """A memory namespace of its own for every input, so that no demo recalls another's."""
        told = json.dumps([[turn.coordinate, turn.text, turn.when] for turn in self.conversation.turns])
        return f"demo-{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    @property
    def as_of(self) -> float:
        return self.conversation.end + DAY

    def memory(self) -> Resource:
        assert self.resource is not None
        return self.resource


def start_cluster(demo: Demo) -> None:
    demo.cluster = up("node", demo.cluster_name)
    demo.screen.good(f"cluster '{demo.cluster.name}': export KUBECONFIG={demo.cluster.kubeconfig}")


def build_images(demo: Demo) -> None:
    demo.images = build()
    for image in demo.images.values():
        demo.screen.good(f"{image.name}: {image.size / 1e6:.0f} MB")


def install_operator(demo: Demo) -> None:
    assert demo.cluster is not None
    install.load_images(demo.cluster, demo.images)
    demo.operator = install.apply_operator(demo.cluster, demo.images)
    ready = demo.operator.get("deployment", "soma-operator")["status"].get("readyReplicas", 0)
    demo.screen.good(f"the operator runs in '{install.OPERATOR_NAMESPACE}', {ready} replicas ready")


def apply_sample(demo: Demo) -> None:
    assert demo.operator is not None
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    demo.operator.apply(yaml.safe_dump(namespace))
    kubectl = demo.operator.within(NAMESPACE)
    kubectl("apply", "-f", str(SAMPLE))
    demo.resource = Resource(kubectl, str(yaml.safe_load(SAMPLE.read_text())["metadata"]["name"]))
    await_ready(demo)
    demo.screen.say("")
    for line in kubectl("get", "somamemory", demo.resource.name).splitlines():
        demo.screen.say(line)


def await_ready(demo: Demo) -> None:
    memory = demo.memory()
    wanted = demo.images["soma-memory-runtime"].pinned_ref
    started = time.monotonic()

    def ready() -> bool:
        # A memory of an earlier demo is Ready until the new operator replaces its pod by one of the new image.
        return memory.is_true("Ready") and {pod["spec"]["containers"][0]["image"] for pod in memory.pods()} == {wanted}

    if not demo.screen.watch(memory.rows, ready, READY_SECONDS):
        found = memory.condition("Ready")
        raise DemoError(
            f"{memory.name} is not Ready after {READY_SECONDS:.0f} s: {found.get('reason', 'no condition yet')}: "
            f"{found.get('message', '')}",
            f"kubectl -n {NAMESPACE} describe somamemory {memory.name}; kubectl -n {NAMESPACE} describe pods",
        )
    demo.screen.good(f"Ready after {time.monotonic() - started:.1f} s")


def store_conversation(demo: Demo) -> None:
    turns = demo.conversation.turns
    with demo.memory().api(demo.scope) as api:
        for batch in batches(demo.conversation):
            api.store(batch)
        stats = api.stats()
    first, last = min(turn.when for turn in turns), max(turn.when for turn in turns)
    demo.screen.good(f"{len(turns)} memories of {demo.conversation.source}, {day(first)} to {day(last)}")
    if stats["total_memories"] != len({turn.coordinate for turn in turns}):
        raise DemoError(f"{len(turns)} memories were stored, but /stats counts {stats['total_memories']}")
    demo.screen.say(f"embedded by {stats['embedding_provider']}, {stats['vector_dim']} dimensions")
    if demo.shipped and "hash" in str(stats["embedding_provider"]):
        raise DemoError("the memory embeds by hashing", "the image should carry the model's weights: make images")


# --- recalling
# -------------------------------------------------------------------------------------------------------


def recall_questions(demo: Demo) -> None:
    changed = 0
    questions = demo.conversation.questions[:MOST_QUESTIONS]
    demo.screen.say(f"asked as of {day(demo.as_of)}; score = similarity x importance x decay; * holds the answer")
    with demo.memory().api(demo.scope) as api:
        for question in questions:
            plain = api.recall(question.text, "none", demo.as_of, TOP_K)
            decayed = api.recall(question.text, HALF_LIFE, demo.as_of, TOP_K)
            demo.before[question.text] = decayed
            _show(demo, question, plain, decayed)
            for hits in (plain, decayed):
                _check_arithmetic(question, hits)
            _check_found(demo, question, plain if question.lasting else decayed)
            changed += [hit.key for hit in plain] != [hit.key for hit in decayed]
    demo.screen.say("")
    demo.screen.good(
        f"every score is the product of its factors; the half-life changed {changed} of {len(questions)} answers"
    )
    if demo.shipped and not changed:
        raise DemoError("the half-life changed no answer of the shipped conversation")


def _show(demo: Demo, question: Question, plain: list[Hit], decayed: list[Hit]) -> None:
    demo.screen.say("")
    answer = f"  (answer: {question.answer})" if question.answer else ""
    demo.screen.say(f"{question.text}{answer}{'  This lasts: ask without a half-life.' if question.lasting else ''}")
    rows = [_row(question, "none", hit) for hit in plain] + [_row(question, HALF_LIFE, hit) for hit in decayed]
    headings = ("half-life", "score", "similarity", "importance", "decay", "said on", "", "memory")
    demo.screen.table(headings, rows, right=(1, 2, 3, 4))


def _row(question: Question, half_life: str, hit: Hit) -> tuple[str, ...]:
    factors = hit.factors
    numbers = (hit.score, factors["similarity"], factors["importance"], factors["decay"])
    mark = "*" if hit.key in question.evidence else ""
    return (half_life, *(f"{number:.3f}" for number in numbers), day(hit.when), mark, _shortened(hit.text))


def _shortened(text: str, most: int = 72) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _check_arithmetic(question: Question, hits: list[Hit]) -> None:
    for hit in hits:
        factors = hit.factors
        product = (
            max(0.0, factors["similarity"]) ** factors["similarity_exponent"]
            * factors["importance"] ** factors["importance_exponent"]
            * factors["decay"]
            * math.prod(value**weight for value, weight in factors["features"].values())
        )
        if not math.isclose(product, hit.score, rel_tol=1e-6, abs_tol=1e-9):
            raise DemoError(f"{question.text!r}: the score {hit.score} is not the product {product} of its factors")
    if [hit.score for hit in hits] != sorted((hit.score for hit in hits), reverse=True):
        raise DemoError(f"{question.text!r}: the memories came back in an order that is not that of their scores")


def _check_found(demo: Demo, question: Question, hits: list[Hit]) -> None:
    if not hits:
        raise DemoError(f"{question.text!r}: nothing was recalled")
    if demo.shipped and hits[0].key not in question.evidence:
        raise DemoError(f"{question.text!r}: the answer is in {question.evidence}, but {hits[0].key} came first")


# --- what a cluster does to it
# ---------------------------------------------------------------------------------------


def delete_pod(demo: Demo) -> None:
    memory = demo.memory()
    pods = memory.pods()
    if not pods:
        raise DemoError(f"{memory.name} has no pod to delete", f"kubectl -n {NAMESPACE} get pods")
    former = pods[0]["metadata"]
    memory.kubectl("delete", "pod", str(former["name"]), "--wait=false")
    demo.screen.say(f"deleted pod {former['name']}")

    def another_is_ready() -> bool:
        now = memory.pods()
        ready = [pod for pod in now if any(one["ready"] for one in pod["status"].get("containerStatuses") or [])]
        return bool(ready) and all(pod["metadata"]["uid"] != former["uid"] for pod in now) and memory.is_true("Ready")

    if not demo.screen.watch(memory.rows, another_is_ready, READY_SECONDS):
        raise DemoError(f"no other pod became ready within {READY_SECONDS:.0f} s", f"kubectl -n {NAMESPACE} get events")
    with memory.api(demo.scope) as api:
        for text, before in demo.before.items():
            after = api.recall(text, HALF_LIFE, demo.as_of, TOP_K)
            if [(hit.key, hit.score) for hit in after] != [(hit.key, hit.score) for hit in before]:
                raise DemoError(f"{text!r} is answered otherwise than before the pod was deleted")
    demo.screen.good(f"another pod answers all {len(demo.before)} questions as before, to the last bit of every score")


def show_drift(demo: Demo) -> None:
    memory = demo.memory()
    path = "terminationGracePeriodSeconds"
    live = memory.kubectl.get("deployment", memory.name)["spec"]["template"]["spec"][path]
    known = _edits(memory.read())
    patch = json.dumps({"spec": {"template": {"spec": {path: live + 1}}}})
    memory.kubectl("patch", "deployment", memory.name, "--type=strategic", "-p", patch, f"--field-manager={EDITOR}")
    demo.screen.say(f"edited the Deployment as '{EDITOR}': {path} {live} -> {live + 1}")
    started = time.monotonic()

    def mended() -> bool:
        return bool(memory.kubectl.get("deployment", memory.name)["spec"]["template"]["spec"][path] == live)

    def reported() -> bool:
        return bool(_edits(memory.read()) - known)

    wait_until(mended, "the edit to be corrected", timeout=20)
    demo.screen.good(f"corrected after {time.monotonic() - started:.1f} s")
    wait_until(reported, "the drift to be reported in the status", timeout=20)
    described = memory.kubectl("describe", "somamemory", memory.name).splitlines()
    shown = _drift_lines(described)
    demo.screen.say(f"kubectl -n {NAMESPACE} describe somamemory {memory.name}")
    for line in shown:
        demo.screen.say(f"  {line}")
    if not any(path in line for line in shown) or not any(EDITOR in line for line in shown):
        raise DemoError(f"kubectl describe tells neither {path} nor who edited it ({EDITOR})")
    await_ready(demo)


def _edits(resource: Mapping[str, Any]) -> set[tuple[str, str, str]]:
    """The edits that a SomaMemory's status lists: who changed what, and when."""
    items = resource.get("status", {}).get("drift", {}).get("items", ())
    return {(str(item["path"]), str(item.get("manager")), str(item.get("time"))) for item in items}


def _drift_lines(described: list[str]) -> list[str]:
    """Of the status, the head of the block `Drift:` with its newest edit; of the events, those about drift."""
    start = next((number for number, line in enumerate(described) if line.strip() == "Drift:"), None)
    if start is None:
        return []
    depth = len(described[start]) - len(described[start].lstrip())
    block = [described[start]]
    for line in described[start + 1 : start + DRIFT_LINES]:
        if len(line) - len(line.lstrip()) <= depth:
            break
        block.append(line)
    events = described[described.index("Events:") :] if "Events:" in described else []
    return [line[depth:] for line in block] + [line.strip() for line in events if "Drift" in line][-2:]


def what_next(demo: Demo) -> None:
    assert demo.cluster is not None
    name = demo.memory().name
    demo.screen.say(f"export KUBECONFIG={demo.cluster.kubeconfig}")
    for line in (
        f"kubectl -n {NAMESPACE} describe somamemory {name}              # conditions, drift, events",
        "kubectl explain somamemory.spec.scoring.halfLife               # what each field means",
        f'kubectl -n {NAMESPACE} patch smem {name} --type=merge -p \'{{"spec":{{"scoring":{{"halfLife":"30d"}}}}}}\'',
        f"kubectl -n {NAMESPACE} port-forward service/{name} 9595 &        # then, with its token:",
        f"TOKEN=$(kubectl -n {NAMESPACE} get secret {name}-token -o jsonpath='{{.data.token}}' | base64 -d)",
        'curl -H "Authorization: Bearer $TOKEN" localhost:9595/stats',
        "make demo DEMO_INPUT=FILE                                      # your own conversation: docs/demo.md",
        "make demo-down                                                 # removes the cluster and nothing else",
    ):
        demo.screen.say(line)


STEPS = (
    ("A real cluster: control plane, kubelet, containerd (cold about 10 min, warm under a minute)", start_cluster),
    ("Images of the operator and the runtime (first time about 3 min)", build_images),
    ("The operator: CRDs, RBAC, two replicas", install_operator),
    ("A memory as a resource: manifests/samples/embedded-minimal.yaml", apply_sample),
    ("A dated conversation is stored", store_conversation),
    (f"Questions, without a half-life and with {HALF_LIFE}", recall_questions),
    ("The pod is deleted; the memory is not", delete_pod),
    ("Somebody edits the Deployment", show_drift),
    ("What to try next", what_next),
)
