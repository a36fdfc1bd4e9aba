"""The exact index: rows in L-ordered segments and one fresh one, upserted, deleted, searched and merged.

One writer at a time (a lock), any number of readers (no lock: each takes a `View` and keeps it). A delete or an update
is a mark that carries the number of the write, so a reader that started earlier goes on seeing what it saw.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from memory_runtime.model.errors import InvalidArgument, NotFound
from memory_runtime.model.failpoints import reach
from memory_runtime.scoring import formula, merge, snapshot
from memory_runtime.scoring.draft import Draft
from memory_runtime.scoring.fresh import Fresh
from memory_runtime.scoring.params import UNSET, ScoringParams, Unset
from memory_runtime.scoring.rows import Ids, Partition, RowBatch, ScoredRow, as_ids, by_hash, last_of_each, unit_rows
from memory_runtime.scoring.search import Request, View, search
from memory_runtime.scoring.segment import Segment
from memory_runtime.scoring.stats import IndexStats, Usage, measure
from memory_runtime.scoring.training import Training

_SEGMENTS_AT_MOST: Final = 24


class ExactIndex:
    """Thread-safe for one writer and many readers; one per process. `clock` gives epoch seconds."""

    def __init__(self, dim: int, params: ScoringParams, clock: Callable[[], float] = time.time) -> None:
        if dim < 1:
            raise InvalidArgument("dim must be at least 1", field="dim", remedy="give the dimension of the vectors")
        self.dim = dim
        self._clock = clock
        self._lock = threading.RLock()
        self._merging = threading.Lock()
        self._saving = threading.Lock()
        self.header: Mapping[str, Any] = {}
        """What the snapshot that this was loaded from was given as its header."""
        self._names = itertools.count(1)
        # float16 keeps 11 bits: norms may be off by 2^-11, and every bound is inflated by the norm
        self._kind = np.float16 if params.vector_storage == "float16" else np.float32
        self._norm = 1.0 + (6e-4 if self._kind == np.float16 else 1e-6)
        self._training = Training(dim)
        self._rows = 0
        self._usage = Usage()
        fresh = Fresh(self._training.basis, len(params.feature_names), self._norm, self._kind)
        self._view = View((), (), fresh, fresh.table(), 0, 0, params)

    @property
    def params(self) -> ScoringParams:
        """What scores are computed with now."""
        return self._view.params

    def __len__(self) -> int:
        return self._rows

    # ---- writing ----

    def batch(
        self, ids: Iterable[bytes | uuid.UUID] | Ids, vectors: npt.ArrayLike, **columns: npt.ArrayLike | None
    ) -> RowBatch:
        """`RowBatch.of` with this index's dimension and features."""
        count = len(self.params.feature_names)
        return RowBatch.of(as_ids(ids), vectors, dim=self.dim, feature_count=count, **columns)  # type: ignore[arg-type]

    def upsert(self, rows: RowBatch) -> None:
        """Inserts, or replaces rows of the same id (the last of a repeated id wins); visible when this returns."""
        if rows.vectors.shape[1] != self.dim or rows.features.shape[1] != len(self.params.feature_names):
            raise InvalidArgument(
                "the rows were made for another index", field="vector", remedy="make them with index.batch"
            )
        if not len(rows):
            return
        rows = self._as_stored(last_of_each(rows))
        with self._lock:
            self._training.begin(rows.vectors)
            draft = self._draft()
            gone = draft.bury(*by_hash(rows.ids))
            draft.add(rows)
            self._rows += len(rows) - gone
            self._view = draft.view()
        while len(self._view.segments) > _SEGMENTS_AT_MOST and self.maintain():
            pass

    def delete(self, ids: Iterable[bytes | uuid.UUID] | Ids) -> int:
        """Removes these rows and says how many there were; invisible when this returns."""
        with self._lock:
            draft = self._draft()
            gone = draft.bury(*by_hash(as_ids(ids)))
            self._rows -= gone
            self._view = draft.view()
        return gone

    def _draft(self) -> Draft:
        return Draft(self._view, self._training.basis, self._norm, self._name)

    def _name(self) -> str:
        return f"segment-{next(self._names):06d}"

    def _as_stored(self, rows: RowBatch) -> RowBatch:
        if self._kind == np.float32:
            return rows
        return replace(rows, vectors=rows.vectors.astype(self._kind).astype(np.float32))

    # ---- snapshots ----

    def checkpoint(self) -> View:
        """Every row written so far, in segments: what `save` may write while the index goes on. At most the fresh rows
        are sorted for it.
        """
        with self._lock:
            if self._view.fresh_count:
                draft = self._draft()
                draft.seal()
                self._view = draft.view()
            return self._view

    def save(
        self,
        directory: Path,
        seq: int,
        *,
        header: Mapping[str, Any] | None = None,
        view: View | None = None,
        map_back: bool = False,
    ) -> None:
        """Writes a snapshot that stands for the ledger up to `seq`; only new segments are written, and nobody waits.

        `view` is a checkpoint taken earlier; `header` comes back with `load`. With `map_back` the segments are then
        mapped from the files, and their memory is given up: for stores that are larger than memory. The directory
        must stay, and writers wait.
        """
        with self._saving:
            if not map_back:
                self._write(directory, seq, header or {}, self.checkpoint() if view is None else view)
                return
            with self._merging, self._lock:
                self._write(directory, seq, header or {}, self.checkpoint())
                draft = self._draft()
                draft.segments = snapshot.load(directory, self.params, self.dim).segments
                self._view = draft.view()

    def _write(self, directory: Path, seq: int, header: Mapping[str, Any], view: View) -> None:
        dead = [np.flatnonzero(~merge.living(segment, view.epoch)) for segment in view.segments]
        snapshot.save(directory, view.segments, view.params, self.dim, seq, dead, header)

    @property
    def damaged(self) -> bool:
        """Whether mapped bytes were found to have changed on disk: rebuild from the ledger."""
        return any(segment.check is not None and segment.check.broken for segment in self._view.segments)

    @classmethod
    def load(
        cls, directory: Path, dim: int, params: ScoringParams, clock: Callable[[], float] = time.time
    ) -> tuple[ExactIndex, int]:
        """(index, ledger sequence that it stands for). Raises SnapshotUnusable: then rebuild from the ledger."""
        segments, seq, header = snapshot.load(directory, params, dim)
        index = cls(dim, params, clock)
        index.header = header
        index._training.adopt(segments)
        if segments:
            index._names = itertools.count(1 + max(int(segment.name.rpartition("-")[2]) for segment in segments))
        draft = index._draft()
        draft.segments = segments
        draft.fresh = Fresh(index._training.basis, len(params.feature_names), index._norm, index._kind)
        index._view = draft.view()
        index._rows = sum(int(np.count_nonzero(merge.living(segment, draft.epoch))) for segment in segments)
        return index, seq

    # ---- maintenance ----

    def maintain(self, *, quiet: bool = False) -> bool:
        """Does one merge, if one is due; searches and writes go on meanwhile. True if there may be more to do.

        `quiet`: nothing has been written for a while, so what spares searches work may be merged too.
        """
        with self._merging:
            view = self._view
            parts = merge.pick(view.segments) or (merge.pick_quiet(view.segments) if quiet else [])
            if not parts:
                return False
            self._merge(view, parts)
            return True

    def compact(self) -> None:
        """Merges everything into one segment: what a bulk load ends with. Writers wait, searches do not."""
        with self._merging, self._lock:
            draft = self._draft()
            draft.seal()
            self._view = draft.view()
            if self._view.segments:
                self._merge(self._view, list(self._view.segments))

    def _merge(self, view: View, parts: list[Segment]) -> None:
        basis = self._training.for_merge(parts)
        merged = merge.merge(self._name(), parts, view.epoch, view.params, basis, self._norm)
        reach("mid-merge")
        with self._lock:
            if self._view.params is not view.params:
                return  # the parameters changed meanwhile: everything was rebuilt
            draft = self._draft()
            draft.replace(parts, merged, view.epoch)
            self._view = draft.view()
            self._usage.merges += 1

    def set_params(self, params: ScoringParams) -> None:
        """Rebuilds every row's order under new parameters, then swaps; searches see the old one, writers wait."""
        if params.vector_storage != self.params.vector_storage or params.feature_names != self.params.feature_names:
            raise InvalidArgument(
                "feature_names and vector_storage are fixed when an index is made",
                field="feature_names",
                remedy="make a new index and store the rows again",
            )
        with self._merging, self._lock:
            view = self._view
            parts: list[Segment | Fresh] = [*view.segments, view.fresh]
            rebuilt = merge.merge(self._name(), parts, view.epoch, params, self._training.basis, self._norm)
            draft = self._draft()
            draft.params = params
            draft.segments = [rebuilt] if len(rebuilt) else []
            draft.fresh = Fresh(self._training.basis, len(params.feature_names), self._norm, self._kind)
            self._view = draft.view()

    def set_hot_tier(self, budget: float) -> None:
        """The bytes that `hot_tier_hit_ratio` is told for: the best rows' vectors, codes and columns that fit them."""
        row = self.dim * (np.dtype(self._kind).itemsize + 1) + 64
        self._usage.hot_rows = int(budget // row)

    def view(self) -> View:
        """What a search that began now would see; it stays as it is while the index goes on."""
        return self._view

    def live_rows(self) -> RowBatch:
        """A copy of every live row, in no particular order."""
        view = self._view
        return merge.gather([*view.segments, view.fresh], view.epoch)[0]

    def stats(self) -> IndexStats:
        """Counts, bytes, and what searches have cost since the start."""
        return measure(self._view, self._usage)

    # ---- reading ----

    def search(
        self,
        queries: npt.ArrayLike,
        *,
        top_k: int,
        partition: Partition,
        types: Collection[int] | None = None,
        now: float | None = None,
        as_of: float | None = None,
        half_life: float | Unset | None = UNSET,
        only: Iterable[bytes | uuid.UUID] | Ids | None = None,
        deadline: float | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> list[list[ScoredRow]]:
        """The exact top k of each query (float [q, dim]), best first, ties by id; never a row of another partition.

        `deadline` is in seconds of time.monotonic. Raises InvalidArgument, DeadlineExceeded, Cancelled.
        """
        if top_k < 1:
            raise InvalidArgument("top_k must be at least 1", field="top_k", remedy="ask for one or more")
        view = self._view
        request = Request(
            queries=unit_rows(queries, self.dim, "query"),
            k=min(top_k, max(1, self._rows)),
            partition=partition,
            types=None if types is None else frozenset(types),
            at=self._moment(now, as_of),
            hide_later=as_of is not None,
            half_life=formula.checked_override(half_life),
            only=None if only is None else by_hash(as_ids(only))[0],
            deadline=deadline,
            cancelled=cancelled,
        )
        answers, scanned = search(view, request)
        self._usage.add(len(answers), scanned, self._rows)
        return answers

    def explain(
        self,
        row: bytes | uuid.UUID,
        query: npt.ArrayLike,
        *,
        now: float | None = None,
        as_of: float | None = None,
        half_life: float | Unset | None = UNSET,
    ) -> formula.Explanation:
        """Every factor of one live row's score. Raises NotFound."""
        one, segment = self._row(as_ids([row]))
        profile = self.params.profile(int(one.tenant[0]), int(one.memory_type[0]))
        return formula.explain(
            similarity=float(formula.exact_dot(one.vectors, unit_rows(query, self.dim, "query")[0])[0]),
            importance=float(one.importance[0]),
            features=one.features[0],
            feature_names=self.params.feature_names,
            event_time=float(one.event_time[0]),
            at=self._moment(now, as_of),
            profile=profile,
            half_life=formula.effective_half_life(profile, half_life),
            segment=segment,
        )

    def _moment(self, now: float | None, as_of: float | None) -> float:
        at = as_of if as_of is not None else self._clock() if now is None else now
        if not np.isfinite(at):
            raise InvalidArgument("as_of must be a finite time", field="as_of", remedy="give seconds since 1970")
        return float(at)

    def _row(self, ids: Ids) -> tuple[RowBatch, str]:
        view = self._view
        parts: list[Segment | Fresh] = [*view.segments, view.fresh]
        for part in parts:
            found = part.find(ids, view.epoch)
            if found[0] >= 0:
                return part.batch(found), part.name
        raise NotFound("no such row in the index", field="id", remedy="it may have been deleted")
