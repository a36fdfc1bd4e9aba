"""Real sentences and their embeddings, without the internet: docstrings that the locked Python packages ship.

The sentences are the same wherever the same lock is installed. They are embedded once by the runtime's own transformer
and cached under $SOMA_CACHE, keyed by the model and by the sentences.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

SENTENCES = 20_000
_PER_PACKAGE = 2_000
# In the environment of the peers only: the sentences must be the same in both
_BENCH_ONLY = {
    *("faiss", "faiss_cpu.libs", "qdrant_client", "matplotlib", "mpl_toolkits", "PIL", "fontTools", "contourpy"),
    *("kiwisolver", "portalocker", "pyparsing", "h2", "hpack", "hyperframe", "cycler"),
}
_VERSION = 1  # raise it when `sentences` changes
_SENTENCE = re.compile(r"[A-Z][^.?!`*<>{}\[\]_=|\\/]{38,240}[.?!](?=\s|$)")


class NotAvailable(Exception):  # noqa: N818 -- reads as what it says
    """A peer that cannot run here; the message says why and what to do."""


def cache_directory() -> Path:
    """Where benchmark data lives: never in the tree."""
    root = Path(os.environ.get("SOMA_CACHE") or Path.home() / ".cache" / "soma") / "bench"
    root.mkdir(parents=True, exist_ok=True)
    return root


def _docstrings(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_text("utf-8"))
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text


def sentences() -> list[str]:
    """At most 20,000 distinct sentences in a fixed pseudo-random order, at most 2,000 of a package."""
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    site = Path(sysconfig.get_paths()["purelib"])
    packages = [
        *sorted(p for p in site.iterdir() if p.is_dir()),
        *sorted(p for p in stdlib.iterdir() if p != site.parent),
    ]
    found: dict[str, None] = {}
    for package in packages:
        if package.name in {"site-packages", "test", "idlelib"} | _BENCH_ONLY:
            continue
        files = sorted(package.rglob("*.py")) if package.is_dir() else [package] if package.suffix == ".py" else []
        mine: dict[str, None] = {}
        for path in files:
            for text in _docstrings(path):
                mine.update(dict.fromkeys(" ".join(match.split()) for match in _SENTENCE.findall(text)))
        chosen = sorted(mine, key=_shuffle)[:_PER_PACKAGE]
        found.update(dict.fromkeys(chosen))
    return sorted(found, key=_shuffle)[:SENTENCES]


def _shuffle(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def sentence_vectors() -> npt.NDArray[np.float32]:
    """float32 [n, 384]: all-MiniLM-L6-v2 of `sentences()`. Minutes the first time, then cached."""
    from hack import model_weights

    directory = model_weights.ensure()
    # Finding the sentences takes a minute: the key is what they follow from, not they themselves
    lock = Path(__file__).parents[1] / "locks" / "dev.txt"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    parts = [directory.name.encode(), python.encode(), lock.read_bytes(), str(_VERSION).encode()]
    cached = cache_directory() / f"sentences-{hashlib.sha256(b'|'.join(parts)).hexdigest()[:16]}.npy"
    if not cached.exists():
        vectors = _embed(directory, sentences())
        unfinished = cached.with_suffix(f".{os.getpid()}.npy")
        np.save(unfinished, vectors)
        unfinished.rename(cached)
    return np.asarray(np.load(cached))


def _embed(directory: Path, texts: list[str]) -> npt.NDArray[np.float32]:
    from memory_runtime.embedding.transformer import TransformerProvider
    from memory_runtime.embedding.weights import load_model

    print(f"embedding {len(texts)} sentences (a few minutes, once)", file=sys.stderr)
    model = load_model(directory, name="all-MiniLM-L6-v2", revision=None, dim=384)
    provider = TransformerProvider(model, timeout_seconds=600.0, cache_entries=0)
    try:
        return np.asarray(asyncio.run(provider.embed(texts)))
    finally:
        provider.close()
