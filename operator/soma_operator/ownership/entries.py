"""Reading `metadata.managedFields`: the paths of an entry, their digest, and who else owns them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from soma_operator.catalog.names import FIELD_MANAGER

Path = tuple[str, ...]
"""Path elements as FieldsV1 writes them: `f:spec`, `k:{"name":"runtime"}`, `v:"x"`."""

_EMPTY: Mapping[str, Any] = {}
REPLICAS: Path = ("f:spec", "f:replicas")
SCALED = "unknown (scale subresource)"
"""Tried on 1.36: scaling to 0 through the subresource takes the field from us, and records nobody as its owner."""


def entries(metadata: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """All entries, of subresources too."""
    found: Sequence[Mapping[str, Any]] = metadata.get("managedFields") or ()
    return found


def own_entry(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What we own through server-side apply, or None if we never applied this object."""
    for entry in entries(metadata):
        if entry.get("manager") == FIELD_MANAGER and entry.get("operation") == "Apply" and not entry.get("subresource"):
            return entry
    return None


def paths(fields: Mapping[str, Any]) -> frozenset[Path]:
    """The members of a FieldsV1 set: its leaves, and what is marked with a dot."""
    return frozenset(_walk(fields, ()))


def _walk(fields: Mapping[str, Any], prefix: Path) -> Iterator[Path]:
    for element, inner in fields.items():
        if element == ".":
            yield prefix
        elif inner:
            yield from _walk(inner, (*prefix, element))
        else:
            yield (*prefix, element)


def own_paths(metadata: Mapping[str, Any]) -> frozenset[Path] | None:
    """The paths of our entry."""
    entry = own_entry(metadata)
    return None if entry is None else paths(entry.get("fieldsV1") or _EMPTY)


def others_paths(metadata: Mapping[str, Any]) -> frozenset[Path]:
    """The paths of all entries but ours."""
    others = (entry for entry in entries(metadata) if not _ours(entry))
    return frozenset(path for entry in others for path in paths(entry.get("fieldsV1") or _EMPTY))


def digest(members: Iterable[Path]) -> str:
    """Hash of a set of paths, independent of their order."""
    text = json.dumps(sorted(members), separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def own_digest(metadata: Mapping[str, Any]) -> str | None:
    """Digest of our entry, or None without one."""
    members = own_paths(metadata)
    return None if members is None else digest(members)


def editor_of(metadata: Mapping[str, Any], path: Path) -> str:
    """The manager that owns `path` now; for a path that was removed, whoever wrote to the object last; else
    `unknown`."""
    others = [entry for entry in entries(metadata) if not _ours(entry)]
    for entry in others:
        members = paths(entry.get("fieldsV1") or _EMPTY)
        if any(member[: len(path)] == path for member in members):
            return str(entry.get("manager", "unknown"))
    if path == REPLICAS:
        return SCALED
    latest = max(
        (entry for entry in others if not entry.get("subresource")),
        key=lambda entry: str(entry.get("time", "")),
        default=None,
    )
    return str(latest.get("manager", "unknown")) if latest else "unknown"


def _ours(entry: Mapping[str, Any]) -> bool:
    return str(entry.get("manager", "")).startswith(FIELD_MANAGER)


def readable(path: Path) -> str:
    """`spec.template.spec.containers[name=runtime].image`, as people write it."""
    text = ""
    for element in path:
        marker, _, rest = element.partition(":")
        if marker == "f":
            text += f".{rest}" if _plain(rest) else f"[{rest}]"
        elif marker == "k":
            keys: Mapping[str, Any] = json.loads(rest)
            text += "[" + ",".join(f"{key}={value}" for key, value in sorted(keys.items())) + "]"
        else:
            text += f"[{rest.strip(chr(34))}]"
    return text.removeprefix(".")


def _plain(name: str) -> bool:
    return "." not in name and "/" not in name


def data_keys(metadata: Mapping[str, Any]) -> frozenset[str] | None:
    """Names of a Secret's keys as far as managedFields tells them, without reading a value; None where it does not
    tell."""
    found: set[str] = set()
    told = False
    for entry in entries(metadata):
        for section in ("f:data", "f:stringData"):
            if section in (entry.get("fieldsV1") or _EMPTY):
                told = True
                inner = (entry["fieldsV1"][section]) or _EMPTY
                found |= {key.removeprefix("f:") for key in inner if key.startswith("f:")}
    return frozenset(found) if told else None


def data_digest(metadata: Mapping[str, Any]) -> str:
    """Changes when a Secret's values are written, and not when its labels are: from its uid and who wrote data when."""
    writers = sorted(
        f"{entry.get('manager')}/{entry.get('operation')}/{entry.get('time')}"
        for entry in entries(metadata)
        if {"f:data", "f:stringData"} & set(entry.get("fieldsV1") or _EMPTY)
    )
    if not writers:
        writers = [str(metadata.get("resourceVersion"))]
    text = "\n".join([str(metadata.get("uid")), *writers])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
