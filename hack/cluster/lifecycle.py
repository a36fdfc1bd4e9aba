"""up, down and status: what a person, a test and the demo call."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from hack.cluster import journal as journals
from hack.cluster import native, providers, teardown
from hack.cluster.errors import ClusterError
from hack.cluster.journal import Journal
from hack.cluster.kubectl import Kubectl
from hack.cluster.layout import Layout, known, layout
from hack.cluster.profiles import PROFILES, Options
from hack.cluster.tools import exclusive, program
from hack.cluster.tools.progress import say


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that answers. `kubeconfig` is a file whose only context is this cluster, usable from the host."""

    name: str
    profile: str
    kubeconfig: Path
    root: Path

    def kubectl(self) -> Kubectl:
        """kubectl as this cluster's administrator."""
        return Kubectl(program("kubectl"), Layout(self.name, self.root))


def up(
    profile: str = "node", name: str | None = None, options: Options | None = None, *, current: bool = False
) -> Cluster:
    """Gives a running cluster: the one of that name if it answers, else a new one. Raises ClusterError.

    `current` (or CLUSTER=current, for the profile `node`) takes the cluster that kubectl points at instead. A cluster
    that died (a reboot, a crash while it started) is removed first: local clusters are thrown away, not mended.
    """
    if profile not in PROFILES:
        raise ClusterError(f"--profile {profile!r} is unknown: use one of {', '.join(PROFILES)}")
    wanted = options or Options()
    wanted.check()
    provider = providers.choose(profile, current=current)
    place = layout(name or profile)
    with exclusive(place.lock, f"another command on the cluster {place.name!r}"):
        found = journals.load(place.state)
        if found is not None:
            _need_the_same(found, profile, provider, wanted)
        if found is None or not providers.answers(place, found):
            _bring_up_anew(place, profile, provider, wanted)
    return Cluster(place.name, profile, place.kubeconfig, place.root)


def _need_the_same(found: Journal, profile: str, provider: str, wanted: Options) -> None:
    """Refuses to pass one kind of cluster for another that has its name."""
    remedy = "choose another --name, or take it down first"
    if (found.profile, found.provider) != (profile, provider):
        raise ClusterError(
            f"the cluster {found.name!r} has the profile {found.profile} ({found.provider}), "
            f"not {profile} ({provider}): {remedy}"
        )
    if profile == "api" and wanted.controllers and not found.options.get("controllers"):
        raise ClusterError(f"the cluster {found.name!r} was started without --controllers: {remedy}")
    if profile == "kwok" and wanted.nodes != found.options.get("nodes"):
        raise ClusterError(
            f"the cluster {found.name!r} has {found.options.get('nodes')} nodes, not {wanted.nodes}: {remedy}"
        )


def _bring_up_anew(place: Layout, profile: str, provider: str, options: Options) -> None:
    teardown.remove(place)
    started = time.monotonic()
    place.root.mkdir(mode=0o700, parents=True)
    journal = Journal(place.state, place.name, profile, provider=provider, options=asdict(options))
    journal.save()
    try:
        providers.start(place, journal, options)
    except ClusterError:
        if place.logs.is_dir():
            teardown.stop_all(place)  # its logs stay for whoever wants to know why
        else:
            teardown.remove(place)
        raise
    except BaseException:
        teardown.remove(place)
        raise
    journal.note_ready()
    say(
        f"Cluster {place.name!r} (profile {profile}) is ready after {time.monotonic() - started:.1f} s: "
        f"KUBECONFIG={place.kubeconfig}"
    )


def down(name: str) -> bool:
    """Removes a cluster with all that it made. Safe to repeat; False where there was nothing."""
    place = layout(name)
    if not place.root.exists():
        return False
    with exclusive(place.lock, f"another command on the cluster {place.name!r}"):
        teardown.remove(place)
    return True


def down_all() -> list[str]:
    """Removes every cluster of this cache and returns their names."""
    return [place.name for place in known() if down(place.name)]


def find(name: str) -> Cluster:
    """A cluster that is up. ClusterError otherwise."""
    place = layout(name)
    found = journals.load(place.state)
    if found is None or not found.ready or (found.provider == "native" and native.supervisor(found) is None):
        raise ClusterError(f"no cluster {name!r} is up: start one with 'hack/py -m hack.cluster up --name {name}'")
    return Cluster(name, found.profile, place.kubeconfig, place.root)


def load_image(name: str, archive: Path) -> list[str]:
    """Puts a docker or OCI archive where the cluster's kubelet finds it.

    Returns the images' names where they are told. Raises ClusterError.
    """
    cluster = find(name)
    if cluster.profile != "node":
        raise ClusterError(
            f"the cluster {name!r} has the profile {cluster.profile}, which runs no containers: use one of profile node"
        )
    found = journals.load(layout(name).state)
    assert found is not None
    return providers.load_image(found, archive)
