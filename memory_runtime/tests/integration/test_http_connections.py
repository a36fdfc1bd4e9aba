"""Connections that say nothing, say it slowly, or say what is not HTTP: each ends in time, in the one error body."""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from memory_runtime.surfaces.consumer_probes import Vitals, serve_probes
from memory_runtime.surfaces.http import connections, wire
from memory_runtime.tests.integration.conftest import Server

pytestmark = pytest.mark.integration

BODY = {"detail", "code", "field", "remedy"}
MARGIN = 20.0
"""What a busy machine may add to a time-out."""


def opened(port: int, sent: bytes = b"") -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=60)
    one.sendall(sent)
    return one


def answered(port: int, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to raw bytes; the connection must end afterwards."""
    with opened(port) as one:
        sender = threading.Thread(target=_send, args=(one, sent), daemon=True)
        sender.start()
        raw = b""
        while part := one.recv(65536):
            raw += part
        sender.join(10)
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, body


def _send(one: socket.socket, sent: bytes) -> None:
    try:
        one.sendall(sent)
    except OSError:
        return


CLOSE = b"Host: a\r\nConnection: close\r\n"
LONG = b"a" * 200_000
MALFORMED: list[tuple[bytes, int, str]] = [
    (b"GET /" + LONG + b" HTTP/1.1\r\n" + CLOSE + b"\r\n", 414, "URI_TOO_LONG"),
    (b"GET /livez?q=" + LONG + b" HTTP/1.1\r\n" + CLOSE + b"\r\n", 414, "URI_TOO_LONG"),
    (b"GET /" + b"a" * 50_000 + b" HTTP/1.1\r\n" + CLOSE + b"\r\n", 414, "URI_TOO_LONG"),
    (b"GET /livez HTTP/1.1\r\nX-Long: " + LONG + b"\r\n" + CLOSE + b"\r\n", 431, "HEADERS_TOO_LARGE"),
    (b"GET /livez HTTP/1.1\r\nX-Long: " + b"a" * 17_000 + b"\r\n" + CLOSE + b"\r\n", 431, "HEADERS_TOO_LARGE"),
    (b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 300 + CLOSE + b"\r\n", 431, "HEADERS_TOO_LARGE"),
    (b"G\xe9T / HTTP/1.1\r\n" + CLOSE + b"\r\n", 400, "INVALID_ARGUMENT"),
    (b"nonsense\r\n\r\n", 400, "INVALID_ARGUMENT"),
    (b"GET /\xe9 HTTP/1.1\r\n" + CLOSE + b"\r\n", 400, "INVALID_ARGUMENT"),
    (b"GET /livez HTTP/1.1\r\n\r\n", 400, "INVALID_ARGUMENT"),
    (b"GET /livez HTTP/1.1\r\nX: a\x00b\r\n" + CLOSE + b"\r\n", 400, "INVALID_ARGUMENT"),
    (b"GET /livez HTTP/1.1\r\nX y: b\r\n" + CLOSE + b"\r\n", 400, "INVALID_ARGUMENT"),
    (b"POST /store HTTP/1.1\r\nContent-Length: -1\r\n" + CLOSE + b"\r\n", 400, "INVALID_ARGUMENT"),
    (b"POST /store HTTP/1.1\r\nContent-Length: 1e3\r\n" + CLOSE + b"\r\n", 400, "INVALID_ARGUMENT"),
    (b"POST /store HTTP/1.1\r\nContent-Length: " + b"9" * 40 + b"\r\n" + CLOSE + b"\r\n", 400, "INVALID_ARGUMENT"),
    (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n" + CLOSE + b"\r\n", 400, "INVALID_ARGUMENT"),
    (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n" + CLOSE + b"\r\n0\r\n\r\n", 400, ""),
    (b"POST /store HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" + CLOSE + b"\r\n", 501, "NOT_IMPLEMENTED"),
    (b"PRI * HTTP/2.0\r\nConnection: close\r\n\r\n", 505, "HTTP_VERSION_NOT_SUPPORTED"),
    (b"GET /livez HTTP/3.0\r\n" + CLOSE + b"\r\n", 505, "HTTP_VERSION_NOT_SUPPORTED"),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, 400, "INVALID_ARGUMENT"),
]


def one_body(answer: tuple[int, dict[str, str], bytes], status: int, code: str) -> None:
    assert answer[0] == status, answer
    assert answer[1]["content-type"] == "application/json"
    assert answer[1]["x-request-id"]
    found = json.loads(answer[2])
    assert found.keys() == BODY
    assert found["detail"]
    assert found["remedy"]
    assert not code or found["code"] == code


@pytest.mark.parametrize(("sent", "status", "code"), MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_http_is_answered_in_the_one_body(server: Server, sent: bytes, status: int, code: str) -> None:
    one_body(answered(server.http_port, sent), status, code)


@pytest.mark.parametrize("chunk", [b"zz\r\n", b"5\r\nabcdeXX\r\n", b"-1\r\n", b"f" * 30 + b"\r\n"], ids=range(4))
def test_a_body_that_breaks_off_into_nonsense_is_answered_in_the_one_body(server: Server, chunk: bytes) -> None:
    head = (
        f"POST /store HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    one_body(answered(server.http_port, head.encode() + chunk), 400, "INVALID_ARGUMENT")


def test_nothing_of_it_is_a_warning_in_the_log(server: Server) -> None:
    assert not [line for line in server.log_lines() if line["level"] in {"WARNING", "ERROR"} and "HTTP" in str(line)]


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /livez HTTP/1.0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nConnection: upgrade, close\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nConnection: upgrade, close\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
    ],
    ids=["http-1.0", "h2c", "websocket"],
)
def test_old_clients_and_attempts_to_upgrade_are_served_as_plain_http(server: Server, sent: bytes) -> None:
    status, _, body = answered(server.http_port, sent)
    assert (status, json.loads(body)) == (200, {"status": "ok"})


SILENT: list[bytes] = [
    b"",
    b"G",
    b"GET /livez HTTP/1.1\r\n",
    b"GET /livez HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1000,
    b"POST /store HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{",
]


def test_silent_and_half_sent_connections_are_closed_and_probes_are_answered_meanwhile(server: Server) -> None:
    began = time.monotonic()
    crowd = [opened(server.http_port, SILENT[number % len(SILENT)]) for number in range(900)]
    with httpx.Client(base_url=server.url, timeout=10.0) as probe:
        assert {probe.get(path).status_code for path in ("/livez", "/readyz", "/metrics") for _ in range(5)} == {200}
    assert ends(crowd) == len(crowd)
    assert time.monotonic() - began < connections.HEADER_SECONDS + MARGIN


def ends(crowd: list[socket.socket]) -> int:
    """How many connections the server ends, within a minute."""
    over = 0
    with selectors.DefaultSelector() as waiting:
        for one in crowd:
            one.setblocking(False)
            waiting.register(one, selectors.EVENT_READ)
        deadline = time.monotonic() + 60
        while waiting.get_map() and time.monotonic() < deadline:
            for key, _ in waiting.select(1.0):
                if not _more(key.fileobj):  # type: ignore[arg-type]
                    waiting.unregister(key.fileobj)
                    over += 1
    for one in crowd:
        one.close()
    return over


def _more(one: socket.socket) -> bool:
    try:
        return bool(one.recv(65536))
    except BlockingIOError:
        return True
    except OSError:
        return False


def test_a_request_sent_drop_by_drop_is_ended_with_a_408(server: Server) -> None:
    with opened(server.http_port, b"GET /livez HTTP/1.1\r\n") as one:
        one.settimeout(0.5)
        raw, began = b"", time.monotonic()
        while b"\r\n\r\n" not in raw:
            assert time.monotonic() - began < connections.HEADER_SECONDS + MARGIN
            try:
                one.sendall(b"X: y\r\n")
                raw += one.recv(65536)
            except TimeoutError:
                continue
        assert raw.startswith(b"HTTP/1.1 408")
        assert json.loads(raw.partition(b"\r\n\r\n")[2])["code"] == "REQUEST_TIMEOUT"


def test_when_all_places_are_taken_the_one_silent_for_longest_makes_room(server: Server) -> None:
    crowd = [opened(server.http_port) for _ in range(connections.MOST_CONNECTIONS + 50)]
    with server.client() as client:
        for _ in range(5):
            assert client.get("/readyz").status_code == 200
            assert client.get("/stats").status_code == 200
    first = [one for one in crowd[:50] if _closed(one)]
    assert len(first) >= 40, "those who were there first made room"
    for one in crowd:
        one.close()


def _closed(one: socket.socket) -> bool:
    one.settimeout(2.0)
    try:
        return not one.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.fixture
def probe_port() -> Iterator[int]:
    """The consumer's own server of probes."""
    vitals = Vitals()
    vitals.ready = True
    running = serve_probes(0, vitals, None)
    yield running.server_port
    running.shutdown()
    running.server_close()


def test_a_consumers_probes_are_guarded_alike(probe_port: int) -> None:
    crowd = [opened(probe_port, SILENT[number % 4]) for number in range(300)]
    for _ in range(5):
        assert answered(probe_port, b"GET /readyz HTTP/1.1\r\n" + CLOSE + b"\r\n")[0] == 200
    assert ends(crowd) == len(crowd)
    for sent, status, code in (*MALFORMED[:4], *MALFORMED[6:8]):
        one_body(answered(probe_port, sent), status, code)
    one_body(answered(probe_port, b"GET /else HTTP/1.1\r\n" + CLOSE + b"\r\n"), 404, "NOT_FOUND")


def test_who_does_not_read_the_answer_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen MiB that the other end never reads: the kernel takes in a part, the rest must not stay for ever."""
    import asyncio

    import uvicorn

    monkeypatch.setattr(connections, "READING_SECONDS", 0.3)
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.3)

    async def app(scope: object, receive: object, send: Callable[..., object]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[misc]
        await send({"type": "http.response.body", "body": b"x" * (16 << 20)})  # type: ignore[misc]

    async def run() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        protocol = connections.timed_protocol(lambda _: None)
        config = uvicorn.Config(app, http=protocol, lifespan="off", log_config=None, ws="none")  # type: ignore[arg-type]
        running = uvicorn.Server(config)
        serving = asyncio.create_task(running.serve(sockets=[listener]))
        deaf = await asyncio.to_thread(opened, listener.getsockname()[1], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        seen = False
        for _ in range(400):
            await asyncio.sleep(0.05)
            seen = seen or bool(running.server_state.connections)
            if seen and not running.server_state.connections:
                break
        assert not running.server_state.connections
        deaf.close()
        running.should_exit = True
        await serving

    asyncio.run(run())


def test_limits_that_the_parser_and_the_check_share_fit_together() -> None:
    assert wire.LONGEST_LINE + wire.LARGEST_HEADERS == 64 << 10
