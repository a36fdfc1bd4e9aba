"""What our managedFields entry must be after a manifest was applied, computed without asking.

Follows structured-merge-diff's ToFieldSet: scalars, atomic lists and maps, items of keyed lists, and entries of
free-form maps are members. Only the places where the Kubernetes schema departs from "a map is a struct, a list is
atomic" are listed here; a place missing from the list costs one dry-run request an object, not correctness, because an
unexpected digest is verified before it counts as drift.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from soma_operator.ownership.entries import Path

_POD = "spec.template.spec"
_CONTAINER = f"{_POD}.containers[]"

# Keyed lists (x-kubernetes-list-type: map), by path with [] for an item.
KEYED: Mapping[str, tuple[str, ...]] = {
    "metadata.ownerReferences": ("uid",),
    f"{_POD}.containers": ("name",),
    f"{_POD}.volumes": ("name",),
    f"{_POD}.imagePullSecrets": ("name",),
    f"{_POD}.topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    f"{_CONTAINER}.env": ("name",),
    f"{_CONTAINER}.ports": ("containerPort", "protocol"),
    f"{_CONTAINER}.volumeMounts": ("mountPath",),
    "spec.ports": ("port", "protocol"),
}
# Structs and maps that change as a whole (x-kubernetes-map-type: atomic).
ATOMIC = frozenset(
    {
        "metadata.ownerReferences[]",
        "spec.selector",
        f"{_POD}.nodeSelector",
        f"{_POD}.imagePullSecrets[]",
        f"{_POD}.topologySpreadConstraints[].labelSelector",
        f"{_CONTAINER}.env[].valueFrom.fieldRef",
        f"{_CONTAINER}.env[].valueFrom.secretKeyRef",
        f"{_CONTAINER}.env[].valueFrom.configMapKeyRef",
        f"{_CONTAINER}.env[].valueFrom.resourceFieldRef",
        f"{_POD}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution",
        "spec.podSelector",
        "spec.scaleTargetRef",
        "spec.dataSource",
    }
)
# Free-form maps: the entry itself is a member, even where its value is a map.
_IDENTITY = frozenset({"apiVersion", "kind", "metadata.name", "metadata.namespace"})


def expected_paths(manifest: Mapping[str, Any]) -> frozenset[Path]:
    """The members of our entry after `manifest` was applied. apiVersion, kind, name and namespace are never owned."""
    return frozenset(_members(manifest, "", ()))


def _members(value: Any, place: str, prefix: Path) -> Iterator[Path]:
    if isinstance(value, Mapping) and value and place not in ATOMIC:
        for name, inner in value.items():
            where = f"{place}.{name}" if place else name
            if where not in _IDENTITY:
                yield from _members(inner, where, (*prefix, f"f:{name}"))
    elif isinstance(value, list) and place in KEYED:
        yield from _items(value, place, prefix)
    else:
        yield prefix


def _items(values: Sequence[Mapping[str, Any]], place: str, prefix: Path) -> Iterator[Path]:
    for item in values:
        keys = {key: item[key] for key in KEYED[place] if key in item}
        element = (*prefix, "k:" + json.dumps(keys, separators=(",", ":"), sort_keys=True))
        yield element
        if f"{place}[]" not in ATOMIC:
            yield from _members(item, f"{place}[]", element)
