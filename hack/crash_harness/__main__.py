"""The command line: `hack/crash --runs 100 --seed 7 --json`."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from hack.crash_harness.runs import Outcome, Plan, torture
from hack.crash_harness.target import HostTarget, RemoteTarget, Target, TargetError


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(prog="hack/crash", description=__doc__)
    made.add_argument("--runs", type=int, default=100, help="how many kills (default 100)")
    made.add_argument(
        "--seed", type=int, default=None, help="repeats a sequence of delays and writes (default: random)"
    )
    made.add_argument("--writers", type=int, default=8, help="concurrent clients (default 8)")
    made.add_argument("--longest", type=float, default=0.8, help="longest wait before a kill, in seconds (default 0.8)")
    made.add_argument("--json", action="store_true", help="one JSON object on standard output")
    made.add_argument("--url", help="a service that is up, instead of a `soma serve` of our own")
    made.add_argument("--kill-command", help="kills the service at --url; something else must start it again")
    made.add_argument("--token-file", type=Path, help="the bearer token of the service at --url")
    made.add_argument("--ready-seconds", type=float, default=120.0, help="how long the service may take to come back")
    return made


def main(argv: list[str] | None = None) -> int:
    """0: nothing was lost; 1: something was; 2: wrong arguments; 3: the target did not play along."""
    arguments = parser().parse_args(argv)
    if (arguments.url is None) != (arguments.kill_command is None):
        parser().error("--url and --kill-command belong together")
    if arguments.runs < 1 or arguments.writers < 1:
        parser().error("--runs and --writers must be at least 1")
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    plan = Plan(arguments.runs, seed, arguments.writers, longest=max(0.02, arguments.longest))
    directory = Path(tempfile.mkdtemp(prefix="soma-crash-"))
    target: Target
    if arguments.url is None:
        token = secrets.token_hex(16)
        target = HostTarget(directory, token)
    else:
        token = arguments.token_file.read_text().strip() if arguments.token_file else ""
        target = RemoteTarget(arguments.url, arguments.kill_command, arguments.ready_seconds)
    try:
        outcome = asyncio.run(torture(target, token, plan, lambda line: print(line, file=sys.stderr, flush=True)))
    except TargetError as error:
        print(f"hack/crash: seed {seed}: {error}", file=sys.stderr)
        return 3
    finally:
        target.stop()
    return _report(outcome, seed, directory, as_json=arguments.json)


def _report(outcome: Outcome, seed: int, directory: Path, *, as_json: bool) -> int:
    verdict = outcome.verdict
    numbers = {
        "runs": outcome.runs,
        "acknowledged": outcome.acknowledged,
        "lost": verdict.lost,
        "half_visible": verdict.half_visible,
        "duplicates": verdict.duplicates,
        "longest_restart_s": round(outcome.longest_restart, 3),
        "seed": seed,
    }
    print(json.dumps(numbers) if as_json else ", ".join(f"{name} {value}" for name, value in numbers.items()))
    for sentence in verdict.complaints[:50]:
        print(sentence, file=sys.stderr)
    if verdict.complaints:
        print(f"the ledger and the server's log are kept in {directory}", file=sys.stderr)
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
