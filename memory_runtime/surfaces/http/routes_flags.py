"""Feature flags: what is in force and why; set and removed for the whole fleet. Same token as all routes."""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.requests import Request

from memory_runtime.flags import FlagState
from memory_runtime.surfaces.http import requests as bodies
from memory_runtime.surfaces.http import responses as answers
from memory_runtime.surfaces.http.context import service
from memory_runtime.surfaces.http.rendering import answer

router = APIRouter(prefix="/flags", tags=["administration"])
log = logging.getLogger(__name__)

FlagName = Annotated[str, Path(max_length=256, description="A name from GET /flags.")]


class FlagBody(BaseModel):
    """A flag's new value, as its setting takes it."""

    value: bool | bodies.Number | Annotated[str, Field(max_length=256)]


def shown(state: FlagState) -> answers.Json:
    """A flag as JSON, without the words that never change."""
    told = state._asdict()
    del told["text"]
    if told["problem"] is None:
        del told["problem"]
    return told


@router.get("", response_model=answers.Open)
async def flags(request: Request) -> Response:
    """Every flag: value, default, source (etcd, redis, default), age in seconds, and what it does."""
    return answer({"flags": [state._asdict() for state in service(request).flags.states()]})


@router.post("/refresh", response_model=answers.Open)
async def refresh(request: Request) -> Response:
    """Reads the flags again now."""
    await service(request).flags.refresh()
    return await flags(request)


@router.get("/{flag}", response_model=answers.Open)
async def get_flag(request: Request, flag: FlagName) -> Response:
    """One flag."""
    return answer(service(request).flags.state(flag)._asdict())


@router.put("/{flag}", response_model=answers.Open)
async def set_flag(request: Request, flag: FlagName, body: FlagBody) -> Response:
    """Sets a flag for every process of the fleet; this one has it when answered."""
    state = await service(request).flags.set(flag, body.value)
    log.info("flag %s set", flag, extra={"flag": flag, "value": body.value})
    return answer(state._asdict())


@router.delete("/{flag}", response_model=answers.Open)
async def unset_flag(request: Request, flag: FlagName) -> Response:
    """Removes a flag: its default is in force again in every process."""
    state = await service(request).flags.unset(flag)
    log.info("flag %s unset", flag, extra={"flag": flag})
    return answer(state._asdict())
