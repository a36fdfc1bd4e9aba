"""Chooses the provider that the settings ask for."""

from __future__ import annotations

import importlib.util

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


def _transformer(settings: EmbeddingSettings) -> EmbeddingProvider:
    if settings.model_dir is None:
        raise Unprocessable(
            "model_dir: not set, and embedding_provider is transformer",
            field="model_dir",
            remedy="set model_dir to the directory that hack/model prints, or embedding_provider to hash",
        )
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

    model = load_model(
        settings.model_dir, name=settings.model_name, revision=settings.model_revision, dim=settings.vector_dim
    )
    return TransformerProvider(model, timeout_seconds=settings.embedding_timeout_seconds)
