"""`hack/py -m hack.demo [FILE]`. 0: every step came out as it should; 1: one did not; 2: it cannot be had, or bad
input."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from hack.cluster import ClusterError
from hack.demo.conversation import load
from hack.demo.errors import DemoError
from hack.demo.screen import Screen
from hack.demo.steps import STEPS, Demo
from hack.images import ImageError
from hack.kube import KubectlError

SHIPPED = Path(__file__).with_name("conversation.json")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="hack/py -m hack.demo", description="From an empty machine to a recalled memory."
    )
    parser.add_argument(
        "input", nargs="?", type=Path, help="a conversation to store (default: DEMO_INPUT, else a shipped one)"
    )
    parser.add_argument("--name", default=os.environ.get("DEMO_CLUSTER") or "node", help="the cluster (default: node)")
    options = parser.parse_args(arguments)
    named = options.input or (Path(os.environ["DEMO_INPUT"]) if os.environ.get("DEMO_INPUT") else None)
    screen = Screen(steps=len(STEPS))
    started = time.monotonic()
    try:
        demo = Demo(screen, load(named or SHIPPED), shipped=named is None, cluster_name=options.name)
        for title, step in STEPS:
            with screen.step(title):
                step(demo)
    except DemoError as error:
        screen.bad(str(error), error.remedy)
        return 2 if error.usage else 1
    except (ClusterError, ImageError) as error:
        screen.bad(str(error), "")
        return 2
    except (KubectlError, TimeoutError) as error:
        screen.bad(str(error), "kubectl -n soma-system logs deployment/soma-operator; make cluster-status")
        return 1
    except OSError as error:
        screen.bad(str(error), "is the disk full? SOMA_CACHE names another place for what is built")
        return 2
    except KeyboardInterrupt:
        screen.bad("interrupted", "it is safe to run it again: make demo")
        return 130
    summary = ", ".join(f"{seconds:.0f}" for _, seconds in screen.taken)
    screen.say("")
    screen.good(f"all {len(STEPS)} steps in {time.monotonic() - started:.0f} s ({summary})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
