"""Harms a memory again and again, and checks every answer: `hack/torture --runs 100 --seed 7 --json`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.interruption import interruptible
from hack.torture_harness import faults, history
from hack.torture_harness.fleet import fleet_on
from hack.torture_harness.lost import LOSSES, Losses, LostHistories
from hack.torture_harness.processes import Executor, Launcher, Zygote
from hack.torture_harness.runs import Findings, Plan, Torture
from hack.torture_harness.target import HostTarget, RemoteTarget, Target, TargetError


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(prog="hack/torture", description=__doc__)
    made.add_argument("--runs", type=int, default=100, help="how many times (default 100)")
    made.add_argument("--minutes", type=float, help="begin no run after this long")
    made.add_argument("--seed", type=int, help="repeats the choices of harm, delays and requests (default: random)")
    made.add_argument("--clients", type=int, default=8, help="concurrent clients (default 8)")
    made.add_argument("--longest", type=float, default=0.4, help="longest wait before a harm, in seconds (default 0.4)")
    made.add_argument(
        "--faults",
        help=f"comma-separated, of {','.join((*faults.HARMS, *LOSSES))} (default: all that can be done but the last 3)",
    )
    made.add_argument("--start", choices=("fork", "exec"), default="fork", help="fork: a start takes 0.2 s, exec: 2 s")
    made.add_argument("--json", action="store_true", help="one JSON object on standard output")
    made.add_argument("--quiet", action="store_true", help="no line for each run")
    made.add_argument(
        "--fleet", action="store_true", help="two replicas on a PostgreSQL of our own, that is harmed too"
    )
    made.add_argument("--events", action="store_true", help="with --fleet: a broker and a consumer that copies it, too")
    made.add_argument("--url", help="a service that is up, instead of a `soma serve` of our own")
    made.add_argument("--dim", type=int, default=384, help="the dimension of its vectors (default 384)")
    made.add_argument("--kill-command", help="kills the service at --url; something else must start it again")
    made.add_argument("--token-file", type=Path, help="the bearer token of the service at --url")
    made.add_argument("--ready-seconds", type=float, default=120.0, help="how long the service may take to come back")
    return made


def main(argv: list[str] | None = None) -> int:
    """0: every promise was kept; 1: one was not; 2: wrong arguments; 3: the target did not play along."""
    arguments = parser().parse_args(argv)
    plan = _plan(arguments)
    if set(plan.faults) & set(LOSSES):
        return _lose(arguments, plan)
    directory = Path(tempfile.mkdtemp(prefix="soma-torture-"))
    try:
        return _torture(arguments, plan, directory)
    except KeyboardInterrupt:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _lose(arguments: argparse.Namespace, plan: Plan) -> int:
    """Runs in which a history is lost; see `lost`."""
    if not set(plan.faults) <= set(LOSSES):
        parser().error(f"--faults: {', '.join(LOSSES)} are runs of their own: leave the others out")
    directory = Path(tempfile.mkdtemp(prefix="soma-torture-"))
    launcher: Launcher = Zygote() if arguments.start == "fork" else Executor()
    try:
        with contextlib.closing(launcher):
            findings = _lose_all(arguments, plan, directory, launcher)
    except (TargetError, ClusterError) as error:
        print(f"hack/torture: seed {plan.seed}: {error}; logs are in {directory}", file=sys.stderr)
        return 3
    verdict = findings.verdict
    numbers = {
        "runs": findings.runs,
        "acknowledged": findings.acknowledged,
        "lost_by_the_harm": findings.lost_writes,
        "skipped": verdict.lost,
        "stale": verdict.stale,
        "reads": findings.reads,
        "refused": findings.refused,
        "harms": dict(sorted(findings.harms.items())),
        "seed": plan.seed,
    }
    print(json.dumps(numbers) if arguments.json else ", ".join(f"{name} {value}" for name, value in numbers.items()))
    for sentence in verdict.complaints[:50]:
        print(sentence, file=sys.stderr)
    if not verdict.clean:
        print(f"the logs are kept in {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory, ignore_errors=True)
    return 0


def _lose_all(arguments: argparse.Namespace, plan: Plan, directory: Path, launcher: Launcher) -> Losses:
    dice, findings = random.Random(f"{plan.seed}/losses"), Losses()
    with LostHistories(directory, secrets.token_hex(16), launcher, plan.seed, events=arguments.events) as series:
        findings = series.findings
        for run in range(plan.runs):
            if time.monotonic() >= plan.until:
                break
            kind = dice.choice(plan.faults)
            series.run(kind)
            if not arguments.quiet:
                found = findings.verdict
                print(
                    f"run {run + 1}/{plan.runs} {kind}: in all {findings.acknowledged} acknowledged, skipped"
                    f" {found.lost}, stale {found.stale}, {findings.refused} of {findings.reads} reads refused",
                    file=sys.stderr,
                    flush=True,
                )
    return findings


def _torture(arguments: argparse.Namespace, plan: Plan, directory: Path) -> int:
    with contextlib.ExitStack() as stack:
        try:
            target, token = _target(arguments, plan, directory, stack)
            torture = Torture(
                target, token, plan, lambda line: arguments.quiet or print(line, file=sys.stderr, flush=True)
            )
            findings = asyncio.run(torture.run())
        except (TargetError, ClusterError) as error:
            print(f"hack/torture: seed {plan.seed}: {error}; logs are in {directory}", file=sys.stderr)
            return 3
        return _report(findings, plan.seed, directory, as_json=arguments.json)


def _plan(arguments: argparse.Namespace) -> Plan:
    if (arguments.url is None) != (arguments.kill_command is None):
        parser().error("--url and --kill-command belong together")
    if min(arguments.runs, arguments.clients, arguments.dim) < 1:
        parser().error("--runs, --clients and --dim must be at least 1")
    possible = [one for one in faults.HOST if one != "disk" or os.geteuid() == 0]
    if arguments.events and not arguments.fleet:
        parser().error("--events belongs to --fleet")
    if arguments.url or arguments.fleet:
        possible = list(faults.REMOTE if arguments.url else faults.STREAM if arguments.events else faults.FLEET)
        if arguments.fleet and arguments.faults:
            possible += LOSSES
    names = arguments.faults.split(",") if arguments.faults else possible
    for name in names:
        if name not in possible:
            parser().error(f"--faults: {name!r} cannot be done here: choose of {', '.join(possible)}")
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    dim = arguments.dim if arguments.url else history.DIM
    until = float("inf") if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    return Plan(arguments.runs, seed, arguments.clients, max(0.02, arguments.longest), tuple(names), until, dim)


def _target(
    arguments: argparse.Namespace, plan: Plan, directory: Path, stack: contextlib.ExitStack
) -> tuple[Target, str]:
    if arguments.url is not None:
        token = arguments.token_file.read_text().strip() if arguments.token_file else ""
        return RemoteTarget(arguments.url, arguments.kill_command, arguments.ready_seconds), token
    launcher: Launcher = Zygote() if arguments.start == "fork" else Executor()
    stack.callback(launcher.close)
    if arguments.fleet:
        token = secrets.token_hex(16)
        return stack.enter_context(fleet_on(directory, token, launcher, events=arguments.events)), token
    target = host_target(directory, plan, launcher, stack)
    return target, target.token


def host_target(directory: Path, plan: Plan, launcher: Launcher, stack: contextlib.ExitStack) -> HostTarget:
    """A server of our own; on a small volume where that is to be filled. The stack ends both."""
    home = stack.enter_context(faults.small_volume(directory)) if "disk" in plan.faults else directory
    target = HostTarget(directory, secrets.token_hex(16), launcher)
    target.settle(home / "data-0")
    stack.callback(_stop, target)
    return target


def _stop(target: HostTarget) -> None:
    if target.started:
        target.stop()


def _report(findings: Findings, seed: int, directory: Path, *, as_json: bool) -> int:
    verdict = findings.verdict
    numbers = {
        "runs": findings.runs,
        "acknowledged": findings.acknowledged,
        "lost": verdict.lost,
        "resurrected": verdict.resurrected,
        "half_visible": verdict.half_visible,
        "duplicates": verdict.duplicates,
        "stale": verdict.stale,
        "in_doubt": findings.in_doubt,
        "traps_sprung": findings.sprung,
        "longest_restart_s": round(findings.longest_restart, 3),
        "harms": dict(sorted(findings.harms.items())),
        "seed": seed,
    }
    print(json.dumps(numbers) if as_json else ", ".join(f"{name} {value}" for name, value in numbers.items()))
    for sentence in verdict.complaints[:50]:
        print(sentence, file=sys.stderr)
    if not verdict.clean:
        history.dump(directory / "history.jsonl", findings.broken)
        print(f"the history that cannot be explained and the server's log are kept in {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(interruptible("hack/torture", main))
