"""Who is acting: said where a request is let in, read where a line of the audit chain is written."""

from __future__ import annotations

import contextvars
from typing import Final

ITSELF: Final = "soma"
"""The actor of what nobody asked for: the process itself."""
_ACTOR: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("actor", default=ITSELF)


def act_as(actor: str) -> None:
    """From here on, what this request does is done by `actor`: words for people, never a credential."""
    _ACTOR.set(actor)


def current_actor() -> str:
    """Who is acting here."""
    return _ACTOR.get()
