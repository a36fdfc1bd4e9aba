"""Hands changes to the index in order of seq: what this replica committed, and between that what the others did.

What was handed on is compared with the ledger by more than its number. After a fail-over that lost commits, or a
restore, the ledger may have come to the same sequence with other changes: then the token of the change is another one,
or the line of history is one that this replica has not followed.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from memory_runtime.stores.contracts import Applied, HistoryLost, Observer, TailTrimmed
from memory_runtime.stores.lineages import holds
from memory_runtime.stores.postgres import errors, following, lineage
from memory_runtime.stores.postgres.following import Head, Moment
from memory_runtime.stores.postgres.link import WriterLink
from memory_runtime.stores.postgres.session import Session

log = logging.getLogger(__name__)

AT_ONCE: Final = 2000


class Group(NamedTuple):
    """What a group has committed, the ledger's generation when it began and when it ended, and the head as it began.

    `history` is the token of its changes.
    """

    applied: Sequence[Applied]
    began: int
    generation: int
    head: Head | None = None
    history: uuid.UUID | None = None


class Mark(NamedTuple):
    """How far a follower has come: what it must find in the ledger to go on from there."""

    seq: int
    history: uuid.UUID | None = None
    generation: int = 0
    lineage: uuid.UUID | None = None

    @classmethod
    def at(cls, found: Moment) -> Mark:
        """The ledger's newest change."""
        return cls(found.head.seq, found.newest, found.head.generation, found.head.lineage)


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
        self.looked = -math.inf
        """When the ledger was last compared with what is followed, on the monotonic clock."""
        self.unexplained = False
        """Whether changes were found to be lost in a line of history that claims to go on: another one must begin."""
        self._history: uuid.UUID | None = None
        self._lineage: uuid.UUID | None = None
        self.on_generation: Callable[[int], None] | None = None
        self.on_lineage: Callable[[bool], None] | None = None

    @property
    def lineage(self) -> str:
        """The line of history that is followed; empty where there is none yet."""
        return self._lineage.hex if self._lineage else ""

    @property
    def mark(self) -> Mark:
        """How far this follower has come."""
        return Mark(self.applied, self._history, self.generation, self._lineage)

    def begin_at(self, mark: Mark, *, following: bool) -> None:
        """Everything up to there is known; with `following`, what comes after it is handed on from here."""
        self.applied, self._history, self.generation, self._lineage = mark
        self.head = max(self.head, mark.seq)
        self.following = following

    def publish(self, link: WriterLink, group: Group) -> None:
        """Hands on what a group of this replica committed, after what others committed before it."""
        head = group.head
        if head is not None and head.lineage != self._lineage and not self._look_again(link, group):
            return
        self.looked = time.monotonic()
        if group.began != self.generation:
            # another replica's, and this group came before the next look
            self._turn(group.began)
        # raised in this group, by who will see to the index; the others are told by their own look
        self.generation = group.generation
        if not group.applied:
            return
        self.following = True
        first, last = group.applied[0].receipt.seq, group.applied[-1].receipt.seq
        if last <= self.applied and self._history == group.history is not None:
            # the look that found another line of history has handed it on
            return
        before = None if head is None else head.history
        if first <= self.applied or (first == self.applied + 1 and _differ(before, self._history)):
            # the index has what the ledger has not: a fail-over to a standby that lacks the last commits
            self._lose(Mark(first - 1, before, self.generation, self._lineage))
        if self.applied + 1 < first:
            try:
                with link.reading() as session:
                    self._follow(session, first - 1, before)
            except errors.Failures as error:
                self._put_off(error, last)
                return
        self._hand_on(group.applied)
        self._history = group.history

    def _look_again(self, link: WriterLink, group: Group) -> bool:
        """Looks at the whole ledger, where the group was of another line of history. False where it cannot."""
        try:
            with link.reading() as session:
                self.look(session)
        except errors.Failures as error:
            self._put_off(error, group.applied[-1].receipt.seq if group.applied else 0)
            return False
        return True

    def _put_off(self, error: BaseException, last: int) -> None:
        # durable all the same, so the writers must be told so; the next look brings all of it in order
        log.warning("what other replicas committed cannot be read for now: %s", error)
        self.head = max(self.head, last)

    def look(self, session: Session) -> None:
        """Hands on what others have committed, up to the head that the session sees."""
        began = time.monotonic()
        found = following.moment(session, self.applied)
        head = found.head
        if self._is_lost(session, found):
            self._lose(Mark.at(found))
        elif head.lineage != self._lineage:
            self._begin_line(head.lineage, lost=False)
        if head.generation != self.generation:
            log.info("the index is of an earlier generation of the ledger than %d", head.generation)
            self._turn(head.generation)
        if head.seq > self.applied:
            self._follow(session, head.seq, found.newest)
        self.looked = began

    def reach_head(self, session: Session) -> None:
        """Hands on all that the session sees."""
        self.following = True
        found = following.moment(session, self.applied)
        if self._is_lost(session, found):
            self._lose(Mark.at(found))
        if found.head.seq > self.applied:
            self._follow(session, found.head.seq, found.newest)

    def _is_lost(self, session: Session, found: Moment) -> bool:
        """Whether what was handed on is in the ledger no more."""
        if found.head.seq < self.applied or _differ(found.asked, self._history):
            return True
        if found.head.lineage == self._lineage:
            return False
        # its change may have been trimmed: then the line says whether it was abandoned
        return not holds(lineage.chain(session), self.lineage, self.applied, self.generation)

    def _follow(self, session: Session, until: int, history: uuid.UUID | None) -> None:
        """Hands on the changes up to `until`, which is of the group with that token."""
        self.head = max(self.head, until)
        if self._observer is None:
            self.applied, self._history = until, history
        while self.applied < until:
            limit, token = min(AT_ONCE, until - self.applied), self._history.hex if self._history else ""
            try:
                changes = following.changes(session, self.applied, limit, self._dim, token)
            except HistoryLost:
                self._lose(Mark(until, history, self.generation, self._lineage))
                return
            except TailTrimmed:
                log.warning("the ledger no longer tells what came after %d: the index must be rebuilt", self.applied)
                self.applied, self._history = until, history
                self._turn(self.generation)
                return
            self._hand_on(changes)
            # of a part of a group the token is not known here: what follows it is read at once
            self._history = history if self.applied == until else None

    def _hand_on(self, changes: Sequence[Applied]) -> None:
        try:
            if self._observer is not None:
                self._observer(changes)
        except Exception:
            # durable already; the observer knows that it is behind, and rebuilds
            log.exception("the index could not follow the ledger")
        self.applied = changes[-1].receipt.seq
        self.head = max(self.head, self.applied)

    def _lose(self, mark: Mark) -> None:
        """What was handed on is in the ledger no more: from here on it is followed from `mark`."""
        log.warning(
            "the ledger does not hold what was followed up to seq %d (it is at %d): the index must be built anew",
            self.applied,
            mark.seq,
        )
        self.unexplained = self.unexplained or mark.lineage == self._lineage
        self.applied = self.head = mark.seq
        self._history = mark.history
        self._begin_line(mark.lineage, lost=True)
        self._turn(mark.generation)

    def _begin_line(self, mine: uuid.UUID | None, *, lost: bool) -> None:
        self._lineage = mine
        if self.on_lineage is None:
            return
        try:
            self.on_lineage(lost)
        except Exception:
            log.exception("the index could not be told of another line of history")

    def _turn(self, generation: int) -> None:
        self.generation = generation
        if self.on_generation is None:
            return
        try:
            self.on_generation(generation)
        except Exception:
            log.exception("the index could not be told of another generation")


def _differ(one: uuid.UUID | None, other: uuid.UUID | None) -> bool:
    """Whether two tokens are known, and of different groups."""
    return one is not None and other is not None and one.bytes != other.bytes
