"""What changed lately, so that an entry of the cache can be known to be current without asking the ledger."""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from memory_runtime.model.records import Scope
from memory_runtime.stores.contracts import Applied, Collection, Link, Put

REMEMBERED: Final = 100_000
"""Changes that are remembered, about 20 MB: an entry older than all of them is not trusted."""


def place_key(scope: Scope, coordinate: str) -> bytes:
    """16 bytes for a coordinate of a scope; a scope's names hold no control character, so no two share the text."""
    text = f"{scope.tenant}\x1f{scope.namespace}\x1f{coordinate}"
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


class RecentChanges:
    """The newest change of each memory, and of each coordinate, among the last `REMEMBERED` changes.

    An entry of order `seq` holds what the ledger held once it was at `seq`, or later. It is current, as far as this
    replica has followed, if nothing heard since touched its memory. Heard on the ledger's thread, asked on the loop's.
    """

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._order: deque[tuple[int, bytes]] = deque()
        self._newest: dict[bytes, int] = {}
        self._heard = self._floor = -1

    def hear(self, changes: Sequence[Applied]) -> None:
        """Takes changes in order of seq, before the index does: so it has never heard less than the index."""
        with self._lock:
            if changes and changes[0].receipt.seq != self._heard + 1:
                # what lies between, or came before the first, is unknown
                self._begin_at(changes[0].receipt.seq - 1)
            for change in changes:
                self._heard = change.receipt.seq
                write = change.write
                if isinstance(write, Link) or write.collection is not Collection.MEMORIES:
                    continue
                self._note(write.id.bytes)
                if isinstance(write, Put):
                    self._note(place_key(write.scope, write.coordinate))

    def current(self, keys: Iterable[bytes], order: int, applied: int) -> bool:
        """Whether an entry of that order that depends on these memories and coordinates may be given.

        `applied` is how far the index is: ahead of what was heard, it was built anew, and what lies between is unknown.
        """
        with self._lock:
            if applied > self._heard:
                self._begin_at(applied)
            return order >= self._floor and all(self._newest.get(key, 0) <= order for key in keys)

    def forget(self) -> None:
        """What was heard is in the ledger no more: no entry is trusted before the index has been built anew."""
        with self._lock:
            self._begin_at(-1)

    def _begin_at(self, seq: int) -> None:
        self._order.clear()
        self._newest.clear()
        self._heard = self._floor = seq

    def _note(self, key: bytes) -> None:
        self._newest[key] = self._heard
        self._order.append((self._heard, key))
        while len(self._order) > self._most:
            seq, oldest = self._order.popleft()
            self._floor = seq
            if self._newest[oldest] == seq:
                del self._newest[oldest]
