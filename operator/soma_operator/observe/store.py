"""The last picture of the cluster. Filled by watch events, by answers to our own writes and by the resync; never by
guesses."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from soma_operator.catalog.kinds import PARENT_KINDS, SOMA_MEMORY, Kind, Ref
from soma_operator.observe.facts import Facts, facts_of

_UNUSED_METADATA = ("managedFields", "ownerReferences")


@dataclass(frozen=True, slots=True)
class Parent:
    """A SomaMemory or SomaMemoryBackup, with its body."""

    ref: Ref
    uid: str
    resource_version: int
    body: Mapping[str, Any]

    @property
    def generation(self) -> int:
        """Counts changes of the spec."""
        return int(self.body["metadata"].get("generation") or 0)

    @property
    def deleting(self) -> bool:
        """Deletion was asked for."""
        return self.body["metadata"].get("deletionTimestamp") is not None

    @property
    def annotations(self) -> Mapping[str, str]:
        """Annotations of the resource."""
        found: Mapping[str, str] = self.body["metadata"].get("annotations") or {}
        return found


class Store:
    """Resources and facts about their children. An older picture never replaces a newer one."""

    def __init__(self) -> None:
        self._parents: dict[Ref, Parent] = {}
        self._children: dict[Ref, Facts] = {}
        self._of_memory: dict[Ref, set[Ref]] = defaultdict(set)
        self._newest = 0
        # An answer to our own write may be taken in after the deletion that followed it.
        self._gone: deque[str] = deque(maxlen=1024)

    def newest(self) -> int:
        """The newest resource version that was taken in."""
        return self._newest

    def parent(self, ref: Ref) -> Parent | None:
        """The resource, if it exists."""
        return self._parents.get(ref)

    def parents(self) -> Iterator[Parent]:
        """All resources."""
        return iter(list(self._parents.values()))

    def child(self, ref: Ref) -> Facts | None:
        """Facts about one child."""
        return self._children.get(ref)

    def children(self, memory: Ref) -> dict[Ref, Facts]:
        """All that is labelled as a child of that SomaMemory."""
        return {ref: self._children[ref] for ref in self._of_memory.get(memory, ())}

    def counts(self) -> Counter[str]:
        """Resources by kind."""
        counted = Counter({kind.name: 0 for kind in PARENT_KINDS})
        counted.update(ref.kind.name for ref in self._parents)
        return counted

    def put_parent(self, kind: Kind, body: Mapping[str, Any]) -> bool:
        """Take in a resource; False if we knew that, or better."""
        meta = body["metadata"]
        ref = Ref(kind, meta["namespace"], meta["name"])
        known = self._parents.get(ref)
        version = int(meta["resourceVersion"])
        self._newest = max(self._newest, version)
        if known is not None and known.uid == meta["uid"] and version <= known.resource_version:
            return False
        slim = {key: value for key, value in meta.items() if key not in _UNUSED_METADATA}
        self._parents[ref] = Parent(ref, meta["uid"], version, {**body, "metadata": slim})
        return True

    def remove_parent(self, ref: Ref, uid: str) -> None:
        """Forget a resource, unless another of its name took its place."""
        known = self._parents.get(ref)
        if known is not None and known.uid == uid:
            del self._parents[ref]

    def put_child(self, kind: Kind, body: Mapping[str, Any]) -> Facts | None:
        """Take in an object; returns its facts, or None if we knew that, or better."""
        facts = facts_of(kind, body)
        known = self._children.get(facts.ref)
        self._newest = max(self._newest, facts.resource_version)
        if facts.uid in self._gone or (known is not None and facts.resource_version <= known.resource_version):
            return None
        if known is not None and known.memory != facts.memory:
            self._unlink(known)
        self._children[facts.ref] = facts
        if facts.memory:
            self._of_memory[Ref(SOMA_MEMORY, facts.ref.namespace, facts.memory)].add(facts.ref)
        return facts

    def remove_child(self, ref: Ref, uid: str | None = None) -> Facts | None:
        """Forget an object that is gone, unless another of its name took its place; returns what was known of it."""
        known = self._children.get(ref)
        if uid is not None:
            self._gone.append(uid)
        if known is None or (uid is not None and known.uid != uid):
            return None
        del self._children[ref]
        self._unlink(known)
        return known

    def prune(self, kind: Kind, listed: Iterable[Ref], before: int) -> list[Facts]:
        """Forget children of `kind` that a list as of resource version `before` did not hold; returns what was known
        of them."""
        present = set(listed)
        gone = [
            facts
            for ref, facts in self._children.items()
            if ref.kind is kind and ref not in present and facts.resource_version <= before
        ]
        for facts in gone:
            self.remove_child(facts.ref)
        return gone

    def prune_parents(self, kind: Kind, listed: Iterable[Ref], before: int) -> list[Ref]:
        """The same for resources."""
        present = set(listed)
        gone = [
            ref
            for ref, parent in self._parents.items()
            if ref.kind is kind and ref not in present and parent.resource_version <= before
        ]
        for ref in gone:
            del self._parents[ref]
        return gone

    def _unlink(self, facts: Facts) -> None:
        if facts.memory:
            owner = Ref(SOMA_MEMORY, facts.ref.namespace, facts.memory)
            refs = self._of_memory.get(owner)
            if refs is not None:
                refs.discard(facts.ref)
                if not refs:
                    del self._of_memory[owner]
