"""Which promise a history breaks that cannot be explained: the words of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hack.torture_harness.history import ABSENT, Call, History, Kind, Outcome
from hack.torture_harness.linearizable import linearizable
from hack.torture_harness.sessions import backward_steps, sequence_faults


@dataclass(slots=True)
class Verdict:
    """Counts of what must be zero, and a sentence for each."""

    lost: int = 0
    resurrected: int = 0
    half_visible: int = 0
    duplicates: int = 0
    stale: int = 0
    complaints: list[str] = field(default_factory=list)

    def lose(self, sentence: str) -> None:
        """An acknowledged effect is not there."""
        self.lost += 1
        self.complaints.append(f"lost: {sentence}")

    def resurrect(self, sentence: str) -> None:
        """What was deleted is back."""
        self.resurrected += 1
        self.complaints.append(f"resurrected: {sentence}")

    def halve(self, sentence: str) -> None:
        """There by one way and not by another, or there and never asked for."""
        self.half_visible += 1
        self.complaints.append(f"half visible: {sentence}")

    def double(self, sentence: str) -> None:
        """There more than once."""
        self.duplicates += 1
        self.complaints.append(f"duplicate: {sentence}")

    def age(self, sentence: str) -> None:
        """A reader was shown what could not be true any more, or not yet."""
        self.stale += 1
        self.complaints.append(f"stale: {sentence}")

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.complaints


BOTH_WAYS: Final = (Kind.GET, Kind.RECALL)


def judge_history(history: History, verdict: Verdict, floor: int = 0, ways: Sequence[Kind] = BOTH_WAYS) -> None:
    """Every coordinate linearizable by each of the ways of reading, every session forward, every seq in order."""
    for key, calls in history.by_key().items():
        initial = history.initial.get(key, ABSENT)
        for way in ways:
            part = [call for call in calls if call.writes or call.kind is way]
            if not linearizable(part, initial):
                _blame(key, part, initial, verdict)
                break
    for sentence in backward_steps(history.calls) + sequence_faults(history.calls, floor):
        verdict.age(sentence)
    _judge_groups(history, verdict)


def _blame(key: str, calls: Sequence[Call], initial: str, verdict: Verdict) -> None:
    """The plainest name for what is wrong, by the first read that cannot be explained."""
    reads = sorted((call for call in calls if not call.writes and call.outcome is Outcome.OK), key=lambda one: one.end)
    writes = [call for call in calls if call.writes]
    culprit = next((one for one in reads if not linearizable(_until(calls, one), initial)), None)
    if culprit is None:
        verdict.age(f"{key}: a delete says what cannot be: {_shown(calls)}")
        return
    seen = culprit.text
    sentence = f"{key}: {seen or 'nothing'!r} is there by {culprit.kind}; {_shown(calls)}, before them {initial!r}"
    source = next((call for call in writes if call.kind is Kind.STORE and call.text == seen), None)
    if seen != ABSENT and source is None and seen != initial:
        verdict.halve(f"{sentence}; it was never stored there")
    elif seen != ABSENT and _deleted_since(writes, source):
        verdict.resurrect(sentence)
    elif culprit.after:
        verdict.lose(sentence)
    else:
        verdict.age(sentence)


def _until(calls: Sequence[Call], read: Call) -> list[Call]:
    """The calls without reads that ended later than this one."""
    return [call for call in calls if call.writes or call.end <= read.end]


def _deleted_since(writes: Sequence[Call], source: Call | None) -> bool:
    written = source.end if source is not None else float("-inf")
    deletes = [call for call in writes if call.kind is Kind.DELETE and call.outcome is Outcome.OK]
    return any(delete.start > written for delete in deletes)


def _judge_groups(history: History, verdict: Verdict) -> None:
    """A bulk is all there or not there at all; looked at where every read was made after the harm."""
    seen = {call.key: call.text for call in history.calls if call.after and call.kind is Kind.GET}
    groups: dict[str, list[bool]] = {}
    for call in history.calls:
        if call.group and call.key in seen:
            groups.setdefault(call.group, []).append(seen[call.key] == call.text)
    for group, there in groups.items():
        if any(there) and not all(there):
            verdict.halve(f"bulk {group}: {sum(there)} of {len(there)} are there")


def _shown(calls: Sequence[Call]) -> str:
    words = (
        f"{one.kind}({one.text!r}) {one.outcome} [{one.start:.4f}, {one.end:.4f}]"
        for one in sorted(calls, key=lambda one: one.start)[-8:]
    )
    return ", ".join(words)
