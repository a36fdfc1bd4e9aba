"""The old gRPC service's collections: there a coordinate is its own vector, and each memory type is a collection."""

from __future__ import annotations

import threading

import numpy as np

from memory_runtime.model.coordinates import Coordinate, coordinate_from_canonical
from memory_runtime.model.records import Scope

_Key = tuple[str, str, str, int]


class CoordinateCollections:
    """Coordinates by scope, type and length, searched by cosine. A zero coordinate is allowed: its cosine is 0."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._members: dict[_Key, dict[bytes, Coordinate]] = {}
        self._home: dict[bytes, _Key] = {}
        self._matrices: dict[_Key, tuple[list[bytes], np.ndarray[tuple[int, ...], np.dtype[np.float64]]]] = {}

    def put(self, identity: bytes, tenant: str, namespace: str, memory_type: str, text: str) -> None:
        """Adds a coordinate, by its canonical text."""
        coordinate = coordinate_from_canonical(text)
        key = (tenant, namespace, memory_type, len(coordinate))
        with self._lock:
            self._members.setdefault(key, {})[identity] = coordinate
            self._home[identity] = key
            self._matrices.pop(key, None)

    def delete(self, identities: list[bytes]) -> None:
        """Removes those that are here."""
        with self._lock:
            for identity in identities:
                key = self._home.pop(identity, None)
                if key is not None:
                    del self._members[key][identity]
                    self._matrices.pop(key, None)

    def search(self, scope: Scope, memory_type: str, query: Coordinate, top_k: int) -> list[tuple[bytes, float]]:
        """The ids of the top k by cosine, then by distance, then by id, each with its cosine (0 where one is zero)."""
        key = (scope.tenant, scope.namespace, memory_type, len(query))
        with self._lock:
            if key not in self._matrices:
                members = sorted(self._members.get(key, {}).items())
                stacked = np.array([coordinate for _, coordinate in members], dtype=float).reshape(
                    len(members), len(query)
                )
                self._matrices[key] = ([identity for identity, _ in members], stacked)
            identities, matrix = self._matrices[key]
        if not identities:
            return []
        wanted = np.asarray(query)
        # scaled by the largest component first: squares of large coordinates would overflow
        scale = np.maximum(np.abs(matrix).max(axis=1), 1e-300)
        rows, unit = matrix / scale[:, None], wanted / max(float(np.abs(wanted).max()), 1e-300)
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows)) * np.sqrt(np.dot(unit, unit))
        cosine = np.divide(rows @ unit, norms, out=np.zeros(len(rows)), where=norms > 0)
        with np.errstate(over="ignore"):
            distance = np.sqrt(np.square(matrix - wanted).sum(axis=1))
        order = np.lexsort((distance, -np.round(cosine, 12)))[:top_k]
        return [(identities[at], float(cosine[at])) for at in order]

    def __len__(self) -> int:
        return len(self._home)
