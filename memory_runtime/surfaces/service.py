"""What both servers share: the engine, the doors that every request passes, and the phase that the process is in."""

from __future__ import annotations

import enum
import logging
import time
from collections.abc import Mapping

from memory_runtime.access import (
    Admission,
    Authenticator,
    BodyBudget,
    FleetLimiter,
    TokenSource,
    presented_token,
    scope_of,
)
from memory_runtime.engine import MemoryEngine, Readiness
from memory_runtime.flags import build_flags
from memory_runtime.model.actor import act_as, work_for
from memory_runtime.model.errors import RateLimited, SomaError, Unavailable
from memory_runtime.model.records import Scope
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.answer_size import bound_answer
from memory_runtime.surfaces.shared_rate import build_shared_rate

log = logging.getLogger(__name__)


class Phase(enum.Enum):
    """Where the process is in its life."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"


class Service:
    """One running memory service, whatever transport a request comes by."""

    def __init__(self, settings: SMFSettings, engine: MemoryEngine) -> None:
        """Raises SettingsError when there is no token and nobody said that none is wanted."""
        self.settings = settings
        self.engine = engine
        self.phase = Phase.STARTING
        self.started_at = time.time()
        refused = engine.metrics.refused
        self.admission = Admission(refused=refused.labels("in_flight").inc)
        self.bodies = BodyBudget(room_for=self.body_limit, refused=refused.labels("bytes").inc)
        self._authenticator = Authenticator(TokenSource(settings), disabled=settings.auth_disabled)
        self._shared_rate = build_shared_rate(settings, engine.metrics.backends)
        self._limiter = self._limiter_of(settings)
        self.flags = build_flags(settings, self.reload, engine.metrics.backends, engine.metrics.tasks)

    @property
    def body_limit(self) -> int:
        """The largest body of a request, in bytes."""
        return int(self.settings.max_request_body_mb * (1 << 20))

    def anonymous(self, headers: Mapping[str, str]) -> bool:
        """Whether a request for `/stats` (names in lower case) is let in without a token: then it is shown less."""
        settings = self.settings
        return settings.stats_open and not settings.auth_disabled and presented_token(headers) is None

    def _limiter_of(self, settings: SMFSettings) -> FleetLimiter:
        decisions = self.engine.metrics.rate_decisions
        return FleetLimiter(
            settings.rate_limit_max,
            settings.rate_limit_window_seconds,
            self._shared_rate,
            lambda who: decisions.labels(who).inc(),
        )

    async def close(self) -> None:
        """Ends what the service has opened for itself."""
        if self._shared_rate is not None:
            await self._shared_rate.close()

    async def admit(
        self, headers: Mapping[str, str], peer: str, *, wrong_is_forbidden: bool = False, open_to_all: bool = False
    ) -> Scope:
        """The scope of a request whose headers (names in lower case) open the door; `open_to_all`: or has no token.

        Raises Unauthenticated, PermissionDenied, RateLimited (also for one who tries tokens), InvalidArgument for a
        bad tenant or namespace, and Unavailable while the process is starting.
        """
        refused = self.engine.metrics.refused
        anonymous = open_to_all and self.anonymous(headers)
        try:
            if not anonymous:
                self._authenticator.check(headers, wrong_is_forbidden=wrong_is_forbidden)
        except SomaError:
            refused.labels("token").inc()
            await self._spend("refused", peer)
            raise
        act_as(f"{'anonymous' if anonymous or self.settings.auth_disabled else 'token'}@{peer}")
        scope = scope_of(headers, self.settings)
        work_for(scope.tenant)
        bound_answer(int(self.settings.max_response_body_mb * (1 << 20)))
        await self._spend(peer, scope.tenant)
        if self.phase is Phase.STARTING:
            refused.labels("starting").inc()
            raise Unavailable("still starting", remedy="wait for /readyz to answer 200", retry_after=1.0)
        return scope

    async def _spend(self, *caller: str) -> None:
        try:
            await self._limiter.spend(caller)
        except RateLimited:
            self.engine.metrics.refused.labels("rate_limit").inc()
            raise

    def reload(self, settings: SMFSettings) -> None:
        """Takes over settings of which only reloadable ones differ: here, in the engine, and for the log."""
        before, self.settings = self.settings, self._with_a_token(settings)
        settings = self.settings
        self.bodies.keep_room_for(self.body_limit)
        limit = (settings.rate_limit_max, settings.rate_limit_window_seconds)
        if limit != (before.rate_limit_max, before.rate_limit_window_seconds):
            self._limiter = self._limiter_of(settings)
        if settings.log_level != before.log_level:
            logging.getLogger().setLevel(settings.log_level)
        self.engine.reload(settings)

    def _with_a_token(self, settings: SMFSettings) -> SMFSettings:
        """Takes over another token. Without a usable one the last good token stays: a reload locks nobody out."""
        kept = {name: getattr(self.settings, name) for name in ("api_token", "api_token_file")}
        if all(getattr(settings, name) == value for name, value in kept.items()):
            return settings
        try:
            self._authenticator = Authenticator(TokenSource(settings), disabled=settings.auth_disabled)
        except SettingsError as error:
            log.error("the last good token stays in force: %s", error)  # noqa: TRY400 -- one sentence says it all
            return settings.model_copy(update=kept)
        log.info("the token was changed")
        return settings

    async def readiness(self) -> Readiness:
        """The engine's readiness; never ready while starting or draining."""
        if self.phase is Phase.SERVING:
            return await self.engine.ready()
        return Readiness(False, self.phase is Phase.DRAINING, False, False, False, 0, 0, (self.phase.value,))
