"""`python -m hack.testing.prepare [integration|e2e|all]`: builds and fetches what the tests need, before any runs.

Cold, that takes many minutes: here they show their progress, and count against no test's time-out. Warm, it takes
seconds. Exit status 0; 2 where `SOMA_TEST_REQUIRE=all` and something cannot be had (otherwise its tests say so).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hack.cluster import ClusterError
from hack.cluster.node import machine
from hack.cluster.node.start import RECIPES
from hack.cluster.tools import cache_root, debian, ensure_all
from hack.cluster.tools.progress import say
from hack.cluster.tools.recipes import named
from hack.images import ImageError
from hack.images import build as build_images
from hack.services import ServiceError
from hack.services.kafka import kafka_jars
from hack.services.neo4j import neo4j_jars
from hack.services.registry import registry_program

DEBIAN = ("postgresql", "redis-server", "pgbouncer", "pgpool2", "openssl", "faketime")
API = ("groundwork", "kubernetes", "helm", "kwok")


class Step(NamedTuple):
    """One thing to have: `kind` says which tests want it."""

    kind: str
    what: str
    get: Callable[[], object]


# Compilers keep both cores busy and downloads neither, so the two lanes go side by side.
COMPILING = (
    Step("integration", "the control plane", lambda: ensure_all(named(*API))),
    Step("e2e", "what a node needs of this machine", lambda: machine.need(cache_root())),
    Step("e2e", "the node", lambda: ensure_all(named(*RECIPES))),
)
FETCHING = (
    Step("integration", "Debian packages of the back ends", lambda: debian.require(DEBIAN, "the tests' back ends")),
    Step("integration", "Kafka", kafka_jars),
    Step("e2e", "the images", build_images),
    Step("integration", "Neo4j", neo4j_jars),
    Step("integration", "the schema registry", registry_program),
)


def run(steps: Sequence[Step], kinds: frozenset[str], failures: list[str]) -> None:
    """Gets what is of these kinds; what cannot be had is told in `failures`."""
    for step in steps:
        if step.kind not in kinds:
            continue
        began = time.monotonic()
        try:
            step.get()
        except (ClusterError, ImageError, ServiceError, OSError) as error:
            failures.append(f"{step.what}: {error}")
        else:
            seconds = time.monotonic() - began
            if seconds >= 5:
                say(f"tests: {step.what}: ready after {seconds:.0f} s")


def main(arguments: Sequence[str]) -> int:
    """Gets all of it, and says what could not be had."""
    kind = arguments[0] if arguments else "all"
    if kind not in {"all", "integration", "e2e"}:
        print(f"hack.testing.prepare: unknown kind {kind!r}: use all, integration or e2e", file=sys.stderr)
        return 2
    kinds = frozenset({"integration", "e2e"} if kind == "all" else {kind})
    failures: list[str] = []
    began = time.monotonic()
    lane = threading.Thread(target=run, args=(FETCHING, kinds, failures), daemon=True)
    lane.start()
    run(COMPILING, kinds, failures)
    lane.join()
    if time.monotonic() - began >= 5:
        say(f"tests: everything that they need was looked for in {time.monotonic() - began:.0f} s")
    required = os.environ.get("SOMA_TEST_REQUIRE") == "all"
    for failure in failures:
        say(f"tests: {'required, but ' if required else ''}not to be had here: {failure}")
    return 2 if failures and required else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
