"""The demo's own checks: each must be able to fail."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hack import install
from hack.demo import steps
from hack.demo.conversation import Conversation, Question, Turn
from hack.demo.errors import DemoError
from hack.demo.screen import Screen
from hack.demo.service import Hit
from hack.images import Image

FACTORS: dict[str, Any] = {
    "similarity": 0.5,
    "similarity_exponent": 1.0,
    "importance": 0.8,
    "importance_exponent": 1.0,
    "decay": 0.5,
    "features": {"trust": [0.25, 0.5]},
}
HIT = Hit("D1:1", "text", 0.0, 0.1, FACTORS)
QUESTION = Question("Where?", evidence=("D1:1",))
TURNS = (Turn("D1:1", "1,1,0", "text", 0.0),)


def screen(*, terminal: bool = False) -> tuple[Screen, io.StringIO]:
    out = io.StringIO()
    return Screen(2, Console(file=out, force_terminal=terminal, width=120, soft_wrap=True)), out


def demo(*, shipped: bool) -> steps.Demo:
    return steps.Demo(screen()[0], Conversation("x", TURNS, (QUESTION,)), shipped=shipped, cluster_name="none")


def test_score_that_is_the_product_of_its_factors_passes() -> None:
    steps._check_arithmetic(QUESTION, [HIT])


@pytest.mark.parametrize("change", [{"decay": 0.6}, {"similarity": 0.49}, {"features": {}}])
def test_score_that_is_not_the_product_of_its_factors_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DemoError, match="not the product"):
        steps._check_arithmetic(QUESTION, [dataclasses.replace(HIT, factors=FACTORS | change)])


def test_hits_out_of_order_are_refused() -> None:
    lower = dataclasses.replace(HIT, score=0.05, factors=FACTORS | {"decay": 0.25})
    with pytest.raises(DemoError, match="order"):
        steps._check_arithmetic(QUESTION, [lower, HIT])


def test_wrong_first_answer_fails_the_shipped_conversation_only() -> None:
    wrong = [dataclasses.replace(HIT, key="D9:9")]
    steps._check_found(demo(shipped=False), QUESTION, wrong)
    with pytest.raises(DemoError, match="D9:9 came first"):
        steps._check_found(demo(shipped=True), QUESTION, wrong)


def test_nothing_recalled_fails_for_everybody() -> None:
    with pytest.raises(DemoError, match="nothing was recalled"):
        steps._check_found(demo(shipped=False), QUESTION, [])


def test_two_conversations_are_kept_in_two_memory_namespaces() -> None:
    other = dataclasses.replace(demo(shipped=True), conversation=Conversation("y", (TURNS * 2), ()))
    assert other.scope != demo(shipped=True).scope == demo(shipped=False).scope


def test_drift_is_cut_out_of_what_kubectl_describes() -> None:
    described = [
        "Status:",
        "  Drift:",
        "    Count:  1",
        "    Items:",
        "      Path:  .spec.x",
        "  Observed Generation: 1",
        "Events:",
    ]
    assert steps._drift_lines(described) == ["Drift:", "  Count:  1", "  Items:", "    Path:  .spec.x"]
    assert steps._drift_lines(["Status:"]) == []


def test_log_shows_a_state_once_and_again_when_it_changes() -> None:
    shown, out = screen()
    states = iter([[("pod", "a", "Pending")], [("pod", "a", "Pending")], [("pod", "a", "Running")]])
    done = iter([False, False, True])
    assert shown.watch(lambda: next(states), lambda: next(done), timeout=30)
    assert [line.strip() for line in out.getvalue().splitlines()] == ["pod a: Pending", "pod a: Running"]
    assert "\x1b" not in out.getvalue()


def test_watching_ends_after_its_time() -> None:
    assert not screen()[0].watch(list, lambda: False, timeout=0.0)
    assert not screen(terminal=True)[0].watch(list, lambda: False, timeout=0.0)


def test_steps_are_numbered_and_timed_even_when_they_fail() -> None:
    shown, out = screen()
    with pytest.raises(DemoError), shown.step("first"):
        raise DemoError("no")
    with shown.step("second [not markup]"):
        pass
    assert "[1/2] first" in out.getvalue()
    assert "[2/2] second [not markup]" in out.getvalue()
    assert len(shown.taken) == 2


def test_installed_manifests_name_the_images_by_their_content() -> None:
    image = Image("soma", Path("x.tar"), "reg/soma:dev", "reg/soma:abc", "sha256:1", 1)
    manifest = "image: docker.io/library/soma:dev\nvalue: docker.io/library/soma:dev\n"
    assert install.pinned(manifest, {"soma": image}) == "image: reg/soma:abc\nvalue: reg/soma:abc\n"
