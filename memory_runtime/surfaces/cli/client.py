"""A small HTTP client on the standard library: one kept connection, the token from where the options say."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import time
import urllib.parse
from pathlib import Path
from typing import Any

from memory_runtime.surfaces.cli.results import EXIT_FAILED, EXIT_UNREACHABLE, EXIT_USAGE, CommandFailed

DEFAULT_URL = "http://127.0.0.1:9595"
TIMEOUT_SECONDS = 60.0
MOST_TRIES = 5


def find_token(arguments: argparse.Namespace) -> str | None:
    """The token: --token, --token-file, SOMA_API_TOKEN_FILE, SOMA_API_TOKEN, else that of a local data directory.

    Raises CommandFailed when a named file cannot be read.
    """
    if arguments.token:
        return str(arguments.token)
    named = arguments.token_file or os.environ.get("SOMA_API_TOKEN_FILE")
    if not named and os.environ.get("SOMA_API_TOKEN"):
        return os.environ["SOMA_API_TOKEN"].strip()
    path = Path(named) if named else Path(os.environ.get("SOMA_DATA_DIR", "soma-data")) / "api-token"
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        if not named:
            return None
        raise CommandFailed(f"cannot read the token file {path}: {error}; correct --token-file", EXIT_USAGE) from None


class Refused(CommandFailed):
    """The server answered with an error, which says its status and, where it can, the field and the remedy."""

    def __init__(self, status: int, answer: Any) -> None:
        super().__init__(_words(status, answer), EXIT_FAILED)
        said = answer if isinstance(answer, dict) and isinstance(answer.get("detail"), str) else {}
        self.status = status
        self.detail = str(said.get("detail") or f"the server answered {status}")
        self.field = str(said.get("field") or "")
        self.remedy = str(said.get("remedy") or "")


class Client:
    """Talks to one server. Retries what the server asks to try again, as every request here is safe to repeat."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        url = urllib.parse.urlsplit(arguments.url or os.environ.get("SOMA_URL") or DEFAULT_URL)
        if url.scheme not in {"http", "https"} or not url.hostname:
            raise CommandFailed("--url: expected http://HOST:PORT or https://HOST:PORT", EXIT_USAGE)
        self._place = f"{url.scheme}://{url.netloc.rpartition('@')[2]}"
        self._prefix = url.path.rstrip("/")
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        try:
            self._connection = kind(url.hostname, url.port, timeout=TIMEOUT_SECONDS)
        except ValueError as error:
            raise CommandFailed(f"--url: {error}", EXIT_USAGE) from None
        self._headers: dict[str, str | bytes] = {"Content-Type": "application/json", "Accept": "application/json"}
        token = find_token(arguments)
        if token:
            self._headers["Authorization"] = _utf8(f"Bearer {token}", "the token")
        for header, value in (("X-Soma-Tenant", arguments.tenant), ("X-Soma-Namespace", arguments.namespace)):
            if value:
                self._headers[header] = _utf8(value, header)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON that GET answers; None values are left out of the query."""
        given = {key: value for key, value in query.items() if value is not None}
        return self.request("GET", f"{path}?{urllib.parse.urlencode(given)}" if given else path)

    def post(self, path: str, body: Any) -> Any:
        """The JSON that POST answers."""
        return self.request("POST", path, body)

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a 2xx answer. Raises Refused with the server's words for any other."""
        for attempt in range(1, MOST_TRIES + 1):
            status, headers, answer = self._once(method, path, body)
            if status < 300:
                return answer
            if status in {429, 503} and attempt < MOST_TRIES and headers.get("Retry-After"):
                time.sleep(min(30.0, float(headers["Retry-After"])))
                continue
            break
        raise Refused(status, answer)

    def _once(self, method: str, path: str, body: Any) -> tuple[int, Any, Any]:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        try:
            try:
                response = self._send(method, path, data)
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # The server may have closed an idle connection; a fresh one tells whether it is there.
                self._connection.close()
                response = self._send(method, path, data)
            raw = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            message = f"cannot reach {self._place}: {reason}; is `soma serve` running, and is --url right?"
            raise CommandFailed(message, EXIT_UNREACHABLE) from None
        try:
            return response.status, response.headers, json.loads(raw) if raw else None
        except ValueError:
            return response.status, response.headers, raw.decode("utf-8", "replace")[:200]

    def _send(self, method: str, path: str, data: bytes | None) -> http.client.HTTPResponse:
        try:
            self._connection.request(method, self._prefix + path, body=data, headers=self._headers)
        except (ValueError, UnicodeEncodeError):
            raise CommandFailed("a header or the path holds characters that HTTP cannot carry", EXIT_USAGE) from None
        return self._connection.getresponse()


def delete_at(client: Client, coord: str, memory_type: str | None = None) -> bool:
    query = f"?memory_type={urllib.parse.quote(memory_type)}" if memory_type else ""
    path = f"/memories/{urllib.parse.quote(coord, safe=',')}{query}"
    return bool(client.request("DELETE", path)["deleted"])


def _words(status: int, answer: Any) -> str:
    if isinstance(answer, dict) and isinstance(answer.get("detail"), str):
        remedy = answer.get("remedy")
        return f"{answer['detail']}; {remedy}" if remedy else str(answer["detail"])
    return f"the server answered {status}; is --url that of a soma server?"


def _utf8(text: str, what: str) -> bytes:
    """A header's bytes as the server reads them: the standard library would send Latin-1, or refuse."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise CommandFailed(f"{what} is not UTF-8 text; correct it, or the terminal's locale", EXIT_USAGE) from None
