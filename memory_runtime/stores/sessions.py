"""How the engine asks a ledger: a view to read in, a transaction to write in, whatever database stands behind.

Both are blocking and belong to one worker thread; `Ledger.read` and `Ledger.transact` bring a caller's function to
them. A view sees everything that was committed before it was opened, and a transaction what it has done itself.
Every method may raise Unavailable where the database is away, full or damaged. Costs are stated for n live memories.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from memory_runtime.model.coordinates import Coordinate
from memory_runtime.model.records import Edge, MemoryRecord, Scope, Vector
from memory_runtime.stores.audit import AuditLine
from memory_runtime.stores.contracts import (
    Applied,
    AuditEntry,
    Change,
    Collection,
    Committed,
    EdgeKey,
    IdempotencyKey,
    KeywordHit,
    Lineage,
    Neighbor,
    NormaliserState,
    Put,
    Receipt,
    Rows,
    Unit,
)
from memory_runtime.stores.history import Past
from memory_runtime.stores.values import (
    CoordinateRow,
    CountKey,
    Kept,
    Pending,
    Restored,
    Row,
    Slice,
    VectorTable,
    Visible,
)

T = TypeVar("T")


class RecordView(Protocol):
    """Records: by id, coordinate, filter, range, word."""

    def get(self, record_id: uuid.UUID) -> MemoryRecord | None:
        """The live record of this id, with its vector."""

    def by_ids(self, ids: Sequence[bytes]) -> dict[bytes, MemoryRecord]:
        """The live records among these ids, without vectors."""

    def at_coordinate(
        self, scope: Scope, coordinate: Coordinate, memory_type: str | None, now: float
    ) -> list[MemoryRecord]:
        """The live memories at a coordinate, the last stored first."""

    def types_at(self, scope: Scope, coordinate: Coordinate, collection: Collection) -> list[str]:
        """The memory types that have a live row, expired or not, at the coordinate, in order."""

    def by_words(
        self,
        scope: Scope,
        term: str,
        *,
        exact: bool,
        case_sensitive: bool,
        limit: int,
        memory_type: str | None,
        filters: Mapping[str, Any] | None,
        now: float,
    ) -> list[MemoryRecord]:
        """Memories with the words of `term`, in a row if `exact`, else any of them; best match first, then by id.

        A term without a word (`!?`) is looked for as characters, in order of coordinate: cost n of the scope.
        """

    def holding(
        self,
        scope: Scope,
        fragments: Sequence[str],
        *,
        memory_type: str | None,
        filters: Mapping[str, Any] | None,
        now: float,
        limit: int,
    ) -> list[MemoryRecord]:
        """The scope's memories whose payload's JSON, its ASCII letters in lower case, holds any of the fragments, by
        coordinate; all of them where there are no fragments. Cost: the memories of the scope.
        """

    def page(
        self, scope: Scope, *, after: uuid.UUID | None, limit: int, memory_type: str | None, now: float
    ) -> list[MemoryRecord]:
        """Up to `limit` live memories with ids after `after`, in order of id, with their vectors."""

    def past(
        self,
        scope: Scope,
        at: float,
        *,
        memory_type: str | None = None,
        filters: Mapping[str, Any] | None = None,
        coordinate: Coordinate | None = None,
        payloads: bool = True,
    ) -> Past:
        """What counted at `at` in the scope, where that is not what counts now. Cost: versions superseded since.

        Without `payloads` the versions have empty ones: `versions` reads those that are wanted.
        Raises DeadlineExceeded.
        """

    def superseded_since(self, scope: Scope, at: float) -> int:
        """How many kept versions of the scope were superseded after `at`. Cost: as many entries of an index."""

    def versions(self, wanted: Sequence[tuple[bytes, int]]) -> dict[bytes, MemoryRecord]:
        """The superseded versions of these ids and numbers, one of an id, without vectors, by id."""

    def newest_importance(self, limit: int = 2000) -> list[float]:
        """The normalised importance of the memories stored last, of all scopes."""

    def allowed_ids(
        self, scope: Scope, filters: Mapping[str, Any], *, memory_type: str | None, now: float
    ) -> list[bytes]:
        """The ids of the scope's live memories that pass the filters. Cost: n of the scope."""

    def coordinates_between(
        self, scope: Scope, low: Coordinate, high: Coordinate, *, memory_type: str | None, limit: int, now: float
    ) -> list[Coordinate]:
        """The coordinates between low and high in every dimension, of the same length, in order."""

    def expired(self, now: float, limit: int) -> list[tuple[uuid.UUID, Scope, str]]:
        """Id, scope and type of memories that had expired by `now`, neither pinned nor held."""

    def held_beyond(self, since: float, until: float) -> list[bytes]:
        """The ids of memories under a legal hold whose ttl ends within these moments."""


class WordView(Protocol):
    """What hybrid recall reads beside vectors. BM25's statistics are those of the whole ledger, k1 1.2 and b 0.75."""

    def any_word(
        self,
        scope: Scope,
        text: str,
        *,
        limit: int,
        now: float,
        memory_type: str | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> list[KeywordHit] | None:
        """The best matches of any word of the text, by BM25 and then id; None where the text holds no word."""

    def unfolded(self) -> bool:
        """Whether an older release left texts that searches by words do not find: see `refold_words`."""

    def frequency(self, word: str, *, limit: int) -> int:
        """How many memories of the whole ledger hold the word, in any form; `limit` + 1 where more than that do."""

    def best_by_words(self, visible: Visible, words: Sequence[str], *, limit: int) -> dict[bytes, float]:
        """BM25, higher is better, of the best matches of any of the words, by id."""

    def word_scores(self, word: str, rows: Sequence[int]) -> dict[int, float]:
        """BM25 of one word in these rows; a row without the word is absent."""

    def rows(self, visible: Visible, ids: Sequence[bytes]) -> list[Row]:
        """Those of the ids that are visible, in no order."""

    def around(self, visible: Visible, row: Row, *, reach: int, gap: float) -> tuple[list[Row], list[Row]]:
        """Up to `reach` memories of the same type before and after, nearest first, no more than `gap` seconds from
        one to the next: what was said in the same sitting.
        """

    def linked(self, visible: Visible, seeds: Sequence[Row], *, limit: int) -> list[tuple[bytes, Row, float]]:
        """Memories that the seeds' coordinates are linked with, either way: (seed's id, the other, edge's weight)."""

    def vectors(self, rows: Sequence[int]) -> dict[int, Vector]:
        """The vectors of these rows, by row; a row without one is absent."""


class GraphView(Protocol):
    """Walks over edges, breadth first (Unprocessable once one passes 100,000 coordinates), and the edges themselves."""

    def neighbors(
        self, scope: Scope, start: Coordinate, *, link_type: str | None, hops: int, limit: int
    ) -> list[Neighbor]:
        """The coordinates within `hops` edges of `start`, nearest first, then by falling weight; each once."""

    def shortest_path(
        self, scope: Scope, start: Coordinate, goal: Coordinate, *, link_type: str | None, max_length: int
    ) -> list[Edge] | None:
        """A path with the fewest hops, at most `max_length`; empty for a start that is the goal; else None."""

    def edges(self, scope: Scope, *, after: EdgeKey | None, limit: int) -> list[Edge]:
        """Up to `limit` edges of the scope after that key, in order of source, link type, target (as text)."""

    def edges_at(self, scope: Scope, coordinates: Sequence[Coordinate]) -> list[Edge]:
        """Every edge to or from these coordinates, each once, in no order."""

    def edges_standing(self, scope: Scope, keys: Sequence[EdgeKey]) -> list[Edge]:
        """Those of these edges that are there, as they are now."""

    def edge_scopes(self) -> list[Scope]:
        """The scopes that have edges. Cost: their number, times a search."""


class RetentionView(Protocol):
    """What retention and a rebuild of importance read."""

    def measure(self, after: int, limit: int, dim: int, scope: Scope | None = None) -> Slice:
        """The next `limit` live memories after row `after`, of one scope or of all."""

    def kept(self, rows: Sequence[int]) -> list[Kept]:
        """Those of the rows that are alive and may go, whole, in order of id."""

    def described(self, rows: Sequence[int]) -> dict[int, MemoryRecord]:
        """The records of these rows, by row, without vectors."""

    def ids_of(self, rows: Sequence[int]) -> list[bytes]:
        """The ids of these rows."""

    def raw_values(self, tenant: str, most: int) -> tuple[list[float], int]:
        """At most about `most` raw importances of the tenant's live memories, evenly spread, and how many there are."""

    def raw_of(self, tenant: str, ids: Sequence[bytes]) -> dict[bytes, float]:
        """The raw importances of those of the ids that are the tenant's and have one."""

    def normaliser_state(self, tenant: str) -> str | None:
        """The tenant's importance normaliser, dumped; None before its first observation."""


class FollowView(Protocol):
    """What followers of the ledger read: index, replicas, sinks, the next embedding."""

    def facts(self) -> dict[str, str]:
        """What the ledger remembers about itself."""

    def find_reply(self, key: IdempotencyKey) -> tuple[Receipt, ...] | None:
        """The reply that this key was given before. Raises Conflict when it stood for another body."""

    def head(self) -> int:
        """The sequence of the newest change that this view sees."""

    def lineages(self) -> list[Lineage]:
        """The lines of the ledger's history, oldest first (see `stores.lineages`)."""

    def tail(self, seq: int, limit: int, token: str = "") -> list[Change]:
        """The changes after `seq`, in order. Raises TailTrimmed where some of them are gone.

        `token` is the `history` of the change at `seq` as the caller knows it; HistoryLost where another one is there.
        """

    def changes(self, seq: int, limit: int, dim: int, token: str = "") -> list[Applied]:
        """The changes after `seq` as the index needs them. Raises TailTrimmed, and HistoryLost as `tail` does.

        A put carries the memory as it is in this view, which may be a later version, and no payload or words; one
        that has been deleted since carries no vector: the delete follows.
        """

    def sinks(self) -> dict[str, int]:
        """How far each sink has come: name and sequence."""

    def audit(self, after: int, limit: int) -> list[AuditLine]:
        """The lines of the audit chain with numbers above `after`, in order."""

    def audit_head(self) -> int:
        """The number of the audit chain's last line; 0 where there is none."""

    def counts(self) -> dict[CountKey, int]:
        """Live memories by tenant, namespace, memory type and collection. Cost: n."""

    def coordinate_rows(self) -> list[CoordinateRow]:
        """Every live row of the old service's coordinate collections."""

    def scan(self, dim: int, batch: int = 20_000, table: VectorTable = "vectors") -> Iterator[Rows]:
        """All live memories with a vector, in order of row, in this view. Cost: n."""

    def stamps(self, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        """(id, seq of the change that wrote it) of the next live memories after that id of 16 bytes, in order of id."""

    def some(self, ids: Sequence[bytes], dim: int) -> Iterator[Rows]:
        """The live memories among these ids, as `scan` gives them."""

    def tombstones(self, after: int, limit: int) -> list[tuple[int, Change]]:
        """(row, the change that deleted it) of the next deleted memories after that row, in order of row."""

    def pending(self, after: int, limit: int) -> list[Pending]:
        """The next memories after row `after` without a next vector, in order of row."""

    def progress(self) -> tuple[int, int]:
        """Next vectors made, of how many."""


class LedgerView(RecordView, WordView, GraphView, RetentionView, FollowView, Protocol):
    """All that can be read."""


class LedgerTransaction(Protocol):
    """The open transaction of a group: what it does is durable with the group or not at all."""

    @property
    def view(self) -> LedgerView:
        """What this transaction sees, its own writes included."""

    def run(self, unit: Unit) -> Committed:
        """Runs a unit whole or not at all: a refusal (SomaError) undoes only this unit, and the group goes on."""

    def remember(self, key: str, value: str, *, replace: bool = True) -> None:
        """Sets a fact; with `replace` False only where there is none."""

    def forget(self, key: str) -> None:
        """Removes a fact."""

    def advance_sink(self, name: str, seq: int, at: float) -> None:
        """Says that a sink has passed `seq`."""

    def drop_sink(self, name: str) -> None:
        """Forgets a sink: what it had not passed no longer keeps the outbox."""

    def add_accesses(self, taken: Sequence[tuple[int, float, bytes]]) -> None:
        """Adds (count, last time, id) to live memories."""

    def trim(self, before: float, keep: int) -> None:
        """Forgets idempotency rows from before, and changes that every sink has passed beyond the last `keep`."""

    def sweep_versions(self, before: float, most: int) -> int:
        """Forgets versions superseded before that moment, and all but the last `most` of each memory."""

    def hold(self, scope: Scope, coordinate: str, memory_type: str | None, held: bool, entry: AuditEntry) -> int:
        """Sets or ends the legal hold of the live memories at a coordinate; returns how many there are."""

    def purge(self, records: Sequence[MemoryRecord], at: float, entry: AuditEntry) -> list[Receipt]:
        """Deletes those of the records that are still as they were archived, neither pinned nor held."""

    def restore(
        self,
        memories: Sequence[tuple[Put, MemoryRecord, Sequence[Edge]]],
        at: float,
        entry: AuditEntry,
        *,
        over: bool = False,
    ) -> Restored:
        """Writes archived memories back with the i, times and accesses that they had; what lives is left as it is.

        With `over` it is written over: the next version, with the larger count of accesses and the last of them.
        """

    def normaliser(self, tenant: str) -> NormaliserState:
        """The tenant's normaliser, as of everything before in this group."""

    def replace_normaliser(self, tenant: str, state: str) -> None:
        """Puts another normaliser (dumped) in its place."""

    def rebuild_importance(self, tenant: str, mapped: Callable[[float], float], version: int) -> int:
        """Gives every memory of the tenant the i of another map, and keeps the i that it had; returns how many."""

    def undo_importance(self, tenant: str, mapped: Callable[[float], float], version: int, since: int) -> int:
        """Gives back the i that were before; what was stored since version `since` gets that of the former map."""

    def refold_words(self, limit: int) -> int:
        """Indexes up to `limit` texts that an older release indexed by other words; returns how many there were."""

    def confirm_importance(self, tenant: str) -> None:
        """Forgets the i that were before."""

    def begin_reembedding(self, target: str) -> None:
        """Opens the work for a target revision, or goes on with it; what was made for another one is thrown away."""

    def discard_reembedding(self) -> None:
        """Throws away what was made, if anything was."""

    def keep_vectors(self, made: Sequence[tuple[Pending, bytes]]) -> int:
        """Keeps next vectors of memories that have not changed since they were read; returns how many were kept."""

    def swap_vectors(self) -> bool:
        """Puts the next vectors in the place of the old ones; False, and nothing done, while any is missing."""

    def finish_reembedding(self, rows: int) -> bool:
        """Clears up at most `rows` memories after a swap; True once nothing is left."""


class Loaded(NamedTuple):
    """All that an index and its counts are built from, seen at one moment: exactly what was done up to `seq`."""

    rows: Iterator[Rows]
    coordinates: list[CoordinateRow]
    counts: dict[CountKey, int]
    seq: int


class Ledger(Protocol):
    """The truth. Nothing is acknowledged before it is durable here, and nothing else needs to survive."""

    on_generation: Callable[[int], None] | None
    """Called, where changes are applied, when another process changed rows without a seq; it must return at once."""
    on_lineage: Callable[[bool], None] | None
    """Called there too when the ledger goes on as another line of history; with True where changes that were handed on
    are in it no more, so that what was made of them must be made anew. It must return at once.
    """

    @property
    def lineage(self) -> str:
        """The line of history that the changes handed on last are of; empty while that is not known."""

    def open(self) -> None:
        """Migrates (or checks), and is ready. Blocking. Raises SettingsError or Unavailable."""

    def close(self) -> None:
        """Finishes queued commits and lets go. Blocking."""

    @property
    def head_seq(self) -> int:
        """The sequence of the newest durable change that this process knows of."""

    @property
    def fresh(self) -> bool:
        """Whether what was handed on was compared with the ledger a moment ago: else it may be of a lost history."""

    @property
    def commits(self) -> int:
        """How many groups were flushed: fewer than writes, where writers were concurrent."""

    @property
    def healthy(self) -> bool:
        """Open, whole and reachable."""

    @property
    def ailment(self) -> str:
        """Why it is not healthy, and what to do, for readiness; empty where it is."""

    @property
    def note(self) -> str:
        """What the user should hear about and that is no ailment, once it is open; empty where nothing."""

    async def commit(self, unit: Unit) -> Committed:
        """Makes the unit durable; returns once nothing can lose it and the index has heard of it.

        Cancelled before its group began, it has no effect. Raises Conflict, NotFound, Unavailable.
        """

    async def commit_many(self, units: Sequence[Unit]) -> list[Committed | Exception]:
        """Each unit's fate, in order; they share groups, not fates."""

    async def transact(self, run: Callable[[LedgerTransaction], T]) -> T:
        """Runs `run` inside the next group's transaction and returns once that is durable."""

    def write_now(self, run: Callable[[LedgerTransaction], T]) -> T:
        """`transact`, blocking, for a thread that is not the event loop's."""

    async def exclusively(self, run: Callable[[LedgerView], T]) -> T:
        """Runs `run` while no change is applied to the index; its view sees exactly what has been applied."""

    async def read(self, query: Callable[[LedgerView], T]) -> T:
        """Runs a query on a reader's thread; it sees everything committed before."""

    def read_now(self, query: Callable[[LedgerView], T]) -> T:
        """`read`, blocking, on the calling thread."""

    def load(self, dim: int) -> AbstractContextManager[Loaded]:
        """Opens a view of one moment for building an index; blocking."""

    def scan(self, dim: int, batch: int = 20_000, table: VectorTable = "vectors") -> Iterator[Rows]:
        """All live memories, in batches, in a view of their own; blocking. Raises Unavailable where damaged."""

    def catch_up(self) -> None:
        """Asks for what other processes have committed to be applied now rather than at the next look."""

    async def get(self, record_id: uuid.UUID) -> MemoryRecord | None:
        """The live memory of this id, with its vector."""

    async def tail(self, seq: int, limit: int = 1000, token: str = "") -> list[Change]:
        """The changes after `seq`, in order. Raises TailTrimmed, and HistoryLost as `FollowView.tail` does."""

    async def counts(self) -> dict[CountKey, int]:
        """Live memories by tenant, namespace, memory type and collection."""
