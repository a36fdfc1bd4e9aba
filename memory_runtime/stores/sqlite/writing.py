"""What a unit does inside the writer's transaction: all of it on the writer's thread, between BEGIN and COMMIT."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence

from memory_runtime.model.errors import SomaError
from memory_runtime.stores.contracts import (
    Applied,
    Committed,
    Delete,
    IdempotencyKey,
    Link,
    NormaliserFactory,
    NormaliserState,
    Put,
    Receipt,
    Unit,
)
from memory_runtime.stores.finite import check_link, check_put
from memory_runtime.stores.sqlite import changing, replies

NEUTRAL_IMPORTANCE = 1.0
"""The i of a memory stored without importance: nothing is taken from its score."""


class Transaction:
    """The open transaction of a group: its connection, what it changed, and the normalisers it moved."""

    def __init__(
        self, connection: sqlite3.Connection, factory: NormaliserFactory, normalisers: dict[str, NormaliserState]
    ) -> None:
        """`normalisers` is the writer's cache, which it must empty when a group is not committed."""
        self.connection = connection
        self.applied: list[Applied] = []
        self.history = secrets.token_bytes(16)
        self._factory = factory
        self._normalisers = normalisers
        self._moved: set[str] = set()
        self._absent: set[bytes] = set()
        self._unused: set[replies.KeyPlace] = set()
        self._seq: int | None = None
        self._row: int | None = None

    def run(self, unit: Unit) -> Committed:
        """Runs a unit whole or not at all: a refusal undoes only this unit, and the group goes on."""
        if len(unit.writes) > 1:
            self.expect([unit])
        if len(unit.writes) == 1 and unit.tells_of is None and not unit.audit:
            # a single write is refused before anything of it is written: there is nothing to undo
            return self._run(unit)
        mark = len(self.applied)
        self.connection.execute("SAVEPOINT unit")
        try:
            committed = self._run(unit)
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK TO unit")
                self.connection.execute("RELEASE unit")
            del self.applied[mark:]
            self._seq = self._row = None
            self._absent, self._unused = set(), set()
            raise
        self.connection.execute("RELEASE unit")
        return committed

    def _run(self, unit: Unit) -> Committed:
        if unit.idempotency is not None:
            reply = self._reply(unit.idempotency)
            if reply is not None:
                return Committed(reply, replayed=True)
        if unit.tells_of is not None and not changing.newest_of_origin(self.connection, unit.tells_of):
            return Committed((), late=True)
        receipts = tuple(self._write(write, unit) for write in unit.writes)
        if unit.idempotency is not None:
            replies.keep_reply(self.connection, unit.idempotency, receipts)
        changing.append_audit(self.connection, unit.audit)
        return Committed(receipts)

    def _write(self, write: Put | Delete | Link, unit: Unit) -> Receipt:
        norm = NEUTRAL_IMPORTANCE
        if isinstance(write, Put):
            check_put(write, norm)
            norm, version = self._normalise(write.scope.tenant, write.importance)
            receipt = self._put(write, norm, version, unit)
        elif isinstance(write, Delete):
            receipt = changing.delete(self.connection, write, self._source(unit), self._next_seq)
        else:
            check_link(write)
            receipt = changing.link(self.connection, write, self._source(unit), self._next_seq)
        if receipt.changed:
            self.applied.append(Applied(write, receipt, norm))
        return receipt

    def _put(self, put: Put, norm: float, normaliser_version: int, unit: Unit) -> Receipt:
        identity = put.id.bytes
        found = None
        if identity in self._absent:
            self._absent.remove(identity)
        else:
            found = self.connection.execute(changing.FOUND, (identity,)).fetchone()
        # before a seq is taken: nothing of a put that is refused may leave a gap
        content = changing.content_of(put, norm, normaliser_version, self._source(unit))
        seq = self._next_seq()
        if found is None:
            return changing.arrive(self.connection, content, seq, self._next_row())
        return changing.put_over(self.connection, content, seq, found)

    def _source(self, unit: Unit) -> changing.Source:
        return changing.Source(unit.origin, unit.trace, self.history)

    def _next_seq(self) -> int:
        if self._seq is None:
            row = self.connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
            self._seq = int(row[0]) if row else 0
        self._seq += 1
        return self._seq

    def _next_row(self) -> int:
        if self._row is None:
            self._row = int(self.connection.execute("SELECT coalesce(max(row), 0) FROM memories").fetchone()[0])
        self._row += 1
        return self._row

    def _reply(self, key: IdempotencyKey) -> tuple[Receipt, ...] | None:
        if replies.place_of(key) in self._unused:
            # a unit that is refused keeps no reply, and one that comes later with the same key may be another
            self._unused.remove(replies.place_of(key))
            return None
        return replies.find_reply(self.connection, key)

    def run_many(self, units: Sequence[Unit]) -> list[Committed | SomaError]:
        """Runs each as `run` would, one after the other; what they look for is looked for once, for all of them."""
        self.expect(units)
        fates: list[Committed | SomaError] = []
        for unit in units:
            try:
                fates.append(self.run(unit))
            except SomaError as refusal:
                fates.append(refusal)
        return fates

    def expect(self, units: Sequence[Unit]) -> None:
        """Looks once for what these units, which are run next, will look for one by one: new ids, and new keys."""
        ids = {write.id.bytes for unit in units for write in unit.writes if isinstance(write, Put)}
        self._absent = ids - changing.there(self.connection, list(ids))
        keys = {replies.place_of(unit.idempotency) for unit in units if unit.idempotency is not None}
        self._unused = keys - replies.used(self.connection, keys)

    def put_back(self, put: Put, norm: float, normaliser_version: int, accessed: tuple[float, int]) -> Receipt:
        """Writes an archived memory as it was: i and accesses (last time, count) are given, no normaliser is asked."""
        check_put(put, norm, accessed[0])
        receipt = self._put(put, norm, normaliser_version, Unit())
        self.connection.execute(
            "UPDATE memories SET access_time=?, access_count=? WHERE id=?", (*accessed, put.id.bytes)
        )
        self.applied.append(Applied(put, receipt, norm))
        return receipt

    def _normalise(self, tenant: str, raw: float | None) -> tuple[float, int]:
        if raw is None:
            return NEUTRAL_IMPORTANCE, 0
        self._moved.add(tenant)
        return self.normaliser(tenant).observe(raw)

    def normaliser(self, tenant: str) -> NormaliserState:
        """The tenant's normaliser, as of everything before in this group."""
        state = self._normalisers.get(tenant)
        if state is None:
            row = self.connection.execute("SELECT state FROM normalisers WHERE tenant = ?", (tenant,)).fetchone()
            state = self._normalisers[tenant] = self._factory(row[0] if row else None)
        return state

    def replace_normaliser(self, tenant: str, state: str) -> None:
        """Puts another normaliser (dumped) in its place: what is stored from here on gets its i from that one."""
        self._normalisers[tenant] = self._factory(state)
        self._moved.add(tenant)

    def seal(self) -> None:
        """Writes the normalisers that moved; called once a group, before its COMMIT."""
        for tenant in sorted(self._moved):
            state = self._normalisers[tenant]
            self.connection.execute(
                "INSERT OR REPLACE INTO normalisers (tenant, version, state) VALUES (?, ?, ?)",
                (tenant, state.version, state.dumps()),
            )
