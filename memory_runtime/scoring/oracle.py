"""The truth for tests and benchmarks: every visible row scored in float64, sorted, no index, no bound, no shortcut."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from memory_runtime.scoring.formula import effective_half_life, exact_dot, log_weight, static_log
from memory_runtime.scoring.params import UNSET, Profile, ScoringParams, Unset
from memory_runtime.scoring.ranking import Candidates, top_k
from memory_runtime.scoring.rows import Ids, Partition, RowBatch, ScoredRow, unit_rows

_CHUNK = 16384


def brute_force(
    rows: RowBatch,
    queries: npt.ArrayLike,
    *,
    params: ScoringParams,
    k: int,
    partition: Partition,
    now: float,
    as_of: float | None = None,
    types: Collection[int] | None = None,
    half_life: float | Unset | None = UNSET,
    only: Ids | None = None,
) -> list[list[ScoredRow]]:
    """The top k of each query (float [q, dim]) by the definition; the arguments are those of `ExactIndex.search`.

    `rows` holds the live rows, each id once. Vectors are taken as stored: round them first to ask about float16
    storage.
    """
    at = now if as_of is None else as_of
    live = rows.take(visible(rows, partition, at, hide_later=as_of is not None, types=types, only=only))
    unit = unit_rows(queries, rows.vectors.shape[1], "query")
    kinds, where = np.unique(live.memory_type, return_inverse=True)
    answers = []
    for query in unit:
        groups = []
        for index, kind in enumerate(kinds):
            profile = params.profile(partition.tenant, int(kind))
            groups.append(_candidates(live.take(where == index), query, profile, at, half_life))
        answers.append(top_k(groups, k, at))
    return answers


def visible(
    rows: RowBatch,
    partition: Partition,
    at: float,
    *,
    hide_later: bool,
    types: Collection[int] | None,
    only: Ids | None,
) -> npt.NDArray[np.bool_]:
    """Which rows a query may see: its partition, its types, not expired at `at`, and for `as_of` not later than it."""
    mask = (rows.tenant == partition.tenant) & (rows.namespace == partition.namespace) & (rows.expires_at > at)
    if hide_later:
        mask &= rows.event_time <= at
    if types is not None:
        mask &= np.isin(rows.memory_type, np.fromiter(types, np.int32, len(types)))
    if only is not None:
        wanted = {(int(high), int(low)) for high, low in only}
        mask &= np.fromiter(((int(high), int(low)) in wanted for high, low in rows.ids), bool, len(rows))
    return np.asarray(mask)


def _candidates(
    rows: RowBatch, query: npt.NDArray[np.float32], profile: Profile, at: float, half_life: float | Unset | None
) -> Candidates:
    seconds = effective_half_life(profile, half_life)
    key_half_life = None if seconds is None else seconds * profile.similarity_exponent
    static = static_log(rows.importance, rows.features, profile)
    weight = log_weight(static, np.minimum(rows.event_time, at), key_half_life)
    parts = [exact_dot(rows.vectors[start : start + _CHUNK], query) for start in range(0, len(rows), _CHUNK)]
    similarity = np.concatenate(parts) if parts else np.zeros(0)
    return Candidates(rows.ids, similarity, weight, key_half_life, profile.similarity_exponent)
