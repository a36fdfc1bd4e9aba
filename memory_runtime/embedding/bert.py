"""The forward pass of a BERT sentence encoder in NumPy: tokens in, one unit vector a text out.

Texts of different lengths share every matrix product without padding: their tokens lie one after another in one matrix,
and only attention looks at a text at a time (texts of one length together). All arithmetic is float32, as in the
reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# GELU(x) = x/2 · (1 + tanh(x·p(x²))) with p the weighted least-squares fit of atanh(erf(x/√2))/x on [0, 6]: at most
# 3.1e-6 from the erf form, where the usual tanh approximation is off by 4.7e-4, more than the provider's promise of
# 1e-4 allows.
_GELU = (0.797828136, 0.0364687905, -0.000124861311, -3.05810729e-05, 1.11908613e-06)
# Rows of a block of activations that stay in a core's L2 cache while GELU passes over them.
_GELU_ROWS = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of an encoder, as its `config.json` states them."""

    hidden: int
    heads: int
    layers: int
    intermediate: int
    positions: int
    vocabulary: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class _Layer:
    """One block's weights; matrices are [in, out] and contiguous, and queries, keys and values are one matrix [d,
    3d].
    """

    qkv: Floats
    qkv_bias: Floats
    out: Floats
    out_bias: Floats
    norm1: tuple[Floats, Floats]
    up: Floats
    up_bias: Floats
    down: Floats
    down_bias: Floats
    norm2: tuple[Floats, Floats]


class BertEncoder:
    """Mean-pooled, L2-normalised BERT: `encode` gives float32 [n, hidden]."""

    def __init__(self, shape: Shape, tensors: Mapping[str, Floats]) -> None:
        self.shape = shape
        self._words = tensors["embeddings.word_embeddings.weight"]
        # Every token is of sentence type 0, so its embedding belongs to the position's.
        self._positions = (
            tensors["embeddings.position_embeddings.weight"] + tensors["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = _norm_of(tensors, "embeddings.LayerNorm")
        self._layers = [_layer_of(tensors, f"encoder.layer.{n}", shape) for n in range(shape.layers)]

    def encode(self, token_ids: Sequence[Sequence[int]]) -> Floats:
        """Unit vectors [n, hidden] of `token_ids` (with the special tokens, each text of 1 to `positions` tokens)."""
        order = sorted(range(len(token_ids)), key=lambda n: len(token_ids[n]))
        lengths = np.array([len(token_ids[n]) for n in order], dtype=np.intp)
        starts = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        flat = np.fromiter((t for n in order for t in token_ids[n]), dtype=np.intp, count=int(lengths.sum()))
        positions = np.arange(flat.size) - np.repeat(starts, lengths)
        x = self._words[flat]
        x += self._positions[positions]
        _normalise(x, self._norm, self.shape.epsilon)
        groups = _equal_lengths(lengths)
        for layer in self._layers:
            x = self._block(x, layer, groups)
        pooled = np.add.reduceat(x, starts, axis=0)  # the mean's divisor cancels in the L2 norm
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
        vectors = np.empty_like(pooled)
        vectors[order] = pooled
        return vectors

    def _block(self, x: Floats, layer: _Layer, groups: list[tuple[int, int, int]]) -> Floats:
        qkv = x @ layer.qkv
        qkv += layer.qkv_bias
        attended = np.empty_like(x)
        for start, count, length in groups:
            rows = slice(start, start + count * length)
            _attend(qkv[rows], attended[rows], count, length, self.shape.heads)
        hidden: Floats = attended @ layer.out
        hidden += layer.out_bias
        hidden += x
        _normalise(hidden, layer.norm1, self.shape.epsilon)
        wide: Floats = hidden @ layer.up
        wide += layer.up_bias
        gelu(wide)
        result: Floats = wide @ layer.down
        result += layer.down_bias
        result += hidden
        _normalise(result, layer.norm2, self.shape.epsilon)
        return result


def gelu(x: Floats) -> None:
    """GELU (erf form to 3.1e-6) of the float32 matrix `x`, in place."""
    top, *rest = reversed(_GELU)
    square = np.empty((min(_GELU_ROWS, len(x)), x.shape[1]), dtype=np.float32)
    inner = np.empty_like(square)
    for start in range(0, len(x), _GELU_ROWS):
        part = x[start : start + _GELU_ROWS]
        s, t = square[: len(part)], inner[: len(part)]
        np.multiply(part, part, out=s)
        np.multiply(s, np.float32(top), out=t)
        for coefficient in rest[:-1]:
            t += np.float32(coefficient)
            t *= s
        t += np.float32(rest[-1])
        t *= part
        np.tanh(t, out=t)
        t += np.float32(1)
        t *= np.float32(0.5)
        part *= t


def _attend(qkv: Floats, out: Floats, count: int, length: int, heads: int) -> None:
    """Self-attention inside each of `count` texts of `length` tokens: `qkv` [count·length, 3d] → `out`
    [count·length, d].
    """
    hidden = out.shape[1]
    split = qkv.reshape(count, length, 3, heads, hidden // heads).transpose(2, 0, 3, 1, 4)
    query, key, value = np.ascontiguousarray(split)
    scores = query @ key.transpose(0, 1, 3, 2)  # the 1/√d is in the query's weights
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    out.reshape(count, length, heads, hidden // heads)[:] = (scores @ value).transpose(0, 2, 1, 3)


def _normalise(x: Floats, norm: tuple[Floats, Floats], epsilon: float) -> None:
    """Layer normalisation of the rows of `x`, in place."""
    scale, shift = norm
    x -= x.mean(axis=1, keepdims=True)
    variance = np.einsum("ij,ij->i", x, x)[:, None] / np.float32(x.shape[1])
    x /= np.sqrt(variance + np.float32(epsilon))
    x *= scale
    x += shift


def _equal_lengths(lengths: NDArray[np.intp]) -> list[tuple[int, int, int]]:
    """Runs of equal length in sorted `lengths`, as (first row, number of texts, length)."""
    values, counts = np.unique(lengths, return_counts=True)
    groups, start = [], 0
    for length, count in zip(values.tolist(), counts.tolist(), strict=True):
        groups.append((start, count, length))
        start += length * count
    return groups


def _norm_of(tensors: Mapping[str, Floats], name: str) -> tuple[Floats, Floats]:
    return tensors[f"{name}.weight"], tensors[f"{name}.bias"]


def _layer_of(tensors: Mapping[str, Floats], name: str, shape: Shape) -> _Layer:
    def matrix(part: str) -> Floats:
        return np.ascontiguousarray(tensors[f"{name}.{part}.weight"].T)

    def bias(part: str) -> Floats:
        return tensors[f"{name}.{part}.bias"]

    scale = np.float32((shape.hidden // shape.heads) ** -0.5)
    inner = "attention.self"
    return _Layer(
        qkv=np.hstack([matrix(f"{inner}.query") * scale, matrix(f"{inner}.key"), matrix(f"{inner}.value")]),
        qkv_bias=np.hstack([bias(f"{inner}.query") * scale, bias(f"{inner}.key"), bias(f"{inner}.value")]),
        out=matrix("attention.output.dense"),
        out_bias=bias("attention.output.dense"),
        norm1=_norm_of(tensors, f"{name}.attention.output.LayerNorm"),
        up=matrix("intermediate.dense"),
        up_bias=bias("intermediate.dense"),
        down=matrix("output.dense"),
        down_bias=bias("output.dense"),
        norm2=_norm_of(tensors, f"{name}.output.LayerNorm"),
    )
