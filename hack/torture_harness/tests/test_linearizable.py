"""The checks of histories, on histories that are good and on histories that are bad in one way each."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import pytest

from hack.torture_harness.blame import Verdict, judge_history
from hack.torture_harness.history import ABSENT, Call, History, Kind, Outcome
from hack.torture_harness.linearizable import linearizable
from hack.torture_harness.sessions import backward_steps, sequence_faults

KEY = "1.0"


def call(
    kind: Kind,
    start: float,
    end: float,
    text: str = ABSENT,
    *,
    client: int = 0,
    seq: int = 0,
    outcome: Outcome = Outcome.OK,
    found: bool | None = None,
    after: bool = False,
) -> Call:
    return Call(0, client, kind, KEY, text, start, end, outcome, seq, found=found, after=after)


def store(start: float, end: float, text: str, **more: object) -> Call:
    return call(Kind.STORE, start, end, text, **more)  # type: ignore[arg-type]


def delete(start: float, end: float, **more: object) -> Call:
    return call(Kind.DELETE, start, end, **more)  # type: ignore[arg-type]


def get(start: float, end: float, text: str, **more: object) -> Call:
    return call(Kind.GET, start, end, text, **more)  # type: ignore[arg-type]


UNKNOWN = {"outcome": Outcome.UNKNOWN}

GOOD: dict[str, list[Call]] = {
    "nothing": [],
    "one after another": [store(0, 1, "a"), get(2, 3, "a"), delete(4, 5, found=True), get(6, 7, ABSENT)],
    "a read during a store sees the new": [store(0, 10, "a"), get(1, 2, "a")],
    "a read during a store sees the old": [store(0, 10, "a"), get(1, 2, ABSENT), get(11, 12, "a")],
    "the later of two that overlap wins": [store(0, 10, "a"), store(1, 9, "b"), get(11, 12, "a")],
    "a store in doubt happened": [store(0, math.inf, "a", **UNKNOWN), get(5, 6, "a")],
    "a store in doubt did not happen": [store(0, math.inf, "a", **UNKNOWN), get(5, 6, ABSENT)],
    "a store in doubt happens late": [
        store(0, math.inf, "a", **UNKNOWN),
        store(1, 2, "b"),
        get(3, 4, "b"),
        get(5, 6, "a"),
    ],
    "a refused store is not there": [store(0, 1, "a", outcome=Outcome.REFUSED), get(2, 3, ABSENT)],
    "a delete of nothing says so": [delete(0, 1, found=False), store(2, 3, "a"), delete(4, 5, found=True)],
    "a read in doubt proves nothing": [store(0, 1, "a"), get(2, math.inf, "never", **UNKNOWN)],
}

BAD: dict[str, list[Call]] = {
    "an acknowledged store is gone": [store(0, 1, "a"), get(2, 3, ABSENT)],
    "an overwritten content is back": [store(0, 1, "a"), store(2, 3, "b"), get(4, 5, "a")],
    "what was deleted is back": [store(0, 1, "a"), delete(2, 3), get(4, 5, "a")],
    "what was never stored": [store(0, 1, "a"), get(2, 3, "b")],
    "two readers see two orders": [
        store(0, 10, "a"),
        store(0, 10, "b"),
        get(11, 12, "a"),
        get(13, 14, "b"),
    ],
    "a store that was seen goes again": [store(0, 10, "a"), get(1, 2, "a"), get(3, 4, ABSENT)],
    "a refused store is there": [store(0, 1, "a", outcome=Outcome.REFUSED), get(2, 3, "a")],
    "a store in doubt happens before it began": [get(0, 1, "a"), store(2, math.inf, "a", **UNKNOWN)],
    "a delete in doubt happens twice": [
        store(0, 1, "a"),
        delete(2, math.inf, **UNKNOWN),
        get(3, 4, ABSENT),
        get(5, 6, "a"),
    ],
    "a delete found what was not there": [delete(0, 1, found=True)],
    "a delete missed what was there": [store(0, 1, "a"), delete(2, 3, found=False)],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_history_is_explained(name: str) -> None:
    assert linearizable(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_not(name: str) -> None:
    assert not linearizable(BAD[name])


def by_brute_force(calls: Sequence[Call]) -> bool:
    """Every order of every choice of what happened, as the definition has it."""
    sure = [one for one in calls if one.outcome is Outcome.OK]
    perhaps = [one for one in calls if one.outcome is Outcome.UNKNOWN and one.writes]
    for size in range(len(perhaps) + 1):
        for chosen in itertools.combinations(perhaps, size):
            for order in itertools.permutations([*sure, *chosen]):
                if all(a.start <= b.end for a, b in itertools.combinations(order, 2)) and explains(order):
                    return True
    return False


def explains(order: Sequence[Call]) -> bool:
    state = ABSENT
    for one in order:
        if one.kind is Kind.STORE:
            state = one.text
        elif one.kind is Kind.DELETE:
            if one.found is not None and one.found != (state != ABSENT):
                return False
            state = ABSENT
        elif one.text != state:
            return False
    return True


def test_it_agrees_with_the_definition_on_random_histories() -> None:
    dice = random.Random(11)
    verdicts = []
    for _ in range(400):
        calls = []
        for _ in range(dice.randrange(2, 6)):
            start = dice.uniform(0, 10)
            kind = dice.choice((Kind.STORE, Kind.DELETE, Kind.GET, Kind.GET))
            text = ABSENT if kind is Kind.DELETE else dice.choice("ab") if dice.random() < 0.8 else ABSENT
            known = kind is Kind.GET or dice.random() < 0.8
            end = start + dice.uniform(0, 6) if known else math.inf
            calls.append(call(kind, start, end, text, outcome=Outcome.OK if known else Outcome.UNKNOWN))
        verdicts.append(by_brute_force(calls))
        assert linearizable(calls) == verdicts[-1], calls
    assert 40 < sum(verdicts) < 360, "the random histories are all good or all bad: they prove nothing"


def test_many_calls_at_once_are_judged_in_time() -> None:
    calls = [store(n, n + 5.5, str(n), client=n % 8) for n in range(200)]
    assert linearizable([*calls, get(400, 401, "199")])
    assert not linearizable([*calls, get(400, 401, "5")])


def judged(calls: list[Call], initial: str = ABSENT) -> Verdict:
    verdict = Verdict()
    for number, one in enumerate(calls):
        one.number = number
    judge_history(History({KEY: initial}, calls), verdict)
    return verdict


def test_the_blame_names_what_is_lost_resurrected_half_visible_and_stale() -> None:
    assert judged([store(0, 1, "a"), get(2, 3, ABSENT, after=True)]).lost == 1
    assert judged([get(2, 3, ABSENT, after=True)], initial="kept").lost == 1
    assert judged([store(0, 1, "a"), delete(2, 3), get(4, 5, "a", after=True)]).resurrected == 1
    assert judged([delete(2, 3), get(4, 5, "old", after=True)], initial="old").resurrected == 1
    assert judged([get(4, 5, "from nowhere", after=True)]).half_visible == 1
    assert judged([store(0, 1, "a"), store(2, 3, "b"), get(4, 5, "a"), get(6, 7, "b")]).stale == 1
    assert judged([store(0, 1, "a"), get(2, 3, "a", after=True)]).clean


def test_half_a_bulk_is_half_visible() -> None:
    calls = [Call(0, 0, Kind.STORE, f"{n}.0", f"t{n}", 0, math.inf, group="one") for n in range(2)]
    reads = [Call(0, -1, Kind.GET, "0.0", "t0", 2, 3, Outcome.OK, after=True)]
    reads += [Call(0, -1, Kind.GET, "1.0", ABSENT, 2, 3, Outcome.OK, after=True)]
    verdict = Verdict()
    judge_history(History({}, calls + reads), verdict)
    assert (verdict.half_visible, len(verdict.complaints)) == (1, 1)


def test_a_session_that_goes_back_is_seen() -> None:
    forward = [store(0, 1, "a", seq=3), get(2, 3, "b", seq=4), get(4, 5, "b", seq=4)]
    assert not backward_steps(forward)
    assert len(backward_steps([store(0, 1, "a", seq=4), get(2, 3, "b", seq=3)])) == 1
    assert not backward_steps([store(0, 1, "a", seq=4), get(2, 3, "b", seq=3, client=1)])


def test_sequence_numbers_that_are_reused_or_out_of_order_are_seen() -> None:
    assert not sequence_faults([store(0, 1, "a", seq=1), store(2, 3, "b", seq=2), store(2, 3, "c", seq=3)])
    assert sequence_faults([store(0, 1, "a", seq=2), store(2, 3, "b", seq=1)])
    assert sequence_faults([store(0, 5, "a", seq=2), store(2, 3, "b", seq=2)])
    assert sequence_faults([store(0, 1, "a", seq=7)], floor=7)
