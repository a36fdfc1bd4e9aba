"""How fast texts become vectors: bulk throughput, latency of one question, load time and resident memory."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hack import model_weights
from memory_runtime.embedding import build_provider
from memory_runtime.settings import SMFSettings

ROOT = Path(__file__).resolve().parents[2]
WORDS_PER_TEXT = 24
QUESTION = "When did we decide to move the retention sweep to the night?"


def texts(count: int) -> list[str]:
    """`count` distinct texts of 24 words each from the project's own documents."""
    pages = [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md"]
    words = re.findall(r"\w[\w'-]*[,.;:]?", " ".join(page.read_text(encoding="utf-8") for page in pages))
    starts = np.linspace(0, max(1, len(words) - WORDS_PER_TEXT), count).astype(int).tolist()
    return [f"{n}. " + " ".join(words[start : start + WORDS_PER_TEXT]) for n, start in enumerate(starts)]


async def measure(kind: str, count: int) -> dict[str, Any]:
    """One row: texts/s in bulk (and CPU ms a text, which a busy machine changes less), p50 and p95 in ms of a question
    that no cache knows, load seconds, peak resident memory in MiB.
    """
    weights = model_weights.ensure() if kind == "transformer" else None
    settings = SMFSettings.model_validate(
        {"embedding_provider": kind, "model_dir": weights, "embedding_timeout_seconds": 120}
    )
    start = time.perf_counter()
    provider = build_provider(settings)
    loaded = time.perf_counter() - start
    await provider.embed(["warm up"])
    start, spent = time.perf_counter(), time.process_time()
    await provider.embed(texts(count))
    bulk, spent = time.perf_counter() - start, time.process_time() - spent
    times = []
    for n in range(100):
        start = time.perf_counter()
        await provider.embed([f"{QUESTION} {n}"])
        times.append(time.perf_counter() - start)
    provider.close()
    return {
        "provider": kind,
        "revision": provider.revision,
        "texts_per_s": round(count / bulk, 1),
        "cpu_ms_per_text": round(spent / count * 1e3, 2),
        "question_p50_ms": round(float(np.quantile(times, 0.5)) * 1e3, 2),
        "question_p95_ms": round(float(np.quantile(times, 0.95)) * 1e3, 2),
        "load_s": round(loaded, 2),
        "rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 2 where the weights cannot be had or a flag is wrong."""
    parser = argparse.ArgumentParser(prog="hack/bench/embedding", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--texts", type=int, default=512, help="texts of the bulk measurement")
    options = parser.parse_args(arguments)
    if options.texts < 1:
        parser.error("--texts: must be at least 1")
    try:
        # Hashing first: the resident memory of a process only grows.
        rows = [asyncio.run(measure(kind, options.texts)) for kind in ("hash", "transformer")]
    except model_weights.WeightsUnavailableError as error:
        print(f"hack/bench/embedding: {error}", file=sys.stderr)
        return 2
    for row in rows:
        print(json.dumps(row) if options.json else "  ".join(f"{key} {value}" for key, value in row.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
