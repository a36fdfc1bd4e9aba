"""Reads a transformer's directory: checks that it is the pinned revision and whole, then loads it. Nothing is
downloaded.

The revision of a model is the SHA-256 of its weights, so a flipped byte and a wrong revision are found by one check.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from memory_runtime.embedding.bert import BertEncoder, Floats, Shape
from memory_runtime.model.errors import SomaError, Unprocessable

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
REMEDY = (
    "point model_dir at the directory that hack/model prints (in the image: /opt/soma/models/all-MiniLM-L6-v2), or "
    "set embedding_provider to hash"
)


@dataclass(frozen=True, slots=True)
class Pin:
    """SHA-256 of the weights and of the tokenizer of a known model, in hexadecimal."""

    weights: str
    tokenizer: str


PINS: dict[str, Pin] = {
    "all-MiniLM-L6-v2": Pin(
        weights="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        tokenizer="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
}
"""By the last part of the model's name."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A checked model: its encoder, its tokenizer file, the longest text in tokens, and its revision."""

    encoder: BertEncoder
    tokenizer: Path
    max_tokens: int
    revision: str


def load_model(directory: Path, *, name: str, revision: str | None, dim: int) -> LoadedModel:
    """Loads the model `name` from `directory`; `revision` is a prefix (12 or more digits) of its weights' SHA-256.

    Raises Unprocessable naming the setting: a file is missing or corrupt, the revision is another, the dimension is not
    `vector_dim`, or it is no BERT encoder with mean pooling.
    """
    for file in (CONFIG, TOKENIZER, WEIGHTS):
        if not (directory / file).is_file():
            raise Unprocessable(f"model_dir: {directory} has no {file}", field="model_dir", remedy=REMEDY)
    found = _checked_revision(directory, name, revision)
    shape = _shape(directory)
    if shape.hidden != dim:
        raise Unprocessable(
            f"vector_dim: {dim}, but the model {name} in model_dir gives vectors of {shape.hidden}",
            field="vector_dim",
            remedy=f"set vector_dim to {shape.hidden}, or choose a model of {dim} dimensions",
        )
    encoder = BertEncoder(shape, _tensors(directory / WEIGHTS, shape))
    return LoadedModel(encoder, directory / TOKENIZER, _max_tokens(directory, shape), f"{_short(name)}@{found[:12]}")


def _checked_revision(directory: Path, name: str, revision: str | None) -> str:
    """The SHA-256 of the weights, if it is the one that was asked for."""
    found = file_digest(directory / WEIGHTS)
    pin = PINS.get(_short(name))
    expected = revision or (pin.weights if pin else None)
    if expected is not None and (len(expected) < 12 or not found.startswith(expected.lower())):
        setting = "model_revision" if revision else "model_name"
        raise Unprocessable(
            f"{setting}: the weights of {name} should have the SHA-256 {expected}, but {WEIGHTS} in model_dir has "
            f"{found}: the file is corrupt, or of another revision",
            field=setting,
            remedy=f"{REMEDY}; to use these weights, set model_revision to {found[:12]}",
        )
    if revision is None:
        _refuse_another_name(name, found)
    if pin and found == pin.weights and file_digest(directory / TOKENIZER) != pin.tokenizer:
        raise Unprocessable(
            f"model_dir: {TOKENIZER} is corrupt, or not the one of {name}", field="model_dir", remedy=REMEDY
        )
    return found


def _refuse_another_name(name: str, found: str) -> None:
    """Weights that are known are not served under another model's name: whoever named that one would not notice."""
    for known, pin in PINS.items():
        if found == pin.weights and known != _short(name):
            raise Unprocessable(
                f"model_name: is {name}, but the weights in model_dir are those of {known}",
                field="model_name",
                remedy=f"set SOMA_MODEL_DIR to the weights of {name}, or SOMA_MODEL_NAME to {known}",
            )


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shape(directory: Path) -> Shape:
    config = _json(directory / CONFIG)
    pooling = directory / "1_Pooling" / "config.json"
    mean = not pooling.exists() or _json(pooling).get("pooling_mode_mean_tokens") is True
    kind = (config.get("model_type"), config.get("hidden_act"), config.get("position_embedding_type", "absolute"))
    if not mean or kind != ("bert", "gelu", "absolute"):
        raise Unprocessable(
            "model_dir: not a BERT encoder with GELU, absolute positions and mean pooling",
            field="model_dir",
            remedy=REMEDY,
        )
    try:
        return Shape(
            hidden=int(config["hidden_size"]),
            heads=int(config["num_attention_heads"]),
            layers=int(config["num_hidden_layers"]),
            intermediate=int(config["intermediate_size"]),
            positions=int(config["max_position_embeddings"]),
            vocabulary=int(config["vocab_size"]),
            epsilon=float(config["layer_norm_eps"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _corrupt(CONFIG, error) from None


def _max_tokens(directory: Path, shape: Shape) -> int:
    """How many tokens the sentence encoder was made for; longer texts are cut there, as in the reference."""
    path = directory / "sentence_bert_config.json"
    stated = _json(path).get("max_seq_length") if path.exists() else None
    return min(int(stated), shape.positions) if isinstance(stated, int) else shape.positions


def _tensors(path: Path, shape: Shape) -> Mapping[str, Floats]:
    try:
        with safe_open(path, framework="np") as file:
            present = set(file.keys())
            tensors = {
                name: file.get_tensor(name).astype(np.float32, copy=False) for name in _names(shape) if name in present
            }
    except (SafetensorError, OSError, ValueError) as error:
        raise _corrupt(WEIGHTS, error) from None
    absent = [name for name in _names(shape) if name not in tensors]
    if absent:
        raise _corrupt(WEIGHTS, f"no tensor {absent[0]}")
    if tensors["embeddings.word_embeddings.weight"].shape != (shape.vocabulary, shape.hidden):
        raise _corrupt(WEIGHTS, "the vocabulary's shape is not the one of config.json")
    return tensors


def _names(shape: Shape) -> Iterator[str]:
    for table in ("word", "position", "token_type"):
        yield f"embeddings.{table}_embeddings.weight"
    parts = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
    parts += ["attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"]
    modules = ["embeddings.LayerNorm", *(f"encoder.layer.{n}.{part}" for n in range(shape.layers) for part in parts)]
    for module in modules:
        yield f"{module}.weight"
        yield f"{module}.bias"


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _corrupt(path.name, error) from None
    if not isinstance(value, dict):
        raise _corrupt(path.name, "not an object")
    return value


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1]


def _corrupt(file: str, reason: object) -> SomaError:
    return Unprocessable(f"model_dir: cannot read {file}: {reason}", field="model_dir", remedy=REMEDY)
