"""What a test does where this machine lacks something: skip with the reason, or fail where nothing may be skipped."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def unavailable(reason: str) -> NoReturn:
    """Skip with the reason; fail where everything is required (`SOMA_TEST_REQUIRE=all`, as in CI)."""
    if os.environ.get("SOMA_TEST_REQUIRE") == "all":
        pytest.fail(f"required, but not to be had: {reason}")
    pytest.skip(reason)
