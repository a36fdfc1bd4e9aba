"""Recalls as the old routes ask for them: `top_k` 0 is allowed there, and finds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from starlette.requests import Request

from memory_runtime.engine import RecallRequest, RecallResult
from memory_runtime.surfaces.http.context import engine, scope


async def recalled(request: Request, wanted: RecallRequest) -> RecallResult:
    """The answer to one recall."""
    return _no_more(wanted, await engine(request).recall(scope(request), _at_least_one(wanted)))


async def all_recalled(request: Request, wanted: Sequence[RecallRequest]) -> list[RecallResult]:
    """The answers to several, in order."""
    results = await engine(request).recall_batch(scope(request), [_at_least_one(one) for one in wanted])
    return [_no_more(one, result) for one, result in zip(wanted, results, strict=True)]


def _at_least_one(wanted: RecallRequest) -> RecallRequest:
    # the engine knows no empty recall; all else that is wrong with the request is still said
    return wanted if wanted.top_k else replace(wanted, top_k=1)


def _no_more(wanted: RecallRequest, result: RecallResult) -> RecallResult:
    return result if wanted.top_k else replace(result, hits=(), suppressed=())
