"""The mutants still fit the source: each has one place, and a test that is there. Running them is `hack/mutants`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from hack.mutation.catalogue import MUTANTS
from hack.mutation.mutant import Mutant
from hack.mutation.patching import AnchorLost, applied, patched

ROOT = Path(__file__).resolve().parents[3]
EVERY = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)


@EVERY
def test_the_mutant_has_one_place_and_is_a_program(mutant: Mutant) -> None:
    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    changed = patched(source, mutant)
    assert changed != source
    ast.parse(changed)


@EVERY
def test_its_test_is_there(mutant: Mutant) -> None:
    path, _, name = mutant.killer.partition("[")[0].partition("::")
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_mutant_is_in_the_documentation() -> None:
    told = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    assert [one.name for one in MUTANTS if f"`{one.name}`" not in told] == []


def test_a_mutant_is_taken_out_again_and_a_lost_anchor_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    mutant = Mutant("two", "One is one.", "a.py", "x = 1", "x = 2", "t.py::test")
    with applied(tmp_path, mutant):
        assert (tmp_path / "a.py").read_text() == "x = 2\n"
    assert (tmp_path / "a.py").read_text() == "x = 1\n"
    with pytest.raises(AnchorLost, match="two: its anchor occurs 2 times"):
        patched("x = 1\nx = 1\n", mutant)
