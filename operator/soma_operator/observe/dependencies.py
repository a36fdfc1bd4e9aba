"""What is known of a back end: the newest answer of its probe, held back until it is worth telling."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

TOLERATED_FAILURES = 3
TOLERATED_SECONDS = 60.0


class Sight(StrEnum):
    """What one probe saw."""

    ANSWERS = "answers"
    SILENT = "silent"
    """No name, no connection, no answer in time, or the answer of something else."""
    NO_TLS = "no TLS"
    """It answers, and not in the encrypted way that was asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One probe. `missing` are the topics that Kafka does not have, of those asked for."""

    sight: Sight
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """`told` is what conditions say; `failures` in a row began at `failing_since` (seconds of a monotonic clock)."""

    told: Answer
    failures: int = 0
    failing_since: float = 0.0

    @property
    def answers(self) -> bool:
        """Whether it is told to answer."""
        return self.told.sight is Sight.ANSWERS


def after(before: Health | None, answer: Answer, now: float) -> Health:
    """What is known once `answer` came: good news counts at once, bad news after three times or a minute.

    Without anything known before there is nothing to hold on to: the first answer is told.
    """
    if answer.sight is Sight.ANSWERS:
        return Health(answer)
    failures = before.failures + 1 if before is not None else 1
    since = before.failing_since if before is not None and before.failures else now
    settled = failures >= TOLERATED_FAILURES or now - since >= TOLERATED_SECONDS
    if before is None or not before.answers or settled:
        return Health(answer, failures, since)
    return Health(before.told, failures, since)
