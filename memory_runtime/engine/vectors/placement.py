"""Where a row of the ledger belongs in the vector store: its weight L, and the rules that L was made by."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from memory_runtime.engine.following import Follower
from memory_runtime.model.records import Scope
from memory_runtime.scoring import PINNED, Profile
from memory_runtime.scoring.segment import log_weights
from memory_runtime.stores.contracts import Lineage, Rows
from memory_runtime.stores.interfaces import VectorPoint
from memory_runtime.stores.lineages import lineage_of
from memory_runtime.stores.values import Facts

_PIN: Final = "\x1f"
"""Behind a type's name: no name holds a control character."""


class Placement:
    """Weighs rows by the parameters in force."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower

    def layout(self, facts: Mapping[str, str]) -> str:
        """The rules in words: the formula's parameters, and what changes rows without a change in the outbox.

        Points placed under other rules cannot be compared with these: they are placed anew.
        """
        params = self._follower.params
        # by name: codes are given in order of first sight, which differs between replicas
        by_type = {self._follower.type_name(code): _words(profile) for code, profile in sorted(params.by_type.items())}
        rules: dict[str, Any] = {
            "default": _words(params.default),
            "by_type": {name: words for name, words in by_type.items() if words != _words(params.default)},
            "features": params.feature_names,
            "generation": facts.get(Facts.GENERATION, ""),
            "embedding": facts.get(Facts.EMBEDDING, ""),
        }
        return json.dumps(rules, sort_keys=True)

    def points(self, rows: Rows, seqs: Mapping[bytes, int], chain: Sequence[Lineage] = ()) -> list[VectorPoint]:
        """The points of these rows; one whose sequence is not known is left out (it was deleted in between).

        `chain` are the ledger's lines of history.
        """
        batch = self._follower.batch(rows)
        weight = log_weights(batch, self._follower.params)
        total = (weight.whole + weight.fraction).tolist()
        names = {code: self.stored_type(code) for code in set(batch.memory_type.tolist())}
        types = [names[code] for code in batch.memory_type.tolist()]
        return [
            VectorPoint(
                id=uuid.UUID(bytes=identity),
                scope=Scope(rows.tenants[at], rows.namespaces[at]),
                memory_type=types[at],
                vector=rows.vectors[at],
                seq=seqs[identity],
                log2_weight=total[at],
                event_time=rows.event_time[at],
                expires_at=None if np.isinf(rows.expires_at[at]) else rows.expires_at[at],
                epoch=lineage_of(chain, seqs[identity]).epoch,
            )
            for at, identity in enumerate(rows.ids)
            if identity in seqs
        ]

    def stored_type(self, code: int) -> str:
        """A memory type as points have it: pinned memories do not decay, so they are searched apart."""
        return self._follower.type_name(code) + (_PIN if code & PINNED else "")


def _words(profile: Profile) -> list[Any]:
    return [
        profile.importance_exponent,
        profile.similarity_exponent,
        profile.half_life,
        list(profile.feature_weights),
    ]
