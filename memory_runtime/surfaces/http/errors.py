"""Every error as the one body {detail, code, field, remedy}: ours, FastAPI's, Starlette's and the unforeseen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from memory_runtime.model.errors import Internal, SomaError


class ErrorBody(BaseModel):
    """What every error answers: what is wrong, its class, the field at fault and what to do about it."""

    detail: str = Field(examples=["coord: '1,x' is not a coordinate"])
    code: str = Field(examples=["INVALID_ARGUMENT"])
    field: str | None = Field(examples=["coord"])
    remedy: str | None = Field(examples=["write finite numbers separated by commas, such as 1,2,3"])


_BY_STATUS = {
    400: ("INVALID_ARGUMENT", "correct the request"),
    404: ("NOT_FOUND", "GET /openapi.json lists the routes"),
    405: ("METHOD_NOT_ALLOWED", "use a method of the Allow header"),
    413: ("PAYLOAD_TOO_LARGE", "send less at once"),
}


class BodyRefused(HTTPException):
    """Carries an error of ours through FastAPI's reading of the body, which lets nothing else pass unchanged."""

    def __init__(self, error: SomaError) -> None:
        super().__init__(error.status.http, error.message)
        self.error = error


def error_headers(error: SomaError) -> dict[str, str]:
    """The headers that belong to an error."""
    headers = {}
    if error.code == "DEADLINE_EXCEEDED":
        # Perhaps the body never came: whoever sends so slowly shall not keep the connection as well.
        headers["Connection"] = "close"
    if error.code == "UNAUTHENTICATED":
        headers["WWW-Authenticate"] = "Bearer"
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    return headers


def error_response(error: SomaError) -> JSONResponse:
    """The response to an error of ours."""
    return JSONResponse(error.body(), error.status.http, error_headers(error))


def unforeseen(request_id: str) -> Internal:
    """What a caller may know of a defect; the guard logs the rest under the same id."""
    return Internal("an internal error; it has been logged", remedy=f"report it with the request id {request_id}")


def _plain(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    code, remedy = _BY_STATUS.get(status, ("INVALID_ARGUMENT" if status < 500 else "INTERNAL", None))
    body = {"detail": detail, "code": code, "field": None, "remedy": remedy}
    return JSONResponse(body, status, dict(headers or {}))


def describe_validation(problem: Mapping[str, Any]) -> tuple[str, str | None, str]:
    """Message, field and remedy of one of pydantic's findings; never the input, which may be long or secret."""
    place = [str(part) for part in problem.get("loc", ()) if part not in {"body", "query", "path", "header"}]
    if problem.get("type") == "json_invalid":
        place = []
    field = ".".join(place) or None
    reason = str(problem.get("msg", "not valid")).removeprefix("Value error, ")
    if field is None and problem.get("type") == "missing":
        return "a JSON body is missing", None, "send a JSON object with the header Content-Type: application/json"
    if field is None and problem.get("type") in {"model_attributes_type", "dict_type"}:
        return "the body is not a JSON object", None, "send an object, with the header Content-Type: application/json"
    remedy = "add it" if problem.get("type") == "missing" else "correct it; GET /openapi.json describes it"
    return (f"{field}: {reason}" if field else reason), field, remedy


def install(app: FastAPI) -> None:
    """Registers the handlers that give every error the one body."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, SomaError)  # noqa: S101 -- narrows the type: registered for this class only
        return error_response(error)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        findings = error.errors()
        detail, field, remedy = describe_validation(findings[0] if findings else {})
        if len(findings) > 1:
            detail += f" (and {len(findings) - 1} more)"
        body = {"detail": detail, "code": "UNPROCESSABLE", "field": field, "remedy": remedy}
        return JSONResponse(body, 422)

    async def starlette(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101
        if isinstance(error, BodyRefused):
            return error_response(error.error)
        return _plain(error.status_code, str(error.detail), error.headers)

    async def defect(request: Request, _: Exception) -> JSONResponse:
        return error_response(unforeseen(request.state.request_id))

    app.add_exception_handler(Exception, defect)
    app.add_exception_handler(SomaError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, starlette)
