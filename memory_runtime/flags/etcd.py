"""etcd 3 over its JSON gateway, by httpx: read, write, watch; TLS, users, time-outs, one endpoint after another.

httpx rather than a gRPC or a requests client: a watch is then a stream in the event loop that a deadline or a
cancellation ends, and no thread hangs on a server that has gone.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from memory_runtime.model.errors import Unavailable
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores.resilience import Failure, Guard, GuardPolicy, Retry, socket_failure
from memory_runtime.telemetry.backends import BackendMetrics

_GATEWAY: Final = "/v3"
_UNAUTHENTICATED: Final = 16
"""gRPC's code, which the gateway passes on: the token has run out."""


class Found(NamedTuple):
    """What stands under a prefix: texts by key without the prefix, as of a revision."""

    values: dict[str, str]
    revision: int


class Etcd:
    """A client of one etcd cluster. Belongs to the event loop that uses it."""

    def __init__(self, settings: SMFSettings, metrics: BackendMetrics | None = None) -> None:
        """Nothing connects before the first call. Raises SettingsError naming the setting."""
        self._endpoints = [_checked(endpoint) for endpoint in settings.etcd_endpoints]
        self._user = settings.etcd_username
        self._password = settings.etcd_password
        seconds = settings.etcd_timeout_seconds
        limits = httpx.Timeout(seconds)
        self._client = httpx.AsyncClient(verify=_tls(settings), timeout=limits, trust_env=False, follow_redirects=False)
        self._token: str | None = None
        policy = GuardPolicy(attempt_timeout=seconds, timeout=seconds * 2, places=8, seats=64)
        self._guard = Guard("etcd", policy, classify=_classify, metrics=metrics)

    async def close(self) -> None:
        """Ends the connections."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.aclose(), 1.0)

    async def read(self, prefix: str) -> Found:
        """Everything under the prefix, linearizably. Raises Unavailable, or Internal where etcd refuses."""
        body = {"key": _encoded(prefix), "range_end": _encoded(_after(prefix))}
        answer = await self._call("range", "/kv/range", body)
        values = {
            _decoded(pair["key"]).removeprefix(prefix): _decoded(pair.get("value", ""))
            for pair in answer.get("kvs", ())
        }
        return Found(values, int(answer["header"]["revision"]))

    async def put(self, key: str, value: str) -> None:
        """Sets a key. Idempotent."""
        await self._call("put", "/kv/put", {"key": _encoded(key), "value": _encoded(value)})

    async def delete(self, key: str) -> bool:
        """Removes a key; whether it was there."""
        answer = await self._call("delete", "/kv/deleterange", {"key": _encoded(key)})
        return int(answer.get("deleted", 0)) > 0

    async def watch(self, prefix: str, revision: int, *, idle: float) -> AsyncGenerator[int, None]:
        """The revisions at which something under the prefix changed, from `revision` on; the first is for being there.

        Ends after `idle` seconds without news: a connection that died silently must not look like quiet. Raises
        Unavailable when it breaks, or the revision has been compacted away.
        """
        create = {"key": _encoded(prefix), "range_end": _encoded(_after(prefix)), "start_revision": str(revision)}
        patience = httpx.Timeout(self._client.timeout.connect, read=idle)
        endpoint = self._endpoints[0]
        try:
            await self._authenticate(endpoint)
            async with self._client.stream(
                "POST",
                f"{endpoint}{_GATEWAY}/watch",
                json={"create_request": create},
                headers=self._headers(),
                timeout=patience,
            ) as response:
                response.raise_for_status()
                lines = response.aiter_lines()
                async with asyncio.timeout(self._client.timeout.read):  # that the watch stands is told at once
                    first = await anext(lines)
                yield _told(json.loads(first))
                async for line in lines:
                    if line.strip():
                        yield _told(json.loads(line))
                raise Unavailable("etcd: the watch ended", remedy="see whether etcd is up", retry_after=1.0)
        except httpx.ReadTimeout:
            return
        except (httpx.HTTPError, TimeoutError, StopAsyncIteration, ValueError, KeyError) as error:
            self._rotate(endpoint)
            raise Unavailable(
                f"etcd: the watch broke ({type(error).__name__})", remedy="see whether etcd is up", retry_after=1.0
            ) from error

    async def _call(self, operation: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Twice is as good as once for all that is called here."""

        async def attempt() -> dict[str, Any]:
            endpoint = self._endpoints[0]
            try:
                await self._authenticate(endpoint)
                response = await self._client.post(f"{endpoint}{_GATEWAY}{path}", json=body, headers=self._headers())
                if response.status_code == httpx.codes.UNAUTHORIZED:
                    self._token = None
                response.raise_for_status()
                answer: dict[str, Any] = response.json()
            except httpx.HTTPError:
                self._rotate(endpoint)
                raise
            return answer

        return await self._guard.run(operation, attempt, retry=Retry.SAFE)

    async def _authenticate(self, endpoint: str) -> None:
        if self._user is None or self._token is not None:
            return
        password = self._password.get_secret_value() if self._password else ""
        body = {"name": self._user, "password": password}
        response = await self._client.post(f"{endpoint}{_GATEWAY}/auth/authenticate", json=body)
        response.raise_for_status()
        self._token = response.json()["token"]

    def _headers(self) -> dict[str, str]:
        return {} if self._token is None else {"Authorization": self._token}

    def _rotate(self, failed: str) -> None:
        """The next call asks the next endpoint."""
        if self._endpoints[0] == failed:
            self._endpoints.append(self._endpoints.pop(0))


def _told(line: dict[str, Any]) -> int:
    result = line["result"]
    if result.get("canceled"):
        raise KeyError("canceled")  # compacted, or the right was taken away: read again, then watch from there
    return int(result["header"]["revision"])


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode("utf-8", "replace")


def _after(prefix: str) -> str:
    """The end of the range of all keys that begin so."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def _classify(error: Exception) -> Failure | None:
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        # the token may have run out: the repeat asks for a new one
        return Failure.AWAY if status >= httpx.codes.INTERNAL_SERVER_ERROR else _refusal(error.response)
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
        return Failure.UNSENT
    if isinstance(error, httpx.TransportError):
        return Failure.AWAY
    return socket_failure(error)


def _refusal(response: httpx.Response) -> Failure:
    return Failure.CONTENDED if response.status_code == httpx.codes.UNAUTHORIZED else Failure.REFUSED


def _checked(endpoint: str) -> str:
    url = httpx.URL(endpoint) if endpoint.startswith(("http://", "https://")) else None
    if url is None or not url.host or url.userinfo or url.path.strip("/"):
        raise SettingsError(
            "etcd_endpoints: each is http://HOST:PORT or https://HOST:PORT",
            setting="etcd_endpoints",
            remedy="write https://etcd.example:2379, and the user in SOMA_ETCD_USERNAME",
        )
    return endpoint.rstrip("/")


def _tls(settings: SMFSettings) -> ssl.SSLContext:
    """Certificates are always checked, and so is the name in them."""
    try:
        context = ssl.create_default_context(cafile=_text(settings.etcd_ca_cert))
    except (OSError, ssl.SSLError) as error:
        raise _unusable("etcd_ca_cert", settings.etcd_ca_cert, error) from None
    if settings.etcd_cert is not None:
        try:
            context.load_cert_chain(settings.etcd_cert, settings.etcd_key)
        except (OSError, ssl.SSLError) as error:
            raise _unusable("etcd_cert", settings.etcd_cert, error) from None
    return context


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _unusable(setting: str, path: Path | None, error: OSError) -> SettingsError:
    reason = error.strerror or "it holds no certificate, or the key is another's"
    return SettingsError(f"{setting}: cannot use {path}: {reason}", setting=setting, remedy="mount it there, in PEM")
