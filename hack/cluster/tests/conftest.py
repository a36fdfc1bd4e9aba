"""What the tests of the cluster tool share: caches of their own, and clusters that are gone when a test ends."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hack.cluster import Cluster, ClusterError, Options, down, up
from hack.cluster.tools import cache_root
from hack.requirement import unavailable


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, but for the Go build cache, which is shared: what is tested is ours, not the compiler."""
    shared = cache_root() / "go"
    shared.mkdir(exist_ok=True)
    (tmp_path / "go").symlink_to(shared)
    monkeypatch.setenv("SOMA_CACHE", str(tmp_path))
    return tmp_path


def start_or_skip(profile: str, name: str, options: Options | None = None) -> Cluster:
    """A cluster, or a skip with the tool's own reason; where everything is required (as in CI) that is a failure."""
    try:
        return up(profile, name, options)
    except ClusterError as error:
        unavailable(str(error))


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Cluster]]:
    """Starts clusters that are removed when the test ends, however it ends. Names are unique: others run beside us."""
    monkeypatch.setenv("SOMA_CLUSTER_PROVIDER", "native")
    names: list[str] = []

    def starter(profile: str, options: Options | None = None) -> Cluster:
        name = f"t-{uuid.uuid4().hex[:8]}"
        names.append(name)
        return start_or_skip(profile, name, options)

    yield starter
    for name in names:
        down(name)
