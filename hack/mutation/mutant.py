"""One rule broken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """`anchor` occurs once in the file and is replaced by `instead`; `killer` is a pytest id that must fail then."""

    name: str
    rule: str
    path: str
    anchor: str
    instead: str
    killer: str
