"""How a server starts, tells its state, and ends: probes, drain, and one sentence for each reason not to start."""

import signal
import socket
import subprocess
import threading
import time

import httpx
import pytest

pytestmark = pytest.mark.integration


@pytest.fixture
def start_refused(tmp_path, request):
    """Runs a `soma serve` that must not come up, and gives its last line."""
    conftest = request.config.pluginmanager.getplugin(str(request.path.parent / "conftest.py"))

    def run(*arguments, data_dir=None, **settings):
        command = [*conftest.COMMAND, "serve", "--data-dir", str(data_dir or tmp_path / "data"), *arguments]
        environment = conftest.clean_environment(**settings)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr.strip().splitlines()[-1]

    return run


def test_port_in_use_is_one_sentence_with_the_remedy(start_refused):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = start_refused("--http-host", "127.0.0.1", "--http-port", port, "--grpc-port", "0")
        assert line.startswith("soma: http_port: cannot listen")
        assert "--http-port" in line
        line = start_refused("--grpc-host", "127.0.0.1", "--grpc-port", port, "--http-port", "0")
        assert line.startswith("soma: grpc_port: cannot listen")


def test_unusable_data_directory_is_one_sentence_with_the_remedy(start_refused, tmp_path):
    (tmp_path / "file").write_text("")
    line = start_refused("--http-port", "0", "--grpc-port", "0", data_dir=tmp_path / "file")
    assert line.startswith("soma: data_dir: ")
    assert "SOMA_DATA_DIR" in line


def test_second_server_on_the_same_directory_is_refused(serve, start_refused):
    server = serve()
    line = start_refused("--http-port", "0", "--grpc-port", "0", data_dir=server.data_dir)
    assert "in use by another process" in line


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"SOMA_HALF_LIFE": "soon"}, "half_life"),
        ({"SOMA_MODE": "distributed"}, "postgres_url: distributed mode keeps its ledger in PostgreSQL"),
        ({"SOMA_API_TOKEN_FILE": "/no/such/token"}, "api_token_file"),
        ({"SOMA_API_TOKEN": "a", "SOMA_AUTH_DISABLED": "true"}, "auth_disabled"),
    ],
)
def test_bad_setting_is_one_sentence_that_names_it(start_refused, settings, words):
    assert words in start_refused("--http-port", "0", "--grpc-port", "0", **settings)


def test_laptop_server_makes_a_private_token_and_prints_its_path_not_its_value(serve):
    server = serve()
    log = server.log_path.read_text()
    assert str(server.data_dir / "api-token") in log
    assert server.token not in log
    assert (server.data_dir / "api-token").stat().st_mode & 0o077 == 0


def test_auth_disabled_must_be_said_and_then_opens(serve):
    server = serve("--auth-disabled")
    assert not (server.data_dir / "api-token").exists()
    with server.client(token=None) as client:
        assert client.get("/stats").status_code == 200


def test_given_token_is_used_and_shown_nowhere(serve):
    server = serve(SOMA_API_TOKEN="a-token-of-the-test")
    with server.client() as client:
        assert client.get("/stats").status_code == 200
    assert "a-token-of-the-test" not in server.log_path.read_text()


def test_rotated_token_file_takes_effect_without_a_restart(serve, tmp_path):
    token = tmp_path / "token"
    token.write_text("first")
    server = serve(SOMA_API_TOKEN_FILE=str(token))
    with server.client(token="first") as old, server.client(token="second") as new:
        assert (old.get("/stats").status_code, new.get("/stats").status_code) == (200, 403)
        token.write_text("second")
        deadline = time.monotonic() + 10
        while new.get("/stats").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert (old.get("/stats").status_code, new.get("/stats").status_code) == (403, 200)


def test_drain_says_not_ready_first_finishes_what_is_in_flight_and_exits_with_zero(serve):
    server = serve(SOMA_DRAIN_SECONDS="8")
    slow = socket.create_connection(("127.0.0.1", server.http_port))
    body = b'{"coord": "1", "payload": {"text": "in flight"}}'
    head = f"POST /store HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {server.token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    slow.sendall(head.encode() + body[:10])
    time.sleep(0.3)
    server.process.send_signal(signal.SIGTERM)
    statuses = set()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and 503 not in statuses:
        try:
            statuses.add(httpx.get(f"{server.url}/readyz").status_code)
        except httpx.TransportError:
            break
    assert 503 in statuses
    slow.sendall(body[10:])
    slow.settimeout(10)
    assert slow.recv(65536).startswith(b"HTTP/1.1 200")
    slow.close()
    assert server.process.wait(20) == 0


def test_idle_server_stops_quickly(serve):
    server = serve(SOMA_DRAIN_SECONDS="20")
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 6


def test_signal_during_the_start_ends_it_cleanly(serve, tmp_path, request):
    conftest = request.config.pluginmanager.getplugin(str(request.path.parent / "conftest.py"))
    command = [*conftest.COMMAND, "serve", "--data-dir", str(tmp_path / "d"), "--http-port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(command, env=conftest.clean_environment(), stderr=subprocess.PIPE, text=True)
    stop = threading.Timer(1.0, process.terminate)
    stop.start()
    _, errors = process.communicate(timeout=30)
    assert "Traceback" not in errors
    assert process.returncode in {0, -signal.SIGTERM}


def test_openapi_is_published_with_the_error_body_and_security_on_every_guarded_route(server, http):
    document = http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    wanted = {"/store", "/store_bulk", "/recall", "/recall_with_scores", "/memories", "/memories/{coord}", "/stats"}
    assert document["paths"].keys() >= wanted
    recall = document["paths"]["/recall"]["post"]
    assert recall["security"]
    assert recall["responses"]["422"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/ErrorBody"
    }
    assert "security" not in document["paths"]["/livez"]["get"]
    assert document["components"]["schemas"]["StoreBody"]["examples"]
