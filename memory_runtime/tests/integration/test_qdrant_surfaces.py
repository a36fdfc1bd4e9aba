"""`soma serve` with Qdrant: settings by the old service's names, commands of whoever runs it, refusals by name."""

from __future__ import annotations

import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from memory_runtime.engine import build_engine
from memory_runtime.settings import SettingsError, load_settings
from memory_runtime.tests.integration.conftest import Serve, Server

pytestmark = pytest.mark.integration


def reconciled(server: Server) -> dict[str, Any]:
    """What a comparison says once the relay has caught up."""
    deadline = time.monotonic() + 30
    while True:
        done = server.soma("vectors", "reconcile", "--json")
        found = json.loads(done.stdout) if done.stdout else {}
        if (done.returncode == 0 and not found["pending"]) or time.monotonic() > deadline:
            return dict(found)
        time.sleep(0.2)


def test_the_store_is_fed_compared_refilled_and_seen(serve: Serve, qdrant_rest: str) -> None:
    collection = f"served-{uuid.uuid4().hex}"
    server = serve(QDRANT_URL=qdrant_rest, QDRANT_COLLECTION=collection, SOMA_QDRANT_PREFER_GRPC="false")
    with server.client(tenant="acme") as http:
        for n in range(12):
            http.post("/store", json={"coord": str(n), "payload": {"n": n}, "type": "episodic"}).raise_for_status()
        http.delete("/memories/3").raise_for_status()
        found = reconciled(server)
        assert (found["equal"], found["ledger_rows"], found["store_rows"]) == (True, 11, 11)
        assert found["ledger_hash"] == found["store_hash"]
        assert "equal" in server.soma("vectors", "reconcile", "--repair").stdout
        assert http.post("/vectors/rebuild").json() == {"begun": True}
        assert reconciled(server)["store_rows"] == 11
        metrics = http.get("/metrics").text
    assert 'soma_memory_sink_delivered_total{sink="qdrant"}' in metrics
    assert 'soma_backend_calls_total{adapter="qdrant"' in metrics
    assert "soma_vector_store_reachable 1.0" in metrics


def test_without_a_store_its_commands_are_refused_by_the_setting(http: Any, server: Server) -> None:
    for path in ("/vectors/reconcile", "/vectors/rebuild"):
        refused = http.post(path)
        assert (refused.status_code, refused.json()["field"]) == (422, "qdrant_url")
    done = server.soma("vectors", "reconcile")
    assert done.returncode == 1
    assert "SOMA_QDRANT_URL" in done.stderr


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"SOMA_QDRANT_URL": "grpc://127.0.0.1:6334"}, "qdrant_url: must be an http:// or https:// URL"),
        ({"SOMA_QDRANT_URL": "http://127.0.0.1:1", "QDRANT_COLLECTION": "a/b"}, "qdrant_collection: 'a/b' is not"),
        ({"SOMA_QDRANT_URL": "https://127.0.0.1:1", "QDRANT_TLS_CERT": "/absent.pem"}, "qdrant_tls_cert: cannot read"),
        ({"SOMA_QDRANT_QUANTIZATION": "int4"}, "qdrant_quantization"),
        ({"SOMA_RESIDUAL_PENALTY": "0"}, "residual_penalty"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, settings: dict[str, str], said: str) -> None:
    environment = {"SOMA_DATA_DIR": str(tmp_path), "SOMA_EMBEDDING_PROVIDER": "hash", **settings}
    with pytest.raises(SettingsError, match=re.escape(said)) as refused:
        build_engine(load_settings(environ=environment).settings)
    assert refused.value.exit_code == 2
