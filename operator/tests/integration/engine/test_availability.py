"""The operator itself: two replicas, restarts, missing rights, an API server that goes away."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from hack.kube import Kubectl
from tests.integration.engine.conftest import NewOperator
from tests.integration.engine.harness import Memory, Operator, everything, token_kubeconfig, until


def test_a_killed_leader_is_replaced_and_a_restart_writes_nothing(
    new_operator: NewOperator, namespace: Kubectl, request: pytest.FixtureRequest
) -> None:
    first = new_operator().ready()
    until("a leader", lambda: first.leading, 45)
    memory = Memory(namespace).create().serve()
    second = new_operator().ready()
    time.sleep(2)
    assert not second.leading, "a standby is ready, and does not work"
    before = everything(namespace)
    assert second.writes() == {}

    first.stop(signal.SIGKILL)
    started = time.monotonic()
    namespace("delete", "service", "store")
    until("the service again", lambda: namespace.find("service", "store"), 30)
    request.node.user_properties.append(("failover_seconds", round(time.monotonic() - started, 1)))
    assert second.leading
    time.sleep(1)
    after = everything(namespace)
    changed = {key for key in before if before[key] != after.get(key)}
    assert changed == {"Service/store"}
    assert set(second.writes()) <= {"PATCH Service", "POST Event"}
    assert memory.condition("Ready") == ("True", "Serving")

    # Let go of the Lease at a proper stop: the next one need not wait for it to expire.
    assert second.stop() == 0
    third = new_operator().ready()
    until("a leader at once", lambda: third.leading, 4)
    time.sleep(1.5)
    assert third.writes() == {}
    request.node.user_properties.append(("resident_mebibytes", round(third.resident_mebibytes(), 1)))
    assert third.resident_mebibytes() < 128
    third.stop()


def test_an_upgrade_of_the_operator_restarts_a_few_at_a_time(new_operator: NewOperator, namespace: Kubectl) -> None:
    former = new_operator().ready()
    memories = [Memory(namespace, f"store-{letter}").create() for letter in "abc"]
    for memory in memories:
        memory.serve()
    assert former.stop() == 0

    image = "docker.io/library/soma-memory-runtime:newer"
    upgraded = new_operator(RUNTIME_IMAGE=image, ROLLOUT_SLOTS="1", ROLLOUT_DELAY_SECONDS="0").ready()

    def rolled() -> set[str]:
        deployments = namespace.get("deployments")["items"]
        return {
            d["metadata"]["name"]
            for d in deployments
            if d["spec"]["template"]["spec"]["containers"][0]["image"] == image
        }

    (first,) = until("a first rollout", rolled, 45)
    time.sleep(2)
    assert rolled() == {first}, "the others wait until it serves"
    waiting = [memory for memory in memories if memory.name != first]
    for memory in waiting:
        assert memory.condition("Ready") == ("True", "Serving")
        assert memory.condition("Synced") == ("False", "WaitingForSlot")
    for done in range(1, 4):
        until("one more rollout", lambda done=done: len(rolled()) >= done, 30)
        for memory in memories:
            if memory.name in rolled():
                memory.serve()
    assert {memory.status["version"]["current"] for memory in memories} == {"newer"}
    upgraded.stop()


def test_missing_rights_for_one_kind_are_told_and_the_rest_goes_on(
    new_operator: NewOperator, namespace: Kubectl, kubectl: Kubectl, tmp_path: Path
) -> None:
    role = kubectl.get("clusterrole", "soma-operator")
    rules = [rule for rule in role["rules"] if "networkpolicies" not in rule["resources"]]
    _account(kubectl, "without-policies", rules)
    operator = new_operator(token_kubeconfig(kubectl, tmp_path, "without-policies"), LEADER_ELECTION="false")
    try:
        operator.ready()
        memory = Memory(namespace).create()
        condition = memory.wait("NetworkRestricted", "False", "Forbidden")
        assert "grant it in its ClusterRole" in condition["message"]
        assert memory.condition("Synced") == ("False", "Forbidden")
        until("the deployment", lambda: namespace.find("deployment", "store"))
        assert "Stalled" not in memory.conditions()
        assert operator.probe("/livez")[0] == 200
        kubectl("patch", "clusterrole", "without-policies", "--type=merge", "-p", json.dumps({"rules": role["rules"]}))
        memory.wait("NetworkRestricted", "True", "PoliciesApplied", 60)
    finally:
        operator.stop()


def _account(kubectl: Kubectl, name: str, rules: list[dict[str, object]]) -> None:
    secrets = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "create", "patch"]}
    meta = {"name": name}
    rbac = "rbac.authorization.k8s.io"
    objects = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {**meta, "namespace": "soma-system"}},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": meta, "rules": [*rules, secrets]},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": meta,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "soma-system"}],
        },
    ]
    kubectl.within("soma-system")(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    )


def test_bad_settings_are_one_clear_line(operator_kubeconfig: Path) -> None:
    operator = Operator(
        operator_kubeconfig, operator_kubeconfig.parent / "bad.log", {"WORKERS": "many", "LOG_LEVEL": "X"}
    )
    assert operator.start().process is not None
    assert operator.process is not None
    assert operator.process.wait(20) == 2
    (line,) = operator.log.read_text().splitlines()
    assert line.startswith("soma-operator: SOMA_OPERATOR_LOG_LEVEL=X: ")
    assert "SOMA_OPERATOR_WORKERS=many: " in line


def test_no_cluster_is_one_clear_line(tmp_path: Path) -> None:
    operator = Operator(tmp_path / "absent", tmp_path / "log", {"LOG_LEVEL": "WARNING"}).start()
    assert operator.process is not None
    assert operator.process.wait(20) == 1
    (line,) = operator.log.read_text().splitlines()
    assert "absent does not exist; set KUBECONFIG or run in a pod" in json.loads(line)["message"]


def test_an_api_server_that_goes_away_is_waited_for(
    new_operator: NewOperator, namespace: Kubectl, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    proxied, proxy = _behind_a_proxy(operator_kubeconfig, tmp_path)
    operator = new_operator(proxied, LEADER_ELECTION="false", RESYNC_SECONDS="5").ready()
    try:
        memory = Memory(namespace).create().serve()
        before = memory.body()["metadata"]["resourceVersion"]
        proxy.send_signal(signal.SIGSTOP)
        namespace("delete", "service", "store")
        time.sleep(6)
        assert operator.probe("/livez")[0] == 200, "a restart would not bring the API server back"
        assert memory.body()["metadata"]["resourceVersion"] == before, "no status while blind"
        proxy.send_signal(signal.SIGCONT)
        until("the service again", lambda: namespace.find("service", "store"), 60)
    finally:
        proxy.send_signal(signal.SIGCONT)
        operator.stop()
        proxy.terminate()
        proxy.wait(10)


PROXY = """
import asyncio, sys
async def pipe(r, w):
    try:
        while data := await r.read(65536):
            w.write(data); await w.drain()
    except OSError:
        pass
    w.close()
async def connect(r, w):
    tr, tw = await asyncio.open_connection("127.0.0.1", int(sys.argv[2]))
    await asyncio.gather(pipe(r, tw), pipe(tr, w))
async def main():
    server = await asyncio.start_server(connect, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""


def _behind_a_proxy(kubeconfig: Path, place: Path) -> tuple[Path, subprocess.Popen[bytes]]:
    import sys

    import yaml

    from hack.services.service import free_port

    document = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster = document["clusters"][0]["cluster"]
    port, target = free_port(), cluster["server"].rpartition(":")[2]
    cluster["server"] = f"https://127.0.0.1:{port}"
    proxied = place / "proxied.kubeconfig"
    proxied.write_text(yaml.safe_dump(document), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-c", PROXY, str(port), target])
    return proxied, process
