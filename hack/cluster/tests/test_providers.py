"""kind and borrowed clusters, by the commands that would be run: there is no engine here to run them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hack.cluster import borrowed, kind, providers
from hack.cluster.borrowed import Borrowed
from hack.cluster.errors import ClusterError
from hack.cluster.journal import Journal
from hack.cluster.kind import Kind
from hack.cluster.layout import Layout, layout
from hack.cluster.runner import Outcome


@dataclass
class Recorder:
    """Answers every command with status 0, or as told by the first words that match; keeps what was asked."""

    answers: dict[str, Outcome] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)

    def __call__(self, command: Sequence[str], given: str | None) -> Outcome:
        words = " ".join([Path(command[0]).name, *command[1:]])
        self.commands.append(words)
        return next((answer for begin, answer in self.answers.items() if words.startswith(begin)), Outcome(0))


@pytest.fixture
def place(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A cluster's folder; programs are named, not built."""
    tool = own_cache / "program"
    tool.write_bytes(b"a static program")
    for module in (kind, borrowed):
        monkeypatch.setattr(module, "program", lambda name: tool if name == "metrics-server" else Path("/tools") / name)
    found = layout("node")
    found.root.mkdir(parents=True)
    return found


def test_kind_is_created_with_metrics_and_deleted_by_name(place: Layout) -> None:
    run = Recorder()
    journal = Journal(place.state, "node", "node")
    Kind(run).start(place, journal)
    Kind(run).remove("node")
    create, load, *rest = run.commands
    assert create == (
        f"kind create cluster --name soma-node --kubeconfig {place.kubeconfig} "
        f"--config {place.config / 'kind.json'} --wait 180s"
    )
    assert load == f"kind load image-archive {place.config / 'metrics-server.tar'} --name soma-node"
    assert [command.rpartition("/")[2] for command in rest[:2]] == ["metrics.yaml", "kind.yaml"]
    assert rest[-1] == "kind delete cluster --name soma-node"
    assert json.loads(place.state.read_text())["provider"] == "kind"


def test_kind_brings_a_crashed_container_back_within_a_second_as_the_native_node_does() -> None:
    patch = json.loads(kind.configuration()["kubeadmConfigPatches"][0])
    assert patch["crashLoopBackOff"] == {"maxContainerRestartPeriod": "1s"}
    assert kind.configuration()["networking"]["apiServerAddress"] == "127.0.0.1"


def test_kind_that_fails_names_the_way_out(place: Layout) -> None:
    run = Recorder({"kind create": Outcome(1, error="ERROR: no space left")})
    with pytest.raises(ClusterError, match=r"no space left.*SOMA_CLUSTER_PROVIDER=native"):
        Kind(run).start(place, Journal(place.state, "node", "node"))


@pytest.mark.parametrize(
    ("docker", "profile", "wanted", "chosen"),
    [
        (0, "node", "auto", "kind"),
        (1, "node", "auto", "native"),
        (127, "node", "auto", "native"),
        (0, "node", "native", "native"),
        (1, "node", "kind", "kind"),
        (0, "api", "auto", "native"),
        (0, "kwok", "auto", "native"),
    ],
)
def test_a_node_is_kinds_only_where_docker_answers(
    docker: int, profile: str, wanted: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLUSTER", raising=False)
    monkeypatch.setenv("SOMA_CLUSTER_PROVIDER", wanted)
    run = Recorder({"docker info": Outcome(docker)})
    assert providers.choose(profile, current=False, run=run) == chosen


def test_the_current_cluster_is_asked_for_by_the_environment_and_for_a_node_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLUSTER", "current")
    monkeypatch.delenv("SOMA_CLUSTER_PROVIDER", raising=False)
    assert providers.choose("node", current=False) == "current"
    assert providers.choose("api", current=False) == "native"
    monkeypatch.setenv("CLUSTER", "production")
    with pytest.raises(ClusterError, match="CLUSTER='production' is unknown"):
        providers.choose("node", current=False)


@pytest.mark.parametrize(
    "context", ["prod", "kind", "my-kind-x", "minikube2", "arn:aws:eks:eu-west-1:1:cluster/kind-x", ""]
)
def test_a_context_that_is_on_no_allow_list_is_refused(
    context: str, place: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOMA_CLUSTER_ALLOW", raising=False)
    run = Recorder({"kubectl config current-context": Outcome(0, context + "\n")})
    with pytest.raises(ClusterError, match=r"no allow-list|no current context"):
        Borrowed(run).start(place, Journal(place.state, "node", "node"))
    assert run.commands == ["kubectl config current-context"]
    assert not place.kubeconfig.exists()


def test_an_allowed_context_is_copied_and_nothing_is_changed_in_it(
    place: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMA_CLUSTER_ALLOW", "team-*, other")
    run = Recorder(
        {"kubectl config current-context": Outcome(0, "team-a\n"), "kubectl config view": Outcome(0, "kind: Config\n")}
    )
    Borrowed(run).start(place, Journal(place.state, "node", "node"))
    assert place.kubeconfig.read_text() == "kind: Config\n"
    assert place.kubeconfig.stat().st_mode & 0o077 == 0
    assert run.commands[1:] == [
        "kubectl config view --minify --flatten --context=team-a",
        f"kubectl --kubeconfig={place.kubeconfig} --request-timeout=5s get --raw /readyz",
    ]


@pytest.mark.parametrize(
    ("context", "command"),
    [
        ("kind-dev", "kind load image-archive /images/a.tar --name dev"),
        ("k3d-dev", "k3d image import /images/a.tar --cluster dev"),
        ("minikube", "minikube image load /images/a.tar"),
    ],
)
def test_an_image_gets_into_a_borrowed_cluster_by_its_own_tool(context: str, command: str, place: Layout) -> None:
    run = Recorder()
    journal = Journal(place.state, "node", "node", provider="current", options={"context": context})
    Borrowed(run).load(journal, Path("/images/a.tar"))
    assert run.commands == [command]
