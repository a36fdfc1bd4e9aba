"""Who deleted, held and imported is in the audit chain, which can be read and proved beside the running server."""

from __future__ import annotations

import json
import uuid

import pytest

from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2 as pb
from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2_grpc as stubs
from memory_runtime.tests.integration.conftest import Serve, Server

pytestmark = pytest.mark.integration


def audited(server: Server, tenant: str) -> list[tuple[str, str]]:
    listed = server.soma("audit", "list", "--tenant", tenant, "--json")
    assert listed.returncode == 0, listed.stderr
    assert server.token not in listed.stdout
    return [(one["action"], one["actor"]) for one in json.loads(listed.stdout)["lines"]]


def test_each_surface_says_who(server: Server) -> None:
    tenant = uuid.uuid4().hex
    with server.client(tenant=tenant) as client:
        for place in ("1,1", "2,2", "3,3"):
            client.post("/store", json={"coord": place, "payload": {"text": place}}).raise_for_status()
        client.delete("/memories/1,1").raise_for_status()
        client.post("/retention/hold", json={"coord": "2,2"}).raise_for_status()
    with server.channel() as channel:
        metadata = (*server.metadata, ("x-soma-tenant", tenant))
        stub = stubs.MemoryServiceStub(channel)  # type: ignore[no-untyped-call]
        assert stub.Delete(pb.DeleteRequest(coordinate=[3, 3]), metadata=metadata).deleted
    who = "token@127.0.0.1"
    assert audited(server, tenant) == [("delete", who), ("retention.hold", who), ("delete", who)]
    verified = server.soma("audit", "verify")
    assert (verified.returncode, verified.stderr) == (0, "")
    assert "the audit chain is whole" in verified.stdout


def test_without_a_token_the_chain_says_that_nobody_was_known(serve: Serve) -> None:
    server = serve("--auth-disabled")
    with server.client(token=None, tenant="open") as client:
        client.post("/store", json={"coord": "1,1", "payload": {}}).raise_for_status()
        client.delete("/memories/1,1").raise_for_status()
    assert audited(server, "open") == [("delete", "anonymous@127.0.0.1")]
