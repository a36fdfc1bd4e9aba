"""What our managedFields entry must be after a manifest was applied, computed without asking.

Follows structured-merge-diff's ToFieldSet: scalars, atomic lists and maps, items of keyed lists, and entries of
free-form maps are members. Only the places where the Kubernetes schema departs from "a map is a struct, a list is
atomic" are listed here; a place missing from the list costs one dry-run request an object, not correctness, because an
unexpected digest is verified before it counts as drift.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from soma_operator.ownership.entries import Path

_GONE = object()

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
        element = (*prefix, item_element(item, place))
        yield element
        if f"{place}[]" not in ATOMIC:
            yield from _members(item, f"{place}[]", element)


def item_element(item: Mapping[str, Any], place: str) -> str:
    """How FieldsV1 names an item of the keyed list at `place`."""
    keys = {key: item[key] for key in KEYED[place] if key in item}
    return "k:" + json.dumps(keys, separators=(",", ":"), sort_keys=True)


def without(manifest: Mapping[str, Any], dropped: Collection[Path]) -> dict[str, Any]:
    """The manifest without these members: what is not applied is not taken from whoever has it.

    What an apply is refused without stays: identity, and the keys of an item that keeps anything else.
    """
    kept: dict[str, Any] = _kept(manifest, "", (), dropped)
    return kept


def _kept(value: Any, place: str, prefix: Path, dropped: Collection[Path]) -> Any:
    if isinstance(value, Mapping) and value and place not in ATOMIC:
        left = {}
        for name, inner in value.items():
            where = f"{place}.{name}" if place else name
            kept = inner if where in _IDENTITY else _kept(inner, where, (*prefix, f"f:{name}"), dropped)
            if kept is not _GONE:
                left[name] = kept
        return left or _GONE
    if isinstance(value, list) and value and place in KEYED:
        items = [kept for item in value if (kept := _kept_item(item, place, prefix, dropped)) is not _GONE]
        return items or _GONE
    return _GONE if prefix in dropped else value


def _kept_item(item: Mapping[str, Any], place: str, prefix: Path, dropped: Collection[Path]) -> Any:
    element = (*prefix, item_element(item, place))
    if f"{place}[]" in ATOMIC:
        return _GONE if element in dropped else item
    kept = _kept(item, f"{place}[]", element, dropped)
    if element in dropped and kept is _GONE:
        return _GONE
    keys = {key: item[key] for key in KEYED[place] if key in item}
    return keys if kept is _GONE else {**keys, **kept}
