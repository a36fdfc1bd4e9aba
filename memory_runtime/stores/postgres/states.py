"""What a group knows of the rows that it touches, in memory: read once, changed in order, written once.

A group runs its units here one after the other, as if each were alone, and costs the database a handful of statements
whatever its size. Nothing here speaks to the database.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from memory_runtime.stores.contracts import Applied, Operation, OriginVersion
from memory_runtime.stores.lineages import abandoned
from memory_runtime.stores.postgres.following import Head

Told = tuple[str, uuid.UUID]
"""Where an event comes from, and the memory that it tells of."""

Version = tuple[int, int]
"""Epoch of its line, and number."""

Place = tuple[str, str, str]
"""Tenant, namespace, coordinate."""


@dataclass(slots=True)
class State:
    """One memory's row as the group has left it so far; `stored` says that the table has a row of it."""

    row: int
    id: uuid.UUID
    collection: int
    tenant: str
    namespace: str
    memory_type: str
    coordinate: str
    importance_raw: float | None = None
    importance_norm: float = 1.0
    normaliser_version: int = 0
    event_time: float = 0.0
    ingest_time: float = 0.0
    access_time: float = 0.0
    access_count: int = 0
    expires_at: float | None = None
    pinned: bool = False
    hold: bool = False
    version: int = 0
    seq: int = 0
    deleted: bool = False
    model_revision: str = ""
    features: str | None = None
    payload: str = ""
    text: str = ""
    vector: bytes | None = None
    drops_vector: bool = False
    words: int | None = None
    stored: bool = False

    @property
    def place(self) -> Place:
        """Where it is."""
        return self.tenant, self.namespace, self.coordinate


@dataclass(slots=True)
class Outgoing:
    """One row of the outbox."""

    seq: int
    operation: Operation
    id: uuid.UUID
    collection: int
    tenant: str
    namespace: str
    memory_type: str
    version: int
    at: float
    previous_seq: int | None
    payload: str | None
    created: bool = False
    coordinate: str = ""
    event_time: float | None = None
    importance: float | None = None
    model_revision: str = ""
    origin: str = ""
    trace: str = ""


@dataclass(slots=True)
class Drop:
    """Takes away the edges from and to a place at which no memory lives any more."""

    place: Place


@dataclass(slots=True)
class Cut:
    """Takes away one edge."""

    key: uuid.UUID


@dataclass(slots=True)
class Join:
    """Writes an edge: key, then the columns of `edges`."""

    key: uuid.UUID
    values: tuple[Any, ...]


@dataclass(slots=True)
class Reply:
    """A row of the idempotency table to be; `over` one that is there, whose reply no longer stands."""

    digest: uuid.UUID
    values: tuple[Any, ...]
    over: bool = False


@dataclass(slots=True)
class Replaced:
    """A version that was superseded: the group's own (`state`), or what the table's row holds."""

    id: uuid.UUID
    at: float
    state: State | None = None


@dataclass(slots=True)
class Erased:
    """A memory that was deleted: nothing of what it was stays."""

    id: uuid.UUID


@dataclass(slots=True)
class Mark:
    """Where a unit began, to which a refusal goes back."""

    seq: int
    rows: int
    outbox: int
    applied: int
    edges: int
    audit: int
    replies: int
    past: int
    told: tuple[Told, Version | None] | None = None
    before: dict[uuid.UUID, tuple[State | None, bool]] = field(default_factory=dict)


class Work:
    """All that the group has read and all that it has to write."""

    def __init__(self, head: Head, version: int) -> None:
        """`version` is the head's row version: whoever writes anything makes another one."""
        self.head, self.version = head, version
        self.seq, self.rows = head.seq, head.rows
        self.states: dict[uuid.UUID, State | None] = {}
        self.changed: dict[uuid.UUID, None] = {}
        self.at: dict[Place, set[uuid.UUID]] = {}
        self.replies: dict[uuid.UUID, tuple[str, str] | None] = {}
        self.told: dict[Told, Version | None] = {}
        self.new_told: dict[Told, Version] = {}
        self.lines: dict[str, dict[int, int]] = {}
        """Of each origin, where its lines were forked, by epoch."""
        self.new_lines: dict[tuple[str, int], int] = {}
        self.outbox: list[Outgoing] = []
        self.edges: list[Drop | Join | Cut] = []
        self.new_replies: list[Reply] = []
        self.audit: list[tuple[Any, ...]] = []
        self.applied: list[Applied] = []
        self.past: list[Replaced | Erased] = []
        self._mark: Mark | None = None

    def begin(self) -> None:
        """A unit begins."""
        self._mark = Mark(
            seq=self.seq,
            rows=self.rows,
            outbox=len(self.outbox),
            applied=len(self.applied),
            edges=len(self.edges),
            audit=len(self.audit),
            replies=len(self.new_replies),
            past=len(self.past),
        )

    def undo(self) -> None:
        """The unit was refused: everything is as it was when it began."""
        mark = self._mark
        if mark is None:
            return
        self.seq, self.rows = mark.seq, mark.rows
        del self.outbox[mark.outbox :], self.applied[mark.applied :], self.edges[mark.edges :], self.audit[mark.audit :]
        for identity, (state, changed) in mark.before.items():
            self.states[identity] = state
            if not changed:
                self.changed.pop(identity, None)
            if state is None:
                for found in self.at.values():
                    found.discard(identity)
        del self.new_replies[mark.replies :], self.past[mark.past :]
        if mark.told is not None:
            self._untell(*mark.told)

    def tell(self, of: OriginVersion) -> bool:
        """Whether no such version was told of before, nor is it of an abandoned future; from here on this one was."""
        told, version = (of.origin, of.id), (of.epoch, of.version)
        lines = self.lines.setdefault(of.origin, {})
        if abandoned(lines.items(), of.epoch, of.seq):
            return False
        if of.epoch and of.epoch not in lines:
            # stays where the unit is refused: that the line is there is true all the same
            lines[of.epoch] = self.new_lines[of.origin, of.epoch] = of.forked
        before = self.told.get(told)
        if before is not None and version <= before:
            return False
        if self._mark is not None:
            self._mark.told = (told, before)
        self.told[told] = self.new_told[told] = version
        return True

    def _untell(self, told: Told, before: Version | None) -> None:
        self.told[told] = before
        self.new_told.pop(told, None)
        if before is not None:
            # the same again, or what an earlier unit of the group told
            self.new_told[told] = before

    def history(self, token: uuid.UUID) -> uuid.UUID | None:
        """The token of the newest change, once this group with its token is written."""
        return token if self.seq > self.head.seq else self.head.history

    def next_seq(self) -> int:
        """The number of the next change."""
        self.seq += 1
        return self.seq

    def change(self, identity: uuid.UUID) -> State | None:
        """The state, to be changed in place; None where there is no row yet (see `add`)."""
        state = self.states.get(identity)
        if self._mark is not None and identity not in self._mark.before:
            self._mark.before[identity] = (copy.copy(state), identity in self.changed)
        self.changed[identity] = None
        return state

    def add(self, state: State) -> None:
        """A row that is new."""
        self.states[state.id] = state
        if state.collection == 0 and state.place in self.at:
            self.at[state.place].add(state.id)

    def new_row(self) -> int:
        """The number of a new row."""
        self.rows += 1
        return self.rows

    def know_places(self, found: Sequence[tuple[Place, uuid.UUID]], asked: Sequence[Place]) -> None:
        """Takes in which live memories the table has at the places that were asked for."""
        for place in asked:
            self.at.setdefault(place, set())
        for place, identity in found:
            self.at[place].add(identity)
        for state in self.states.values():
            if state is not None and state.collection == 0 and state.place in self.at:
                self.at[state.place].add(state.id)

    def lives(self, place: Place) -> bool:
        """Whether a memory lives there now; the place must be known."""
        for identity in self.at[place]:
            state = self.states.get(identity)
            if state is None or not state.deleted:
                return True
        return False
