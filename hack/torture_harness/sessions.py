"""What one client may rely on, and what all may rely on about sequence numbers. Functions of a history."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hack.torture_harness.history import ABSENT, Call, Outcome


def backward_steps(calls: Sequence[Call]) -> list[str]:
    """A sentence for each time that a client saw an older state of a coordinate than it had seen or written before."""
    found: list[str] = []
    newest: dict[tuple[int, str], int] = {}
    for call in sorted((one for one in calls if one.outcome is Outcome.OK and one.seq), key=lambda one: one.end):
        known = newest.get((call.client, call.key), 0)
        if call.seq < known and call.text != ABSENT:
            found.append(f"{call.key}: client {call.client} saw seq {call.seq} after seq {known}, by {call.kind}")
        newest[(call.client, call.key)] = max(known, call.seq)
    return found


def sequence_faults(calls: Sequence[Call], floor: int = 0) -> list[str]:
    """A sentence for each acknowledged write whose seq is not above that of every write that had ended before it began.

    `floor` is the highest seq acknowledged in earlier runs. Replays and deletes of nothing have no seq of their own:
    leave their seq 0.
    """
    written = [call for call in calls if call.writes and call.outcome is Outcome.OK and call.seq]
    found: list[str] = []
    ended = sorted(written, key=lambda call: call.end)
    at, highest = 0, floor
    for call in sorted(written, key=lambda call: call.start):
        while at < len(ended) and ended[at].end < call.start:
            highest = max(highest, ended[at].seq)
            at += 1
        if call.seq <= highest:
            found.append(f"{call.key}: seq {call.seq} was given after seq {highest} had been acknowledged")
    numbers = sorted(call.seq for call in written)
    found += [f"seq {a} was given twice" for a, b in itertools.pairwise(numbers) if a == b]
    return found
