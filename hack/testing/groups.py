"""Which tests share a process under pytest-xdist: those that share a cluster, a server or a service.

`hack/test` loads it. A group's session fixtures are made once, in the one process that runs the group; what is in no
group is spread over the processes one by one. What waits most begins first, so that the rest fills the waiting.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

CLUSTERS = (
    "e2e",
    "operator/tests/integration",
    "hack/cluster/tests",
    "hack/images/tests",
)
"""Folders whose tests have clusters. All of them share one process: two clusters at once on two cores make each other
late, and some of these tests say how soon something must have happened. Their order is the order in which they run.
"""
SERVICES = ("neo4j", "kafka", "redis", "qdrant", "postgres", "etcd")
"""Tests that ask for a fixture whose name begins so share the process that has it."""
LAST = len(CLUSTERS) + len(SERVICES)


def place_of(path: PurePosixPath, fixtures: tuple[str, ...], *, integration: bool) -> tuple[int, str | None]:
    """(when it begins, its group or None) of a test in the file `path`, relative to the root."""
    for order, folder in enumerate(CLUSTERS):
        if PurePosixPath(folder) in path.parents:
            return order, "clusters"
    for order, service in enumerate(SERVICES):
        if any(name.startswith(service) for name in fixtures):
            return len(CLUSTERS) + order, service
    return (LAST, str(path)) if integration else (LAST + 1, None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks each test with its group, and puts those that wait most first.

    First of all hooks: xdist reads the marks in its own, in every process.
    """
    placed = []
    for number, item in enumerate(items):
        path = PurePosixPath(item.path.relative_to(config.rootpath).as_posix())
        fixtures = tuple(getattr(item, "fixturenames", ()))
        order, group = place_of(path, fixtures, integration=item.get_closest_marker("integration") is not None)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))
        placed.append((order, number, item))
    items[:] = [item for _, _, item in sorted(placed, key=lambda one: one[:2])]
