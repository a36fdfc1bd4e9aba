"""What is wrong with a resource's spec, in terms of the field that its author has to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import ErrorDetails

MESSAGE_LIMIT = 256
_MARKERS = ("[", "function-", "lax-or-strict", "json-or-python", "constrained-")


@dataclass(frozen=True, slots=True)
class Problem:
    """One defect: `field` is a path as `kubectl explain` writes it, `remedy` says what to change, or is empty."""

    field: str
    reason: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" + (f"; {self.remedy}" if self.remedy else "")


class SpecError(ValueError):
    """A spec that cannot be acted upon until its generation changes.

    `problems` holds every defect, ordered by field, so that the text is the same whenever the spec is. The text never
    repeats what was given for a field (it may be a secret pasted in the wrong place) and fits a condition's message.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems), key=lambda p: (p.field, p.reason)))
        super().__init__(self._text())

    @property
    def field(self) -> str:
        """Path of the first defect."""
        return self.problems[0].field

    @property
    def remedy(self) -> str:
        """Remedy of the first defect."""
        return self.problems[0].remedy

    def _text(self) -> str:
        others = len(self.problems) - 1
        tail = f" (and {others} more)" if others else ""
        head = str(self.problems[0])
        room = MESSAGE_LIMIT - len(tail)
        return (head if len(head) <= room else head[: room - 1] + "…") + tail

    @classmethod
    def from_validation(cls, error: ValidationError, root: str) -> SpecError:
        """Translate pydantic's error; `root` is the path of the validated part, such as `spec`."""
        entries = error.errors(include_url=False, include_input=False)
        # A list is too short, says pydantic, when its only item is wrong.
        wrong = {entry["loc"][:length] for entry in entries for length in range(len(entry["loc"]))}
        return cls([_problem(e, root) for e in entries if not (e["type"] == "too_short" and e["loc"] in wrong)])


def _problem(entry: ErrorDetails, root: str) -> Problem:
    kind, context = entry["type"], entry.get("ctx", {})
    path = _path(root, entry["loc"])
    if "field" in context:
        return Problem(path + str(context["field"]), str(entry["msg"]), str(context.get("remedy", "")))
    if kind == "extra_forbidden":
        return Problem(path, "this field does not exist", "see kubectl explain for the fields of its parent")
    if kind == "missing":
        return Problem(path, "this field is required", "set it")
    if kind == "string_pattern_mismatch":
        return Problem(path, "is not written in the form that this field takes", "see kubectl explain")
    return Problem(path, str(entry["msg"])[:1].lower() + str(entry["msg"])[1:], "see kubectl explain for what it takes")


def _path(root: str, location: tuple[int | str, ...]) -> str:
    """Leave out the branches of unions and validators, which pydantic puts between the names of fields."""
    path = root
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(_MARKERS):
            path += f".{part}"
    return path
