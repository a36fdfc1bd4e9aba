"""qdrant-client's local mode behind the part of Qdrant's REST protocol that our adapter speaks.

Qdrant itself comes from no package registry, so without `SOMA_TEST_QDRANT_URL` the adapter's transport (time-outs,
API key, TLS, broken connections) is tested against this process: its engine is the client's own, its wire is real.
What only a server has (gRPC, snapshots, shards, quantisation) it does not claim to have.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from qdrant_client import AsyncQdrantClient, models

from hack.services.service import Service, free_port

VERSION = "1.18.0"
"""The version whose protocol is spoken."""


def _json(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True)
    return [_json(one) for one in value] if isinstance(value, list) else value


def _answer(value: Any) -> JSONResponse:
    return JSONResponse({"result": _json(value), "status": "ok", "time": 0.0})


def application(key: str | None, client: AsyncQdrantClient) -> FastAPI:
    """The protocol's subset over a client in local mode."""
    app = FastAPI()

    @app.middleware("http")
    async def _with_key(request: Request, call_next: Any) -> Any:
        if key is not None and request.headers.get("api-key") != key:
            return JSONResponse({"status": {"error": "Invalid API key"}}, status_code=401)
        try:
            return await call_next(request)
        except ValueError as error:
            status = 404 if "not found" in str(error) else 400
            return JSONResponse({"status": {"error": str(error)}}, status_code=status)

    @app.get("/")
    async def _version() -> dict[str, str]:
        return {"title": "qdrant - vector search engine", "version": VERSION}

    _collections(app, client)
    _points(app, client)
    return app


def _collections(app: FastAPI, client: AsyncQdrantClient) -> None:
    at = "/collections/{name}"

    @app.get(f"{at}/exists")
    async def _exists(name: str) -> JSONResponse:
        return _answer({"exists": await client.collection_exists(name)})

    @app.get(at)
    async def _info(name: str) -> JSONResponse:
        return _answer(await client.get_collection(name))

    @app.put(at)
    async def _create(name: str, request: Request) -> JSONResponse:
        body = models.CreateCollection.model_validate(await request.json())
        given = {field: getattr(body, field) for field in body.model_fields_set - {"vectors"}}
        return _answer(await client.create_collection(name, vectors_config=body.vectors, **given))

    @app.delete(at)
    async def _drop(name: str) -> JSONResponse:
        return _answer(await client.delete_collection(name))

    @app.put(f"{at}/index")
    async def _index(name: str) -> JSONResponse:
        await client.get_collection(name)
        return _answer(models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED))


def _points(app: FastAPI, client: AsyncQdrantClient) -> None:
    at = "/collections/{name}/points"

    @app.put(at)
    async def _upsert(name: str, request: Request) -> JSONResponse:
        body = models.PointsList.model_validate(await request.json())
        return _answer(await client.upsert(name, body.points, update_filter=body.update_filter))

    @app.post(f"{at}/batch")
    async def _batch(name: str, request: Request) -> JSONResponse:
        body = models.UpdateOperations.model_validate(await request.json())
        return _answer(await client.batch_update_points(name, body.operations))

    @app.post(at)
    async def _retrieve(name: str, request: Request) -> JSONResponse:
        body = models.PointRequest.model_validate(await request.json())
        return _answer(await client.retrieve(name, body.ids, with_payload=body.with_payload or False))

    @app.post(f"{at}/query/batch")
    async def _query(name: str, request: Request) -> JSONResponse:
        body = models.QueryRequestBatch.model_validate(await request.json())
        plain = [one.model_copy(update={"params": None}) for one in body.searches]
        return _answer(await client.query_batch_points(name, plain))

    @app.post(f"{at}/count")
    async def _count(name: str, request: Request) -> JSONResponse:
        body = models.CountRequest.model_validate(await request.json())
        return _answer(await client.count(name, count_filter=body.filter))

    @app.post(f"{at}/scroll")
    async def _scroll(name: str, request: Request) -> JSONResponse:
        body = models.ScrollRequest.model_validate(await request.json())
        records, after = await client.scroll(
            name, body.filter, limit=body.limit or 10, offset=body.offset, with_payload=body.with_payload or False
        )
        return _answer({"points": _json(records), "next_page_offset": after})

    @app.post(f"{at}/delete")
    async def _delete(name: str, request: Request) -> JSONResponse:
        body = await request.json()
        kind = models.PointIdsList if "points" in body else models.FilterSelector
        return _answer(await client.delete(name, kind.model_validate(body)))


def _ready(url: str, key: str | None, ca: Path | None) -> bool:
    try:
        trust = ssl.create_default_context(cafile=ca) if ca else False
        return httpx.get(url, headers={"api-key": key or ""}, verify=trust, timeout=2).is_success
    except httpx.HTTPError:
        return False


def start_qdrant_rest(
    directory: Path, *, key: str | None = None, certificate: tuple[Path, Path, Path] | None = None
) -> Service:
    """Start it with no data, in memory; `certificate` is (CA, certificate, private key) for TLS.

    Raises:
        ServiceError: when it does not start.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    ca, *pair = certificate or (None,)
    url = f"{'https' if ca else 'http'}://127.0.0.1:{port}"
    more = [] if key is None else ["--api-key", key]
    more += ["--cert", str(pair[0]), "--key", str(pair[1])] if pair else []
    return Service(
        name="qdrant-rest",
        url=url,
        command=[sys.executable, "-m", "hack.services.qdrant_rest", "--port", str(port), *more],
        log=directory / "qdrant-rest.log",
        ready=lambda: _ready(url, key, ca),
    ).start()


async def _serve(options: argparse.Namespace) -> None:
    app = application(options.api_key, AsyncQdrantClient(":memory:"))
    more = {"ssl_certfile": options.cert, "ssl_keyfile": options.key} if options.cert else {}
    await uvicorn.Server(uvicorn.Config(app, "127.0.0.1", options.port, log_level="warning", **more)).serve()


def main() -> int:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m hack.services.qdrant_rest", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api-key")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    asyncio.run(_serve(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
