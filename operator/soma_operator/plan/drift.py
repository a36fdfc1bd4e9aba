"""Which fields others changed, who did, and what is done about it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soma_operator.api.spec import IgnoredPath
from soma_operator.catalog.kinds import Kind, Ref
from soma_operator.catalog.names import DESIRED_HASH, MANAGED_BY_LABEL, MEMORY_LABEL, TEMPLATE_HASH
from soma_operator.ownership.entries import Path, editor_of, entries, others_paths, own_paths, readable
from soma_operator.ownership.expected import ATOMIC, KEYED, expected_paths, item_element

CORRECTIONS = 5
WINDOW_SECONDS = 600.0
_REMEMBERED = 1000
_BOOKKEEPING: tuple[Path, ...] = (
    ("f:metadata", "f:ownerReferences"),
    ("f:metadata", "f:labels", f"f:{MANAGED_BY_LABEL}"),
    ("f:metadata", "f:labels", f"f:{MEMORY_LABEL}"),
    ("f:metadata", "f:annotations", f"f:{DESIRED_HASH}"),
    ("f:metadata", "f:annotations", f"f:{TEMPLATE_HASH}"),
)


@dataclass(frozen=True, slots=True)
class Edit:
    """One field that is no longer ours. `time` is when its editor last wrote, RFC 3339, or None."""

    ref: Ref
    path: Path
    manager: str
    time: str | None

    @property
    def field(self) -> str:
        """The path as people write it."""
        return "." + readable(self.path)


def edits(ref: Ref, live: Mapping[str, Any], applied: Mapping[str, Any], ignored: Sequence[Path] = ()) -> list[Edit]:
    """What a forced apply would take back: paths that we own in `applied` (the answer to a dry-run) and not in `live`.

    Both are metadata with managedFields. Of nested paths only the outermost are named.
    """
    ours = own_paths(live) or frozenset()
    missing = sorted((own_paths(applied) or frozenset()) - ours)
    found: list[Edit] = []
    for path in missing:
        if is_ignored(path, ignored):
            continue
        if found and path[: len(found[-1].path)] == found[-1].path:
            continue
        manager = editor_of(live, path)
        found.append(Edit(ref, path, manager, _time_of(live, manager)))
    return found


def _time_of(metadata: Mapping[str, Any], manager: str) -> str | None:
    times = [str(entry["time"]) for entry in entries(metadata) if entry.get("manager") == manager and entry.get("time")]
    return max(times, default=None)


def ignored_paths(kind: Kind, manifest: Mapping[str, Any], ignored: Sequence[IgnoredPath]) -> list[Path]:
    """Translate JSON pointers into paths; a number in a keyed list is the position in our own manifest.

    A pointer into a list or map that Kubernetes replaces as a whole stands for that whole: nobody can own less of it.
    """
    return [_translate(manifest, item.path) for item in ignored if item.kind == kind.name]


def is_ignored(path: Path, ignored: Sequence[Path]) -> bool:
    """Whether `path` is left to others: what ties the object to its SomaMemory never is."""
    if any(path[: len(own)] == own for own in _BOOKKEEPING):
        return False
    return any(path[: len(prefix)] == prefix for prefix in ignored)


def _translate(manifest: Any, pointer: str) -> Path:
    path: list[str] = []
    place, node = "", manifest
    for raw in pointer.strip("/").split("/"):
        name = raw.replace("~1", "/").replace("~0", "~")
        if place in ATOMIC or (isinstance(node, list) and place not in KEYED):
            break
        if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
            node = node[int(name)]
            path.append(item_element(node, place))
            place += "[]"
        else:
            node = node.get(name) if isinstance(node, Mapping) else None
            path.append(f"f:{name}")
            place = f"{place}.{name}" if place else name
    return tuple(path)


def left_to_others(
    manifest: Mapping[str, Any], ignored: Sequence[Path], live: Mapping[str, Any], *, applied: bool
) -> frozenset[Path]:
    """Members of `manifest` that an apply must leave out: ignored, not ours in `live` (metadata with managedFields),
    and either somebody else's or, as this very manifest was `applied` before, taken away by somebody."""
    ours = own_paths(live) or frozenset()
    candidates = [path for path in expected_paths(manifest) if path not in ours and is_ignored(path, ignored)]
    if applied or not candidates:
        return frozenset(candidates)
    others = others_paths(live)
    return frozenset(path for path in candidates if any(other[: len(path)] == path for other in others))


class Corrections:
    """How often an object was taken back from the same manager of late. In memory: a restart grants a fresh start."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times: dict[tuple[Ref, str], deque[float]] = {}

    def allowed(self, ref: Ref, manager: str) -> bool:
        """Whether one more correction is within bounds."""
        return len(self._recent(ref, manager)) < CORRECTIONS

    def note(self, ref: Ref, manager: str) -> None:
        """A correction was made."""
        if len(self._times) > _REMEMBERED:
            self._times = {key: times for key, times in self._times.items() if self._recent(*key)}
        self._recent(ref, manager).append(self._clock())

    def retry_after(self, ref: Ref, manager: str) -> float:
        """Seconds until the next correction is within bounds."""
        times = self._recent(ref, manager)
        return max(1.0, times[0] + WINDOW_SECONDS - self._clock()) if len(times) >= CORRECTIONS else 0.0

    def _recent(self, ref: Ref, manager: str) -> deque[float]:
        times = self._times.setdefault((ref, manager), deque())
        while times and times[0] <= self._clock() - WINDOW_SECONDS:
            times.popleft()
        return times
