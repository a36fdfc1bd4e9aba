"""What tests of a ledger are made of: units, keys, and a place to open either kind of ledger in."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from memory_runtime.model.coordinates import memory_id
from memory_runtime.model.records import Edge, Scope
from memory_runtime.scoring import ImportanceNormaliser
from memory_runtime.stores.contracts import Applied, Delete, IdempotencyKey, Link, Put
from memory_runtime.stores.sessions import Ledger

ACME = Scope("acme", "notes")
DIM = 3


def identity(number: float, scope: Scope = ACME, memory_type: str = "episodic") -> uuid.UUID:
    return memory_id(scope.tenant, scope.namespace, memory_type, repr(float(number)))


def put(number: float, text: str = "words", *, scope: Scope = ACME, memory_type: str = "episodic", **rest: Any) -> Put:
    values: dict[str, Any] = {
        "payload": f'{{"text":"{text}"}}',
        "event_time": 1000.0,
        "ingest_time": 2000.0,
        "vector": np.array([1, 0, 0], np.float32),
    }
    return Put(
        id=identity(number, scope, memory_type),
        scope=scope,
        memory_type=memory_type,
        coordinate=repr(float(number)),
        search_text=text,
        **(values | rest),
    )


def drop(number: float, scope: Scope = ACME, **rest: Any) -> Delete:
    return Delete(identity(number, scope), scope, "episodic", **({"at": 3000.0} | rest))


def link(source: float, target: float, link_type: str = "related", weight: float = 1.0, **metadata: Any) -> Link:
    edge = Edge((float(source),), (float(target),), link_type, weight, metadata)
    return Link(ACME, edge, 4000.0, between_memories=True)


def key(name: str, body: str = "body", scope: Scope = ACME, **rest: Any) -> IdempotencyKey:
    return IdempotencyKey(scope, "store", name, body, **({"at": 2000.0} | rest))


def normaliser(state: str | None) -> ImportanceNormaliser:
    return ImportanceNormaliser() if state is None else ImportanceNormaliser.loads(state)


class Make(Protocol):
    """Makes a ledger, closed, at the place, with this observer."""

    def __call__(self, observer: Callable[[Sequence[Applied]], None]) -> Ledger: ...


@dataclass
class Place:
    """Where a ledger is kept: it may be opened, closed and opened again; every one of them ends with the test."""

    kind: str
    make: Make
    ask: Callable[[str], list[tuple[Any, ...]]]
    opened: list[Ledger] = field(default_factory=list)

    def open(self, applied: list[Applied] | None = None) -> Any:
        """A ledger that is open; what it hands on is gathered in `applied`."""
        heard: list[Applied] = [] if applied is None else applied
        ledger = self.make(heard.extend)
        ledger.open()
        self.opened.append(ledger)
        return ledger

    def half_visible(self) -> dict[str, int]:
        """What a crash must never leave, by its name."""
        ledger = self.opened[-1]
        if self.kind == "sqlite":
            from memory_runtime.stores.sqlite.following import half_visible as of_sqlite

            return ledger.read_now(lambda view: of_sqlite(view.connection))  # type: ignore[attr-defined]
        from memory_runtime.stores.postgres.following import half_visible as of_postgres

        return ledger.read_now(lambda view: of_postgres(view.session))  # type: ignore[attr-defined]
