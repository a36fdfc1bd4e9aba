"""Chooses the provider that the settings ask for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from memory_runtime.embedding.client import ClientVectors
from memory_runtime.embedding.contract import EmbeddingProvider, EmbeddingSettings
from memory_runtime.embedding.hashing import HashProvider
from memory_runtime.model.errors import Unprocessable


def build_provider(settings: EmbeddingSettings) -> EmbeddingProvider:
    """The provider of `embedding_provider`; `auto` is the transformer where `model_dir` is set, and hashing where not.

    Raises Unprocessable, naming the setting and the remedy, when the model cannot be used: `auto` does not fall back
    silently from a directory that was named, as the vectors would be of another revision.
    """
    kind = settings.embedding_provider
    if kind == "client":
        return ClientVectors(settings.vector_dim)
    if kind == "hash" or (kind == "auto" and settings.model_dir is None):
        return HashProvider(settings.vector_dim)
    return _transformer(settings)


def build_previous(settings: EmbeddingSettings, revision: str) -> EmbeddingProvider:
    """The provider that gives vectors of `revision`: hashing, or the transformer in `previous_model_dir`.

    Raises Unprocessable, naming `previous_model_dir`, where there is none.
    """
    hashing = HashProvider(settings.vector_dim)
    if revision == hashing.revision:
        return hashing
    name, _, digest = revision.rpartition("@")
    if settings.previous_model_dir is None or not name:
        raise Unprocessable(
            f"previous_model_dir: not set, and the stored memories were embedded by {revision}",
            field="previous_model_dir",
            remedy="set SOMA_PREVIOUS_MODEL_DIR to that model's directory, or go back to it and unset SOMA_REEMBED",
        )
    return _load(settings, settings.previous_model_dir, name, digest)


def _transformer(settings: EmbeddingSettings) -> EmbeddingProvider:
    if settings.model_dir is None:
        raise Unprocessable(
            "model_dir: not set, and embedding_provider is transformer",
            field="model_dir",
            remedy="set model_dir to the directory that hack/model prints, or embedding_provider to hash",
        )
    return _load(settings, settings.model_dir, settings.model_name, settings.model_revision)


def _load(settings: EmbeddingSettings, directory: Path, name: str, revision: str | None) -> EmbeddingProvider:
    for package in ("tokenizers", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise Unprocessable(
                f"embedding_provider: the transformer needs the package {package}",
                field="embedding_provider",
                remedy="install soma-memory-operator[runtime,transformer], or set embedding_provider to hash",
            )
    # Imported here because the extra `transformer` is optional.
    from memory_runtime.embedding.transformer import TransformerProvider
    from memory_runtime.embedding.weights import load_model

    model = load_model(directory, name=name, revision=revision, dim=settings.vector_dim)
    return TransformerProvider(model, timeout_seconds=settings.embedding_timeout_seconds)
