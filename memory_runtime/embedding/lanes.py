"""A thread that embeds what waits in its queue, together: texts of concurrent callers share one pass over the
weights.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from memory_runtime.embedding.contract import Vectors
from memory_runtime.model.errors import Unavailable
from memory_runtime.model.threads import raisable


@dataclass(slots=True)
class _Job:
    texts: Sequence[str]
    future: Future[Vectors]


class Lane:
    """One worker thread. What arrives while it works is taken as one batch next, in the order of arrival."""

    def __init__(self, name: str, encode: Callable[[Sequence[str]], Vectors], batch: int) -> None:
        self._encode = encode
        self._batch = batch
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, texts: Sequence[str]) -> Future[Vectors]:
        """The vectors of 1 to `batch` texts, in the future; cancelling it before its turn costs nothing."""
        job = _Job(texts, Future())
        if self._closed:
            job.future.set_exception(_closed())
        else:
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Refuses what still waits, and ends the thread after the batch in hand."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while (first := self._jobs.get()) is not None and not self._closed:
            jobs, stop = self._gather(first)
            self._work([job for job in jobs if job.future.set_running_or_notify_cancel()])
            if stop:
                first = None
                break
        self._refuse(first)

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        jobs, size = [first], len(first.texts)
        while size < self._batch:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return jobs, True
            jobs.append(job)
            size += len(job.texts)
        return jobs, False

    def _work(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        try:
            vectors = self._encode([text for job in jobs for text in job.texts])
        except BaseException as error:  # the thread must outlive any failure; every caller is told of it
            for job in jobs:
                job.future.set_exception(raisable(error))
            return
        start = 0
        for job in jobs:
            job.future.set_result(vectors[start : start + len(job.texts)])
            start += len(job.texts)

    def _refuse(self, job: _Job | None) -> None:
        while True:
            if job is not None and job.future.set_running_or_notify_cancel():
                job.future.set_exception(_closed())
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return


def _closed() -> Unavailable:
    return Unavailable("embedding: the service is stopping", remedy="try again once it has restarted")
