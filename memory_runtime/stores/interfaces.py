"""What every key-value, vector and graph store promises, whatever keeps it: errors, repeats, time-outs, cost.

True of all three, and not said again below:

- **Errors.** `Unavailable` (with `retry_after`) when the back end is away, slower than the store's own time-out, has no
  room, or its circuit is open; `DeadlineExceeded` when the caller's deadline (`resilience.deadline`) passed first;
  `Internal` when the back end refuses what we asked (a wrong password, a missing right).
  Nothing of a driver's own errors comes out, and no message holds a DSN or a password. `InvalidArgument` names the
  argument and is raised before anything is sent. A missing thing is a value (None, False, an empty list), no error.
- **After an error** of `Unavailable` or `DeadlineExceeded` a write may or may not have happened: every write here but
  `add` may be repeated, and the repeat leaves what one call would have left.
- **Time-outs.** Each call ends within the sooner of the deadline and the store's time-out, retries included.
- **Cancelling** a call frees its connection and its place in the bulkhead; a write that was sent may still happen.
- **Threads and loops.** A store belongs to the event loop that opened it; any number of tasks may call it at once.
- `start` is idempotent, makes what the store needs (tables, collections, constraints) where it may, and checks it;
  `close` is idempotent, ends connections, and after it every call raises Unavailable. `ping` takes no connection of its
  own, answers within a second, and raises nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from memory_runtime.model.coordinates import Coordinate
from memory_runtime.model.errors import Unavailable
from memory_runtime.model.records import Edge, Scope, Vector
from memory_runtime.stores.contracts import Neighbor

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""What a key-value store holds: JSON, so that every implementation gives back the same value; no NaN, no infinity."""

MAX_KEY_BYTES = 2048
"""The longest key, in UTF-8: an index row of PostgreSQL holds no more."""


@runtime_checkable
class Store(Protocol):
    """What every store has."""

    async def start(self) -> None:
        """Connects, makes and checks what the store needs. Raises Unavailable, or SettingsError naming the setting."""

    async def close(self) -> None:
        """Ends every connection. Waits for nothing longer than a second."""

    async def ping(self) -> bool:
        """Whether the back end answers now; never raises, never waits longer than a second."""


@runtime_checkable
class IKeyValueStore(Store, Protocol):
    """JSON values by key. Costs count n keys; a `key` is 1 to 2,048 bytes of UTF-8 without NUL.

    One key is linearizable within one back end: who reads after a `put` returned sees it or something newer. Several
    keys are not one transaction: `put_many` may be seen, and may fail, half done; its repeat completes it.
    """

    async def get(self, key: str) -> JsonValue | None:
        """The value, or None for a missing or expired key (a stored null is None too). O(1), O(log n) in PostgreSQL."""

    async def get_many(self, keys: Sequence[str]) -> dict[str, JsonValue]:
        """The values of those keys that exist; one round trip for each 1,000 keys (in a cluster: and node)."""

    async def put(self, key: str, value: JsonValue, *, ttl: float | None = None) -> None:
        """Sets the value, and forgets it after `ttl` seconds (None: never; it clears an earlier one). Idempotent.

        Raises InvalidArgument for what is not JSON and for a `ttl` ≤ 0.
        """

    async def put_many(self, items: Mapping[str, JsonValue], *, ttl: float | None = None) -> None:
        """Sets them all; one round trip for each 1,000 keys (in a cluster: and node). Idempotent as a whole."""

    async def add(self, key: str, value: JsonValue, *, ttl: float | None = None) -> bool:
        """Sets the value where the key is missing or expired, atomically; True if this call did.

        Never repeated by the store itself: after an error read the key to learn who won.
        """

    async def delete(self, key: str) -> bool:
        """Forgets the key; True if it was there. Idempotent in effect; a repeat after an error answers False."""

    async def delete_many(self, keys: Sequence[str]) -> int:
        """Forgets them and says how many there were; one round trip for each 1,000 keys (in a cluster: and node)."""

    def scan(self, prefix: str = "") -> AsyncIterator[str]:
        """Every key with that prefix, in no promised order; about 1,000 keys are held at a time.

        Keys there throughout are given, those that come or go meanwhile may be; Redis may give one twice.
        O(keys with the prefix) in PostgreSQL, O(all keys) in Redis: for tools, never on a request's path.
        """


@dataclass(frozen=True, slots=True, eq=False)
class VectorPoint:
    """One memory as a vector store holds it.

    `vector` is unit float32 [dim]; `seq` is the ledger's sequence of the change that wrote it. Of two points of one id
    that of the higher `epoch` (of its line of history, see `stores.lineages`), then of the higher `seq`, is the truth.
    `log2_weight` is L of docs/scoring.md, the part of the score that no clock touches. `event_time` and `expires_at`
    are epoch seconds.
    """

    id: uuid.UUID
    scope: Scope
    memory_type: str
    vector: Vector
    seq: int
    log2_weight: float = 0.0
    event_time: float = 0.0
    expires_at: float | None = None
    epoch: int = 0


class VectorRemoval(NamedTuple):
    """A memory that is gone, and the change that removed it: its sequence, and the epoch of its line of history."""

    id: uuid.UUID
    seq: int
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class VectorFilter:
    """What a search may return; applied before the best are chosen, never after. None is no condition.

    `log2_weight` and `event_time` are half-open ranges [low, high); `at` hides what has expired by that epoch second.
    """

    memory_types: Collection[str] | None = None
    event_time: tuple[float, float] | None = None
    log2_weight: tuple[float, float] | None = None
    at: float | None = None


class StoreWiped(Unavailable):
    """The back end answers, and what the store keeps there is gone or was never made: it has to be filled again."""


class VectorHit(NamedTuple):
    """One point found: its cosine with the query, its `log2_weight`, and the sequence it was written by."""

    id: uuid.UUID
    similarity: float
    log2_weight: float
    seq: int


@runtime_checkable
class IVectorStore(Store, Protocol):
    """Unit vectors by id, searched by cosine. A derived view of the ledger: it may be wiped and fed again.

    Newest `seq` wins, whatever order calls arrive in: an older upsert or removal changes nothing. A store that keeps no
    trace of a removed id can be brought to hold it again by an older upsert that comes later; a feed replayed in order
    ends right, and readers resolve every hit against the ledger, which is the truth.
    """

    @property
    def approximate(self) -> bool:
        """Whether `search` may miss a better point; what such a store finds is labelled so to the caller."""

    async def upsert(self, points: Sequence[VectorPoint]) -> None:
        """Writes the points whose `seq` is above what the store holds. Idempotent; batches by itself; O(n).

        Raises InvalidArgument for a vector of the wrong dimension, before anything is sent; and Unavailable with
        `retry_after` when the store lags behind what it has accepted (backpressure): send less.
        """

    async def remove(self, removals: Sequence[VectorRemoval]) -> None:
        """Removes what was written at or below that `seq`. Idempotent; missing ids are no error; O(n)."""

    async def search(
        self, scope: Scope, query: Vector, limit: int, *, where: VectorFilter | None = None, weighted: bool = False
    ) -> list[VectorHit]:
        """The best `limit` points of the scope with a positive cosine, best first, ties by id. Never another scope's.

        `weighted` orders by cosine · 2^log2_weight, which is the decayed score up to a factor common to all. O(points
        of the scope) where exact, about O(log n) where approximate.
        """

    async def seqs(self, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
        """The `seq` that each of those ids was written by; missing ids are left out. For the reconciler; O(n)."""

    async def count(self, scope: Scope | None = None) -> int:
        """How many points the scope (None: the store) holds, exactly; may cost O(points)."""


@runtime_checkable
class IGraphStore(Store, Protocol):
    """Typed, weighted, directed edges between coordinates of one scope; nothing crosses scopes.

    An edge is known by (source, target, link_type): writing it again is an update of its weight and metadata. Walks
    follow edges from source to target, and raise Unprocessable once they pass 100,000 coordinates.
    """

    async def link(self, scope: Scope, edges: Iterable[Edge]) -> None:
        """Writes the edges, all or none. Idempotent. O(edges); raises Unavailable where a bounded store is full."""

    async def unlink(self, scope: Scope, source: Coordinate, target: Coordinate, link_type: str | None = None) -> int:
        """Removes the edges between the two (None: of every type), and says how many there were. Idempotent."""

    async def forget(self, scope: Scope, coordinates: Iterable[Coordinate]) -> int:
        """Removes every edge to or from those coordinates, as their memories go; says how many. Idempotent."""

    async def neighbors(
        self, scope: Scope, start: Coordinate, *, link_type: str | None = None, hops: int = 1, limit: int = 100
    ) -> list[Neighbor]:
        """What `hops` edges reach from `start`, each coordinate once: nearest first, then by weight (heavier first).

        Ties are in the order of canonical coordinate and link type, so a limit cuts the same way each time. O(edges
        walked).
        """

    async def shortest_path(
        self,
        scope: Scope,
        start: Coordinate,
        goal: Coordinate,
        *,
        link_type: str | None = None,
        max_length: int = 10,
    ) -> list[Edge] | None:
        """The edges of a path with the fewest hops, at most `max_length`; [] where start is goal; None: there is none.

        O(edges within `max_length` hops).
        """

    def edges(self, scope: Scope) -> AsyncIterator[Edge]:
        """Every edge of the scope, once, in no promised order, in bounded memory: what GraphML is written from."""

    async def count(self, scope: Scope | None = None) -> int:
        """How many edges the scope (None: the store) holds."""
