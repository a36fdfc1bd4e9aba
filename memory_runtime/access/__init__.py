"""Who calls, in which tenant, and how much they may: bearer tokens, scopes from headers, limits and admission.

Decides from values only (headers, a peer's address, the clock); knows no transport and no engine. May import model,
settings and telemetry.
"""

from memory_runtime.access.admission import Admission, BodyBudget
from memory_runtime.access.names import named_headers, named_metadata
from memory_runtime.access.ratelimit import FleetLimiter, RateLimiter
from memory_runtime.access.reading import ReadingPlaces
from memory_runtime.access.tenancy import scope_of
from memory_runtime.access.tokens import Authenticator, TokenSource, laptop_token_file, presented_token

__all__ = [
    "Admission",
    "Authenticator",
    "BodyBudget",
    "FleetLimiter",
    "RateLimiter",
    "ReadingPlaces",
    "TokenSource",
    "laptop_token_file",
    "named_headers",
    "named_metadata",
    "presented_token",
    "scope_of",
]
