"""Free loopback ports that two clusters started at once do not both get."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from pathlib import Path

from hack.cluster import journal
from hack.cluster.errors import ClusterError
from hack.cluster.journal import Journal
from hack.cluster.layout import clusters_root, known
from hack.cluster.tools import exclusive

# Below the kernel's range for outgoing connections (32768 on), so that no client takes one between our look and the
# server's bind.
_RANGE = range(20000, 30000)


def reserve(into: Journal, names: tuple[str, ...]) -> None:
    """Picks a free port for each name and writes them into the journal, under a lock that all clusters share."""
    with exclusive(clusters_root() / ".ports.lock"):
        taken = {port for place in known() for port in _ports_of(place.state)}
        free = _free_ports(taken)
        for name in names:
            into.ports[name] = next(free)
        into.save()


def _ports_of(state: Path) -> list[int]:
    try:
        found = journal.load(state)
    except ClusterError:
        return []  # an unreadable journal is its own cluster's trouble
    return list(found.ports.values()) if found else []


def _free_ports(taken: set[int]) -> Iterator[int]:
    for port in random.sample(_RANGE, len(_RANGE)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in taken:
            yield port
    raise ClusterError(
        "no loopback port between 20000 and 30000 is free: stop some servers, or clusters with 'down --all'"
    )
