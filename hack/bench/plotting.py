"""The picture of docs/scoring.md: latency against half-life, and the recall that re-scoring loses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def plot(results: Sequence[dict[str, Any]], path: str) -> None:
    """Draws results of several half-lives and methods into `path` (its suffix chooses the format)."""
    import matplotlib as mpl

    mpl.use("Agg")
    # A fixed salt and no date: the same results give the same bytes
    mpl.rcParams["svg.hashsalt"] = "soma"
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    labels: list[float | None] = list(dict.fromkeys(result["half_life_days"] for result in results))
    for method in dict.fromkeys(result["method"] for result in results):
        mine = [result for result in results if result["method"] == method]
        at = [labels.index(result["half_life_days"]) for result in mine]
        left.plot(at, [result["p50_ms"] for result in mine], marker="o", label=f"{method} p50")
        if method in ("exact", "faiss_flat"):
            left.plot(at, [result["p95_ms"] for result in mine], marker=".", linestyle=":", label=f"{method} p95")
        right.plot(at, [100 * result["recall_at_10"] for result in mine], marker="o", label=method)
    for axes, title, unit in ((left, "one query", "ms"), (right, "true top ten found", "%")):
        axes.set_xticks(range(len(labels)), ["none" if days is None else f"{days:g} d" for days in labels])
        axes.set_xlabel("half-life")
        axes.set_ylabel(unit)
        axes.set_title(title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    left.set_yscale("log")
    rows = results[0]["rows"] if results else 0
    figure.suptitle(f"{rows:,} memories over 180 days")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.endswith(".svg") else None)
