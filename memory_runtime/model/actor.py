"""Who is acting, and for which tenant: said where a request is let in.

The actor is read where a line of the audit chain is written, the tenant where requests queue for what they share.
"""

from __future__ import annotations

import contextvars
from typing import Final

ITSELF: Final = "soma"
"""The actor of what nobody asked for: the process itself."""
_TENANT: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("tenant", default="")
_ACTOR: Final[contextvars.ContextVar[str]] = contextvars.ContextVar("actor", default=ITSELF)


def act_as(actor: str) -> None:
    """From here on, what this request does is done by `actor`: words for people, never a credential."""
    _ACTOR.set(actor)


def current_actor() -> str:
    """Who is acting here."""
    return _ACTOR.get()


def work_for(tenant: str) -> None:
    """From here on, what this request asks for is asked for by `tenant`."""
    _TENANT.set(tenant)


def current_tenant() -> str:
    """The tenant that is worked for here; empty for what the process does for itself."""
    return _TENANT.get()
