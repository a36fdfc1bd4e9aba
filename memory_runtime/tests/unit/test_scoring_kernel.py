"""What writing has in C, against the NumPy that answers without it: the same bits, or bounds that hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hack import kernel as kernel_tool
from memory_runtime.scoring import codes, kernel
from memory_runtime.scoring.basis import Basis, train
from memory_runtime.scoring.rows import hash_ids, unit_rows

RNG_SEED = 20_261_125


@pytest.fixture(params=["portable", "avx2", "avx512-vnni"])
def module(request: pytest.FixtureRequest) -> Any:
    """The compiled kernel, once with each instruction set that this CPU has."""
    try:
        kernel_tool.build()
    except kernel_tool.CannotBuild as why:
        pytest.skip(str(why))
    kernel.load.cache_clear()
    loaded = kernel.load()
    before = loaded.variant()
    if not loaded.force(request.param):
        pytest.skip(f"this CPU has no {request.param}")
    yield loaded
    loaded.force(before)


def without_kernel(monkeypatch: pytest.MonkeyPatch, act: Any) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "load", lambda: None)
        return act()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 31, 32, 384, 770])
def test_unit_vectors_have_the_same_bits_everywhere(
    module: Any, monkeypatch: pytest.MonkeyPatch, dim: int, kind: Any
) -> None:
    rows = (np.random.default_rng(RNG_SEED).normal(size=(40, dim)) * 1e3 + 1).astype(kind)
    plain = without_kernel(monkeypatch, lambda: unit_rows(rows, dim))
    assert unit_rows(rows, dim).tobytes() == plain.tobytes()


def test_hashes_of_ids_are_the_same(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.random.default_rng(RNG_SEED).integers(0, 2**64, (500, 2), np.uint64)
    plain = without_kernel(monkeypatch, lambda: hash_ids(ids))
    assert (hash_ids(ids) == plain).all()


@pytest.mark.parametrize("trained", [True, False])
def test_codes_are_as_far_from_the_projection_as_they_say(module: Any, trained: bool) -> None:
    rng = np.random.default_rng(RNG_SEED)
    centres = rng.normal(size=(30, 96))
    vectors = unit_rows(centres[rng.integers(30, size=5003)] + 0.3 * rng.normal(size=(5003, 96)), 96)
    basis = train(vectors) if trained else Basis(96)
    assert (basis.rows is not None) == trained
    made = codes.encoded(vectors, basis, 1.0 + 1e-6)
    flat = made.prefix.transpose(0, 2, 1, 3).reshape(-1, made.prefix.shape[1] * 4)[: len(vectors), : basis.size]
    scale, residual = (made.head[:, which].reshape(-1)[: len(vectors)].astype(np.float64) for which in (0, 1))
    assert flat.min() >= 1
    assert flat.max() <= 127
    directions = np.eye(96) if basis.rows is None else basis.rows.astype(np.float64)
    projected = vectors.astype(np.float64) @ directions.T
    missed = np.linalg.norm(projected - (flat.astype(np.float64) - 64) * scale[:, None], axis=1)
    assert missed.max() <= made.error
    left = np.linalg.norm(vectors - projected @ directions, axis=1)
    assert (left <= residual + 1e-6).all()
    assert residual.max() < 1.0


def test_missing_rows_have_the_code_of_zero(module: Any) -> None:
    made = codes.encoded(unit_rows(np.ones((3, 10)), 10), Basis(10), 1.0)
    assert (made.prefix[0, :, 3:] == codes.NARROW_ZERO).all()
    assert (made.head[0, :, 3:] == 0).all()


def test_a_buffer_that_is_too_short_is_refused(module: Any) -> None:
    rows = np.ones((4, 8), np.float32)
    short = np.zeros(1, np.uint8)
    eight = np.zeros(1, np.int64)
    for call in (
        lambda: module.unit_rows(rows, False, 4, 8, short, np.zeros(4)),
        lambda: module.narrow_codes(rows, None, 4, 8, 8, 0, 2, 0, 1.0, 0.0, short, np.zeros(32, np.float32)),
        lambda: module.project(rows, rows, 4, 8, 16, short),
        lambda: module.orthonormalise(np.zeros(3), 1, 4),
        lambda: module.gather_rows(np.zeros(32, np.uint8), 32, (rows,), np.zeros(1, np.int32), eight + 4),
        lambda: module.gather_rows(np.zeros(32, np.uint8), 32, (rows,), np.ones(1, np.int32), eight),
        lambda: module.gather_groups(
            np.zeros(64, np.uint8), np.zeros(32, np.float32), 1, (short,), (short,), np.zeros(1, np.int32), eight
        ),
        lambda: module.find(eight, short, rows, rows, 32, 0, rows, eight, eight),
        lambda: module.hash_ids(np.zeros((2, 2), np.uint64), short),
    ):
        with pytest.raises(ValueError, match=r"too short|outside"):
            call()
