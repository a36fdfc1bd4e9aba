"""Hands changes to the index in order of seq: what this replica committed, and between that what the others did."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from memory_runtime.stores.contracts import Applied, Observer, TailTrimmed
from memory_runtime.stores.postgres import errors, following
from memory_runtime.stores.postgres.link import WriterLink
from memory_runtime.stores.postgres.session import Session

log = logging.getLogger(__name__)

AT_ONCE: Final = 2000


class Group(NamedTuple):
    """What a group has committed, and the ledger's generation when it began and when it ended."""

    applied: Sequence[Applied]
    began: int
    generation: int


class Tracker:
    """Belongs to the writer's thread, but for `begin_at`, which comes before there is anything to follow."""

    def __init__(self, observer: Observer | None, dim: int) -> None:
        """Without an observer nothing is read: only how far the ledger has come is known."""
        self._observer = observer
        self._dim = dim
        self.following = False
        self.applied = 0
        self.head = 0
        self.generation = 0
        self.on_generation: Callable[[int], None] | None = None

    def begin_at(self, seq: int, generation: int, *, following: bool) -> None:
        """Everything up to `seq` is known; with `following`, what comes after it is handed on from here."""
        self.applied, self.generation = seq, generation
        self.head = max(self.head, seq)
        self.following = following

    def publish(self, link: WriterLink, group: Group) -> None:
        """Hands on what a group of this replica committed, after what others committed before it."""
        if group.began != self.generation:
            # another replica's, and this group came before the next look
            self._turn(group.began)
        # raised in this group, by who will see to the index; the others are told by their own look
        self.generation = group.generation
        if not group.applied:
            return
        self.following = True
        first, last = group.applied[0].receipt.seq, group.applied[-1].receipt.seq
        if first <= self.applied:
            # a fail-over to a standby that lacks the last commits: the index has what the ledger has not
            self.applied = first - 1
            self._turn(self.generation)
        if self.applied + 1 < first:
            try:
                with link.reading() as session:
                    self._follow(session, first - 1)
            except errors.Failures as error:
                # durable all the same, so the writers must be told so; the next look brings all of it in order
                log.warning("what other replicas committed cannot be read for now: %s", error)
                self.head = max(self.head, last)
                return
        self._hand_on(group.applied)

    def look(self, session: Session) -> None:
        """Hands on what others have committed, up to the head that the session sees."""
        head = following.whole_head(session)
        if head.generation != self.generation or head.seq < self.applied:
            log.info("the index is of an earlier generation of the ledger than %d", head.generation)
            self._turn(head.generation)
        if head.seq < self.applied:
            # restored to an earlier moment: what is in the index is no longer in the ledger
            self.applied = self.head = head.seq
        if head.seq > self.applied:
            self._follow(session, head.seq)

    def reach_head(self, session: Session) -> None:
        """Hands on all that the session sees."""
        self.following = True
        head = following.head(session)
        if head > self.applied:
            self._follow(session, head)

    def _follow(self, session: Session, until: int) -> None:
        self.head = max(self.head, until)
        if self._observer is None:
            self.applied = until
        while self.applied < until:
            try:
                found = following.changes(session, self.applied, min(AT_ONCE, until - self.applied), self._dim)
            except TailTrimmed:
                log.warning("the ledger no longer tells what came after %d: the index must be rebuilt", self.applied)
                self.applied = until
                self._turn(self.generation)
                return
            self._hand_on(found)

    def _hand_on(self, changes: Sequence[Applied]) -> None:
        try:
            if self._observer is not None:
                self._observer(changes)
        except Exception:
            # durable already; the observer knows that it is behind, and rebuilds
            log.exception("the index could not follow the ledger")
        self.applied = changes[-1].receipt.seq
        self.head = max(self.head, self.applied)

    def _turn(self, generation: int) -> None:
        self.generation = generation
        if self.on_generation is None:
            return
        try:
            self.on_generation(generation)
        except Exception:
            log.exception("the index could not be told of another generation")
