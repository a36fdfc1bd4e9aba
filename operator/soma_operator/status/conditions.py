"""Conditions as values: status, reason, message; times and order are added in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from soma_operator.api import Condition, ConditionStatus, Reason

MESSAGE_LIMIT = 256


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a condition says."""

    status: ConditionStatus
    reason: Reason
    message: str


def true(reason: Reason, message: str) -> Verdict:
    """The condition holds."""
    return Verdict(ConditionStatus.TRUE, reason, message)


def false(reason: Reason, message: str) -> Verdict:
    """The condition does not hold."""
    return Verdict(ConditionStatus.FALSE, reason, message)


def unknown(reason: Reason, message: str) -> Verdict:
    """It cannot be told."""
    return Verdict(ConditionStatus.UNKNOWN, reason, message)


def dated(
    verdicts: Mapping[str, Verdict], before: Iterable[Condition], generation: int, now: str
) -> tuple[Condition, ...]:
    """Conditions in a fixed order; a transition time changes only with the status."""
    former = {condition.type: condition for condition in before}
    conditions = []
    for kind, verdict in verdicts.items():
        old = former.get(kind)
        since = old.last_transition_time if old is not None and old.status == verdict.status else now
        conditions.append(
            Condition(
                type=kind,
                status=verdict.status,
                reason=verdict.reason.value,
                message=clip(verdict.message),
                observed_generation=generation,
                last_transition_time=since,
            )
        )
    return tuple(conditions)


def clip(message: str) -> str:
    """At most what the API admits."""
    return message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…"
