"""Whether a history of one register can be explained by calls that happened at one moment each, within their time.

Wing and Gong's search with Lowe's memory of what was tried (J. M. Wing, C. Gong, Testing and Verifying Concurrent
Objects, 1993; G. Lowe, Testing for Linearizability, 2017), for a register with store, delete and read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from hack.torture_harness.history import ABSENT, Call, Kind, Outcome


def linearizable(calls: Sequence[Call], initial: str = ABSENT) -> bool:
    """Whether some order of the calls, true to their times, gives every read what it saw, from `initial` on.

    A refused call had no effect. An unknown write may have happened at any time after its start, or never; an unknown
    read proves nothing. Exponential in the number of calls that overlap, linear in those that do not.
    """
    done = sorted(_needed([call for call in calls if _counts(call)]), key=lambda call: call.start)
    required = sum(1 << at for at, call in enumerate(done) if call.outcome is Outcome.OK)
    stack: list[tuple[int, str]] = [(0, initial)]
    tried = {stack[0]}
    while stack:
        taken, state = stack.pop()
        if taken & required == required:
            return True
        for at in _next(done, taken):
            after = _apply(done[at], state)
            following = (taken | 1 << at, after)
            if after is not None and following not in tried:
                tried.add((taken | 1 << at, after))
                stack.append((taken | 1 << at, after))
    return False


def _counts(call: Call) -> bool:
    return call.outcome is Outcome.OK or (call.outcome is Outcome.UNKNOWN and call.writes)


def _needed(calls: Sequence[Call]) -> list[Call]:
    """Without stores in doubt that nobody saw: they explain nothing, unless a delete says that it found something."""
    if any(call.found for call in calls):
        return list(calls)
    seen = {call.text for call in calls if not call.writes}
    return [call for call in calls if call.outcome is Outcome.OK or call.kind is Kind.DELETE or call.text in seen]


def _next(calls: Sequence[Call], taken: int) -> list[int]:
    """The calls that may come next: those that began before any other that is left had ended."""
    soonest, found = math.inf, []
    first = (~taken & (taken + 1)).bit_length() - 1
    for at in range(first, len(calls)):
        call = calls[at]
        if taken >> at & 1:
            continue
        if call.start > soonest:
            break
        found.append(at)
        soonest = min(soonest, call.end)
    return [at for at in found if calls[at].start <= soonest]


def _apply(call: Call, state: str) -> str | None:
    """The content after the call, or None where the call cannot have seen this content."""
    if call.kind is Kind.STORE:
        return call.text
    if call.kind is Kind.DELETE:
        return ABSENT if call.found is None or call.found == (state != ABSENT) else None
    return state if call.text == state else None
