"""Engines and ledgers on temporary directories, closed when the test ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from memory_runtime.engine import MemoryEngine, build_engine
from memory_runtime.model.records import Scope
from memory_runtime.settings import SMFSettings

Opener = Callable[..., Awaitable[MemoryEngine]]

# speed is a benchmark's business: on a busy machine a deadline would fail tests of what is right
hypothesis.settings.register_profile("soma", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("soma")


@pytest.fixture
def scope() -> Scope:
    """The scope of most tests."""
    return Scope("acme", "notes")


@pytest.fixture
async def open_engine(tmp_path: Path) -> AsyncIterator[Opener]:
    """Starts an engine on the test's directory: `await open_engine(vector_dim=3, clock=…)`; text is hashed."""
    opened: list[MemoryEngine] = []

    async def opener(*, clock: Callable[[], float] | None = None, **settings: Any) -> MemoryEngine:
        values = {"data_dir": tmp_path / "data", "embedding_provider": "hash"} | settings
        engine = build_engine(SMFSettings(**values), **({"clock": clock} if clock else {}))
        opened.append(engine)
        await engine.start()
        return engine

    yield opener
    for engine in opened:
        await engine.close()
