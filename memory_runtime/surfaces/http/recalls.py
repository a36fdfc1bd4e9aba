"""Recalls as clients ask for them: `top_k` 0 finds nothing, and one above the bound is answered with the bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from starlette.requests import Request

from memory_runtime.engine import RecallRequest, RecallResult
from memory_runtime.surfaces.http.context import engine, scope


async def recalled(request: Request, wanted: RecallRequest) -> RecallResult:
    """The answer to one recall."""
    return _no_more(wanted, await engine(request).recall(scope(request), _answerable(request, wanted)))


async def all_recalled(request: Request, wanted: Sequence[RecallRequest]) -> list[RecallResult]:
    """The answers to several, in order."""
    results = await engine(request).recall_batch(scope(request), [_answerable(request, one) for one in wanted])
    return [_no_more(one, result) for one, result in zip(wanted, results, strict=True)]


def most(request: Request, top_k: int) -> int:
    """`top_k`, or the bound where it is more; then the answer says so in the header X-Soma-Top-K.

    The clients of the service that this one replaces ask for more than they will get, and take an error for "nothing".
    """
    bound = engine(request).settings.top_k_max
    if top_k > bound:
        request.scope["state"].setdefault("answer_headers", {})["X-Soma-Top-K"] = str(bound)
    return min(top_k, bound)


def _answerable(request: Request, wanted: RecallRequest) -> RecallRequest:
    # the engine knows no empty recall; all else that is wrong with the request is still said
    top_k = max(1, most(request, wanted.top_k))
    return wanted if wanted.top_k == top_k else replace(wanted, top_k=top_k)


def _no_more(wanted: RecallRequest, result: RecallResult) -> RecallResult:
    return result if wanted.top_k else replace(result, hits=(), suppressed=())
