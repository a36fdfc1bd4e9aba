"""What changed lately, as the cache of hot reads asks: no entry older than what is remembered is trusted."""

from __future__ import annotations

import uuid

from memory_runtime.engine.cache.changes import RecentChanges
from memory_runtime.model.records import Scope
from memory_runtime.stores.contracts import Applied, Delete, Put, Receipt

HOME = Scope("acme", "notes")


def applied(seq: int, identity: int, *, gone: bool = False) -> Applied:
    one = uuid.UUID(int=identity)
    write: Put | Delete
    if gone:
        write = Delete(one, HOME, "episodic", at=0.0)
    else:
        write = Put(one, HOME, "episodic", f"[{identity}]", "{}", "", 0.0, 0.0)
    return Applied(write, Receipt(one, 1, seq, created=True, changed=True), 1.0)


def test_an_entry_is_current_until_its_memory_changes_and_unknown_before_what_is_remembered() -> None:
    recent = RecentChanges(most=4)
    key = uuid.UUID(int=1).bytes
    assert recent.current([key], 10, applied=10), "read when the index was at 10"
    assert not recent.current([key], 9, applied=10), "what happened before the start is not known"
    recent.hear([applied(11, 1)])
    assert not recent.current([key], 10, applied=11)
    assert recent.current([key], 11, applied=11)
    recent.hear([applied(12, 1, gone=True)])
    assert not recent.current([key], 11, applied=12)
    other = uuid.UUID(int=2).bytes
    assert recent.current([other], 11, applied=12)
    recent.hear([applied(13, 3), applied(14, 4)])
    assert not recent.current([other], 11, applied=14), "change 11 is forgotten: an entry of 10 could hide it"
    assert recent.current([other], 14, applied=14)


def test_an_index_built_anew_makes_older_entries_unknown() -> None:
    recent = RecentChanges()
    recent.hear([applied(5, 1)])
    assert recent.current([uuid.UUID(int=2).bytes], 5, applied=5)
    assert not recent.current([uuid.UUID(int=2).bytes], 5, applied=40)
    assert recent.current([uuid.UUID(int=2).bytes], 40, applied=40)
