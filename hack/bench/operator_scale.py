"""The operator with many resources: time to all children, writes, CPU and memory, beside a plain kopf operator.

A real API server and controller manager, pods by KWOK. For each number of resources a fresh cluster: all are created at
once, then it idles, then the operator is restarted, then somebody else touches children. Everything shares this
machine, so compare the columns with each other and with `api_own_rate`, not with another machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hack.bench.operator_cluster import Load, Watcher, client_for
from hack.bench.operator_process import ROOT, OperatorUnderTest
from hack.cluster import Cluster, ClusterError, Options, down, up
from hack.cluster.tools import program
from hack.interruption import interruptible
from hack.kube import Kubectl

NAMESPACE = "bench"
NAME = "bench-operator"
PROGRAMS = {"soma": "soma_operator.main", "plain": "hack.bench.operator_plain"}
TOUCHES = 500
ALONE = 20
"""Memories created one after another for the figures of one resource."""


class Plan(NamedTuple):
    """What is measured for one number of resources."""

    operator: str
    resources: int
    idle_seconds: float
    api_rate: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; exit status 2 where a cluster cannot be had."""
    parser = argparse.ArgumentParser(prog="hack/bench/operator", description=__doc__)
    parser.add_argument("--resources", type=int, nargs="+", default=[1, 100], metavar="N", help="default: 1 100")
    parser.add_argument("--operators", nargs="+", choices=PROGRAMS, default=list(PROGRAMS), help="default: both")
    parser.add_argument("--idle-seconds", type=float, default=300.0, help="how long it idles (default 300)")
    parser.add_argument("--api-rate", type=int, default=1000, help="our client's requests a second (default 1000)")
    parser.add_argument("--json", action="store_true", help="a JSON object a line instead of a table")
    chosen = parser.parse_args(arguments)
    if min(chosen.resources) < 1:
        parser.error("--resources: at least 1")
    for count in chosen.resources:
        for operator in chosen.operators:
            try:
                figures = measure(Plan(operator, count, chosen.idle_seconds, chosen.api_rate))
            except (ClusterError, TimeoutError) as error:
                print(f"hack/bench/operator: {error}", file=sys.stderr)
                return 2
            print(json.dumps(figures) if chosen.json else _table(figures), flush=True)
    return 0


def measure(plan: Plan) -> dict[str, Any]:
    """All figures of one operator and one number of resources, on a cluster of its own."""
    nodes = max(2, -(-plan.resources // 400))
    try:
        cluster = up("kwok", name=NAME, options=Options(nodes=nodes))
        kubectl = Kubectl(program("kubectl"), cluster.kubeconfig)
        kubectl.establish(ROOT / "crds")
        kubectl("create", "namespace", NAMESPACE)
        kubectl("create", "namespace", "soma-system")
        with tempfile.TemporaryDirectory() as place:
            return asyncio.run(_measured(plan, cluster, Path(place)))
    finally:
        down(NAME)


async def _measured(plan: Plan, cluster: Cluster, place: Path) -> dict[str, Any]:
    client = client_for(cluster.kubeconfig)
    load, watcher = Load(client, NAMESPACE), Watcher(client, NAMESPACE)
    settings = {"SOMA_OPERATOR_API_RATE": str(plan.api_rate), "SOMA_OPERATOR_NAMESPACE": "soma-system"}
    operator = OperatorUnderTest(PROGRAMS[plan.operator], cluster.kubeconfig, place / "log", settings)
    try:
        await load.volumes(plan.resources + ALONE + 1, 0)
        watcher.start()
        operator.start()
        await asyncio.to_thread(operator.await_ready)
        await load.memories(["first"])
        await _until(lambda: "first" in watcher.ready, "the first memory is Ready", 120)
        await asyncio.sleep(1)
        children = len(watcher.children["first"])
        figures = await _created(plan, load, watcher, operator, children)
        figures |= await _idle(plan, operator)
        figures |= await _restarted(plan, operator)
        figures |= await _touched(plan, load, operator)
        figures["rss_mib"] = round(operator.resident_mebibytes, 1)
        figures["api_own_rate"] = round(await load.own_rate(min(2000, max(200, plan.resources * children))))
        return figures
    except TimeoutError as error:
        raise TimeoutError(f"{error}; the operator's last words: {_last_words(place / 'log')}") from None
    finally:
        operator.stop()
        await watcher.stop()
        await client.aclose()


async def _created(
    plan: Plan, load: Load, watcher: Watcher, operator: OperatorUnderTest, children: int
) -> dict[str, Any]:
    """All at once; a single one is created again and again, one after another."""
    names = [f"m-{number:05d}" for number in range(plan.resources if plan.resources > 1 else ALONE)]
    writes, cpu, began = operator.writes, operator.cpu_seconds, time.monotonic()
    created: dict[str, float] = {}
    for part in [names] if plan.resources > 1 else [[name] for name in names]:
        created |= await load.memories(part)
        last = part[-1]
        await _until(lambda last=last, part=part: all(one in watcher.ready for one in part), f"{last} is Ready", 1800)
    took = time.monotonic() - began
    await _settled(operator)
    seconds = [
        max(watcher.children[name].values()) - created[name]
        for name in names
        if len(watcher.children[name]) >= children
    ]
    if len(seconds) != len(names):
        raise TimeoutError(f"{len(names) - len(seconds)} memories have not all of their {children} children")
    return {
        "operator": plan.operator,
        "resources": plan.resources,
        "children": children * len(names),
        "apply_p50_ms": _quantile(seconds, 50),
        "apply_p95_ms": _quantile(seconds, 95),
        "converge_s": round(took, 2),
        "writes_total": int(operator.writes - writes),
        "writes_per_resource": round((operator.writes - writes) / len(names), 2),
        "cpu_s": round(operator.cpu_seconds - cpu, 2),
        "cpu_ms_per_resource": round((operator.cpu_seconds - cpu) / len(names) * 1000, 1),
    }


async def _idle(plan: Plan, operator: OperatorUnderTest) -> dict[str, Any]:
    writes, cpu = operator.writes, operator.cpu_seconds
    await asyncio.sleep(plan.idle_seconds)
    return {
        "idle_seconds": plan.idle_seconds,
        "idle_writes": int(operator.writes - writes),
        "idle_cpu_s": round(operator.cpu_seconds - cpu, 2),
    }


async def _restarted(plan: Plan, operator: OperatorUnderTest) -> dict[str, Any]:
    operator.stop()
    began = time.monotonic()
    operator.start()
    await asyncio.to_thread(operator.await_ready)
    await _settled(operator)
    took = time.monotonic() - began
    return {
        "restart_s": round(took, 2),
        "restart_writes": int(operator.writes),
        "restart_cpu_s": round(operator.cpu_seconds, 2),
    }


async def _touched(plan: Plan, load: Load, operator: OperatorUnderTest) -> dict[str, Any]:
    """Somebody annotates our Services: one event each, in which there is nothing to mend."""
    names = [f"m-{number:05d}" for number in range(min(TOUCHES, plan.resources if plan.resources > 1 else ALONE))]
    rounds = -(-TOUCHES // len(names))
    writes, cpu = operator.writes, operator.cpu_seconds
    for turn in range(rounds):
        await load.touch("services", names, str(turn))
    await _settled(operator)
    events = rounds * len(names)
    return {
        "touch_events": events,
        "touch_writes": int(operator.writes - writes),
        "cpu_ms_per_event": round((operator.cpu_seconds - cpu) / events * 1000, 2),
    }


async def _settled(operator: OperatorUnderTest, quiet: float = 5.0) -> None:
    """Until it has done nothing to speak of for a while; at most ten minutes."""
    end = time.monotonic() + 600
    while time.monotonic() < end:
        writes, cpu = operator.writes, operator.cpu_seconds
        await asyncio.sleep(quiet)
        if operator.writes == writes and operator.cpu_seconds - cpu < 0.05 * quiet:
            return


async def _until(true: Any, what: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        await asyncio.sleep(0.05)


def _quantile(seconds: Sequence[float], percent: int) -> float:
    if len(seconds) == 1:
        return round(seconds[0] * 1000, 1)
    return round(statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1] * 1000, 1)


def _last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:500] if lines else "none"


def _table(figures: dict[str, Any]) -> str:
    return "\n".join(f"{key:22} {value}" for key, value in figures.items()) + "\n"


if __name__ == "__main__":
    sys.exit(interruptible("hack/bench/operator", main))
