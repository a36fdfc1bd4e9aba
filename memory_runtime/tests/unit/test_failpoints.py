"""Failpoints: off unless armed, refused unless the process may be harmed, and deadly where they say so."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from memory_runtime.model import failpoints
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.settings import SettingsError, load_settings

RUNTIME = Path(failpoints.__file__).parents[1]


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_a_place_that_is_not_armed_does_nothing() -> None:
    failpoints.arm("pre-ack=kill")
    failpoints.reach("pre-commit")


def test_the_process_dies_at_the_arrival_that_was_named() -> None:
    script = (
        "from memory_runtime.model import failpoints\n"
        "failpoints.arm('pre-commit=kill@3')\n"
        "for turn in range(1, 5):\n"
        "    print(turn, flush=True)\n"
        "    failpoints.reach('pre-commit')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["1", "2", "3"]


def test_a_delay_is_slept_at_every_arrival_from_its_turn_on() -> None:
    failpoints.arm("mid-merge=sleep:0.2@2")
    start = time.monotonic()
    failpoints.reach("mid-merge")
    assert time.monotonic() - start < 0.2
    failpoints.reach("mid-merge")
    failpoints.reach("mid-merge")
    assert time.monotonic() - start >= 0.4


@pytest.mark.parametrize(
    "text", ["nowhere=kill", "pre-commit", "pre-commit=kill@0", "pre-commit=exit", "pre-ack=sleep:"]
)
def test_what_is_not_known_is_refused_and_disarms_nothing(text: str) -> None:
    failpoints.arm("pre-ack=sleep:0.05")
    with pytest.raises(InvalidArgument, match="failpoints"):
        failpoints.arm(f"pre-commit=kill,{text}")
    start = time.monotonic()
    failpoints.reach("pre-ack")
    assert time.monotonic() - start >= 0.05


def test_the_settings_refuse_failpoints_where_nobody_said_that_the_process_may_be_harmed() -> None:
    with pytest.raises(SettingsError, match=r"failpoints: .*debug_faults"):
        load_settings(environ={"SOMA_FAILPOINTS": "pre-commit=kill"})
    with pytest.raises(SettingsError, match=r"failpoints: .*not known"):
        load_settings(environ={"SOMA_FAILPOINTS": "pre-commit", "SOMA_DEBUG_FAULTS": "true"})
    loaded = load_settings(environ={"SOMA_FAILPOINTS": "pre-commit=kill@2", "SOMA_DEBUG_FAULTS": "true"})
    assert loaded.settings.failpoints == "pre-commit=kill@2"


def test_every_place_that_the_code_marks_is_in_the_list() -> None:
    marked = {
        name
        for path in RUNTIME.rglob("*.py")
        for name in re.findall(r"\breach\(\"([^\"]+)\"\)", path.read_text("utf-8"))
    }
    assert marked <= set(failpoints.NAMES)
    assert {"mid-group", "pre-commit", "post-commit", "pre-ack", "mid-merge", "mid-snapshot"} <= marked
