"""One step for each child: create, change, verify, leave, delete, or refuse to touch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from soma_operator.catalog.kinds import SECRET, VOLUME_CLAIM, Ref
from soma_operator.desired.render import Child
from soma_operator.observe.facts import Facts

# Their content cannot be made again: only the garbage collector or a person deletes them.
_NEVER_DELETED = frozenset({SECRET, VOLUME_CLAIM})


class Verb(StrEnum):
    LEAVE = "leave"
    """As it should be: no request."""
    CREATE = "create"
    """Not there."""
    CHANGE = "change"
    """What is desired has changed since it was applied."""
    VERIFY = "verify"
    """Our field set is not what it should be: somebody edited it, unless a dry-run says otherwise."""
    WAIT = "wait"
    """Being deleted: it is made again when it is gone."""
    CONFLICT = "conflict"
    """Somebody else's object has our child's name."""
    DELETE = "delete"
    """Ours, and no longer desired."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do about one object. `child` is None only for DELETE, `facts` only for CREATE."""

    verb: Verb
    ref: Ref
    child: Child | None = None
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a dry-run said about an object whose field set was unexpected, good for as long as hash and digest stay."""

    hash: str
    digest: str | None
    drifted: bool


def plan(
    name: str, uid: str, children: Iterable[Child], observed: Mapping[Ref, Facts], verdicts: Mapping[str, Verdict]
) -> list[Step]:
    """Steps in the order of the children; deletions last.

    `name` and `uid` are those of the SomaMemory, `verdicts` are by uid of the child.
    """
    wanted = list(children)
    steps = [_step(name, uid, child, observed.get(child.ref), verdicts) for child in wanted]
    present = {child.ref for child in wanted}
    for ref, facts in sorted(observed.items(), key=lambda item: str(item[0])):
        owned = facts.owner is not None and facts.owner[2] == uid
        if ref not in present and owned and not facts.deleting and ref.kind not in _NEVER_DELETED:
            steps.append(Step(Verb.DELETE, ref, facts=facts))
    return steps


def _step(name: str, uid: str, child: Child, facts: Facts | None, verdicts: Mapping[str, Verdict]) -> Step:
    return Step(_verb(name, uid, child, facts, verdicts), child.ref, child, facts)


def _verb(name: str, uid: str, child: Child, facts: Facts | None, verdicts: Mapping[str, Verdict]) -> Verb:
    if facts is None:
        return Verb.CREATE
    if facts.deleting:
        return Verb.WAIT
    if not facts.belongs_to(name, uid):
        return Verb.CHANGE if facts.adopt == name else Verb.CONFLICT
    if facts.desired_hash != child.hash or facts.digest is None:
        return Verb.CHANGE
    if facts.digest == child.digest:
        return Verb.LEAVE
    verdict = verdicts.get(facts.uid)
    known = verdict is not None and (verdict.hash, verdict.digest) == (child.hash, facts.digest)
    return Verb.LEAVE if known and verdict is not None and not verdict.drifted else Verb.VERIFY
