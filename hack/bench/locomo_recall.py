"""Evidence recall@10 on dated conversations, through the real engine: one memory a turn, no language model."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hack import model_weights
from hack.bench.locomo_data import BadDataError, Conversation, read_all
from memory_runtime.engine.build import build_engine
from memory_runtime.engine.engine import MemoryEngine
from memory_runtime.engine.types import RecallRequest
from memory_runtime.lexical import reciprocal_rank_fusion
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SMFSettings

ROOT = Path(__file__).resolve().parents[2]
TOP = 10
DEPTH = 100
SCOPE = Scope("bench", "locomo")
Answer = Callable[[MemoryEngine, str], Awaitable[Sequence[str]]]


async def _by_vector(engine: MemoryEngine, question: str, depth: int = TOP, *, hybrid: bool = False) -> list[str]:
    found = await engine.recall(SCOPE, RecallRequest(query=question, top_k=depth, hybrid=hybrid))
    return [hit.record.payload["turn"] for hit in found.hits]


async def _by_words(engine: MemoryEngine, question: str, depth: int = TOP) -> list[str]:
    found = await engine.keyword_search(SCOPE, question, exact=False, top_k=depth)
    return [record.payload["turn"] for record in found]


async def _by_ranks(engine: MemoryEngine, question: str) -> list[str]:
    rankings = [await _by_vector(engine, question, DEPTH), await _by_words(engine, question, DEPTH)]
    return list(reciprocal_rank_fusion(rankings))[:TOP]


async def _by_both(engine: MemoryEngine, question: str) -> list[str]:
    return await _by_vector(engine, question, hybrid=True)


METHODS: dict[str, tuple[str, Answer, str]] = {
    "vector": ("transformer", _by_vector, "cosine of MiniLM vectors"),
    "bm25": ("transformer", _by_words, "keyword search, any word"),
    "rrf": ("transformer", _by_ranks, "reciprocal rank fusion of the two"),
    "hybrid": ("transformer", _by_both, "hybrid recall: ours"),
    "vector_hash": ("hash", _by_vector, "cosine of the fallback's vectors"),
    "hybrid_hash": ("hash", _by_both, "hybrid recall over the fallback"),
}
"""Name → embedding provider, how it answers, and what it is."""


async def measure(conversation: Conversation, methods: Sequence[str]) -> list[dict[str, Any]]:
    """One row a method: recall@10 averaged over the questions, and the 95th percentile of their latency in ms."""
    rows: list[dict[str, Any]] = []
    for provider in dict.fromkeys(METHODS[name][0] for name in methods):
        with tempfile.TemporaryDirectory(prefix="soma-locomo-") as directory:
            engine = build_engine(_settings(directory, provider))
            await engine.start()
            try:
                await engine.store_bulk(SCOPE, list(_items(conversation)))
                chosen = [name for name in methods if METHODS[name][0] == provider]
                rows += [await _ask_all(engine, conversation, name) for name in chosen]
            finally:
                await engine.close()
    return sorted(rows, key=lambda row: methods.index(row["method"]))


def _settings(directory: str, provider: str) -> SMFSettings:
    weights = model_weights.ensure() if provider == "transformer" else None
    return SMFSettings.model_validate(
        {"data_dir": directory, "embedding_provider": provider, "model_dir": weights, "embedding_timeout_seconds": 120}
        | {"request_timeout_seconds": 600}
    )


def _items(conversation: Conversation) -> Iterator[StoreItem]:
    for turn in conversation.turns:
        payload = {"text": turn.text, "turn": turn.name}
        yield StoreItem((float(turn.session), float(turn.place), 0.0), payload, timestamp=turn.time)


async def _ask_all(engine: MemoryEngine, conversation: Conversation, method: str) -> dict[str, Any]:
    answer = METHODS[method][1]
    shares, times = [], []
    for question in conversation.questions:
        start = time.perf_counter()
        found = await answer(engine, question.text)
        times.append(time.perf_counter() - start)
        shares.append(len(question.evidence & set(found)) / len(question.evidence))
    return {
        "conversation": conversation.name,
        "method": method,
        "evidence_recall_at_10": round(float(np.mean(shares)), 4),
        "p95_ms": round(float(np.quantile(times, 0.95)) * 1e3, 2),
    }


def _mean(rows: Sequence[dict[str, Any]], method: str) -> dict[str, Any]:
    mine = [row for row in rows if row["method"] == method]
    means = {key: round(float(np.mean([row[key] for row in mine])), 4) for key in ("evidence_recall_at_10", "p95_ms")}
    return {"conversation": "mean", "method": method, **means}


def _show(rows: Sequence[dict[str, Any]], methods: Sequence[str]) -> None:
    names = list(dict.fromkeys(row["conversation"] for row in rows))
    cell = {(row["conversation"], row["method"]): row for row in rows}
    print("evidence recall@10".ljust(22) + "".join(name.rjust(10) for name in names) + "  p95 ms (mean)")
    for method in methods:
        values = "".join(f"{cell[name, method]['evidence_recall_at_10']:10.3f}" for name in names)
        print(method.ljust(22) + values + f"{cell['mean', method]['p95_ms']:10.1f}    {METHODS[method][2]}")


def _methods(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'none'}: choose from {', '.join(METHODS)}")
    return list(dict.fromkeys(names))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 2 where the data, the weights or a flag is wrong."""
    parser = argparse.ArgumentParser(prog="hack/bench/locomo", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "locomo", metavar="DIR")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--methods", type=_methods, default=list(METHODS), help=", ".join(METHODS))
    options = parser.parse_args(arguments)
    try:
        rows = _run(read_all(options.data), options.methods, as_json=options.json)
    except (BadDataError, model_weights.WeightsUnavailableError) as error:
        print(f"hack/bench/locomo: {error}", file=sys.stderr)
        return 2
    if not options.json:
        _show(rows, options.methods)
    return 0


def _run(conversations: Sequence[Conversation], methods: Sequence[str], *, as_json: bool) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for conversation in conversations:
        counts = f"{len(conversation.turns)} turns, {len(conversation.questions)} questions"
        print(f"hack/bench/locomo: conversation {conversation.name}: {counts}", file=sys.stderr)
        rows += _told(asyncio.run(measure(conversation, methods)), as_json=as_json)
    return rows + _told([_mean(rows, method) for method in methods], as_json=as_json)


def _told(rows: list[dict[str, Any]], *, as_json: bool) -> list[dict[str, Any]]:
    """Says each row as soon as it is known."""
    for row in rows if as_json else ():
        print(json.dumps(row), flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
