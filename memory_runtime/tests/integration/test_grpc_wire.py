"""gRPC against a real server: the old service bit for bit, v2 beside it, health, reflection, the one error table."""

import json
import math
import uuid

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2 as v2_pb2
from memory_runtime.surfaces.grpc.generated.soma.memory.v2 import memory_pb2_grpc as v2_grpc
from memory_runtime.surfaces.grpc.generated.somafractalmemory import memory_pb2 as pb
from memory_runtime.surfaces.grpc.generated.somafractalmemory import memory_pb2_grpc as stubs

pytestmark = pytest.mark.integration

WAIT = 20.0


class Caller:
    """A stub whose calls carry the token and a tenant of the test's own."""

    def __init__(self, stub, metadata):
        self._stub = stub
        self.metadata = metadata

    def __getattr__(self, name):
        return lambda request, **more: getattr(self._stub, name)(
            request, **{"metadata": self.metadata, "timeout": WAIT} | more
        )


@pytest.fixture
def channel(server):
    with server.channel() as opened:
        yield opened


@pytest.fixture
def metadata(server):
    return (*server.metadata, ("x-soma-tenant", uuid.uuid4().hex))


@pytest.fixture
def legacy(channel, metadata):
    return Caller(stubs.MemoryServiceStub(channel), metadata)


@pytest.fixture
def v2(channel, metadata):
    return Caller(v2_grpc.MemoryServiceStub(channel), metadata)


def memory(values, payload="{}", collection=""):
    return pb.StoreRequest(
        memory=pb.Memory(coord=pb.Coordinate(values=values), payload_json=payload, memory_type=collection)
    )


def query(values, top_k=0, collection=""):
    return pb.RetrieveRequest(query=pb.Coordinate(values=values), top_k=top_k, memory_type=collection)


def test_bytes_on_the_wire_are_those_of_the_old_proto():
    request = memory([1.0, 2.0], '{"a":1}', "notes")
    doubles = bytes.fromhex("000000000000f03f0000000000000040")
    coordinate = b"\x0a\x10" + doubles
    body = b"\x0a\x12" + coordinate + b'\x12\x07{"a":1}' + b"\x1a\x05notes"
    assert request.SerializeToString() == b"\x0a" + bytes([len(body)]) + body
    assert pb.StoreResponse(ok=True, id="ab").SerializeToString() == b"\x08\x01\x12\x02ab"
    assert query([], 7, "n").SerializeToString() == b"\x0a\x00\x10\x07\x1a\x01n"
    assert pb.DESCRIPTOR.services_by_name["MemoryService"].full_name == "somafractalmemory.MemoryService"


def test_a_double_that_may_have_been_another_integer_is_refused(legacy, v2):
    for number in (1098765432109876543, 1098765432109876544):
        item = v2_pb2.Item(coordinate=[1, number], payload_json="{}")
        calls = [
            lambda number=number: legacy.Store(memory([1, number])),
            lambda item=item: v2.Store(v2_pb2.StoreRequest(item=item)),
            lambda item=item: v2.StoreBulk(v2_pb2.StoreBulkRequest(items=[item])),
            lambda number=number: v2.Delete(v2_pb2.DeleteRequest(coordinate=[1, number])),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_store_gives_the_id_that_the_old_service_gave(legacy):
    answer = legacy.Store(memory([1.0, 2.0, 3.5], '{"a": 1}'))
    assert answer.ok
    assert answer.id == uuid.uuid5(uuid.NAMESPACE_URL, "[1.0, 2.0, 3.5]").hex


def test_recall_ranks_by_the_cosine_between_coordinates_within_the_collection(legacy):
    legacy.Store(memory([1.0, 0.0], '{"n": "east"}'))
    legacy.Store(memory([0.0, 1.0], '{"n": "north"}'))
    legacy.Store(memory([1.0, 1.0], '{"n": "other"}', "elsewhere"))
    found = legacy.Recall(query([2.0, 0.1])).memories
    assert [json.loads(one.payload_json)["n"] for one in found] == ["east", "north"]
    assert list(found[0].coord.values) == [1.0, 0.0]
    assert {one.memory_type for one in found} == {"memories"}
    assert [json.loads(one.payload_json)["n"] for one in legacy.Recall(query([1, 1], 5, "elsewhere")).memories] == [
        "other"
    ]


def test_recall_gives_five_unless_told(legacy):
    for number in range(8):
        legacy.Store(memory([1.0, float(number)]))
    assert len(legacy.Recall(query([1.0, 1.0])).memories) == 5
    assert len(legacy.Recall(query([1.0, 1.0], 7)).memories) == 7


def test_zero_coordinate_is_allowed(legacy):
    legacy.Store(memory([0.0, 0.0], '{"n": "zero"}'))
    assert len(legacy.Recall(query([1.0, 1.0])).memories) == 1
    assert len(legacy.Recall(query([0.0, 0.0])).memories) == 1


def test_delete_takes_the_memory_from_recall(legacy):
    """Defect 3 of the original: Delete passed a wrong selector and swallowed the error."""
    legacy.Store(memory([1.0, 2.0], '{"n": 1}'))
    assert legacy.Delete(pb.DeleteRequest(coord=pb.Coordinate(values=[1.0, 2.0]))).ok
    assert not legacy.Recall(query([1.0, 2.0])).memories
    assert legacy.Delete(pb.DeleteRequest(coord=pb.Coordinate(values=[1.0, 2.0]))).ok


def test_storing_a_coordinate_again_replaces_it(legacy):
    """Defect 2 of the original."""
    for number in (1, 2):
        legacy.Store(memory([1.0, 2.0], json.dumps({"n": number})))
    assert [one.payload_json for one in legacy.Recall(query([1.0, 2.0])).memories] == ['{"n": 2}']


def fails(call, *arguments, **more):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **more)
    return caught.value


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (memory([]), "memory.coord"),
        (memory([math.nan]), "memory.coord"),
        (memory([1.0], "[1]"), "memory.payload_json"),
        (memory([1.0], "{"), "memory.payload_json"),
        (memory([1.0], '{"a": NaN}'), "memory.payload_json"),
        (memory([1.0], '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"), "memory.payload_json"),
        (memory([1.0], "{}", "a\x1fb"), "memory_type"),
    ],
)
def test_bad_input_is_invalid_argument_with_the_fields_in_trailing_metadata(legacy, request_, field):
    error = fails(legacy.Store, request_)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    trailing = dict(error.trailing_metadata())
    body = json.loads(trailing["soma-error-bin"])
    assert body.keys() == {"detail", "code", "field", "remedy"}
    assert (body["code"], body["field"]) == ("INVALID_ARGUMENT", field)
    assert trailing["soma-field"] == field
    assert error.details() == body["detail"]


def test_token_is_required_on_all_but_health_and_reflection(server, channel):
    stub = stubs.MemoryServiceStub(channel)
    for call, request in ((stub.Store, memory([1.0])), (stub.Recall, query([1.0])), (stub.Delete, pb.DeleteRequest())):
        assert fails(call, request, timeout=WAIT).code() == grpc.StatusCode.UNAUTHENTICATED
        wrong = (("authorization", "Bearer wrong"),)
        assert fails(call, request, metadata=wrong, timeout=WAIT).code() == grpc.StatusCode.UNAUTHENTICATED
    v2 = v2_grpc.MemoryServiceStub(channel)
    assert fails(v2.Stats, v2_pb2.StatsRequest(), timeout=WAIT).code() == grpc.StatusCode.UNAUTHENTICATED
    assert stub.Health(empty_pb2.Empty(), timeout=WAIT).status == "OK"
    assert stub.Recall(query([1.0]), metadata=(("x-api-key", server.token),), timeout=WAIT) is not None


def test_health_service_knows_each_service(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", "somafractalmemory.MemoryService", "soma.memory.v2.MemoryService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=WAIT)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert (
        fails(health.Check, health_pb2.HealthCheckRequest(service="no"), timeout=WAIT).code()
        == grpc.StatusCode.NOT_FOUND
    )


def test_reflection_lists_the_services(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=WAIT)
    names = {service.name for service in answer.list_services_response.service}
    assert names >= {"somafractalmemory.MemoryService", "soma.memory.v2.MemoryService", "grpc.health.v1.Health"}


def test_tenants_do_not_see_each_other(server, channel, legacy, v2):
    """Defect 12 of the original."""
    legacy.Store(memory([3.0, 4.0], '{"secret": 1}'))
    v2.Store(v2_pb2.StoreRequest(item=v2_pb2.Item(coordinate=[3, 4], payload_json='{"text": "secret plan"}')))
    stranger = (*server.metadata, ("x-soma-tenant", uuid.uuid4().hex))
    assert not legacy.Recall(query([3.0, 4.0]), metadata=stranger).memories
    assert not v2.Recall(v2_pb2.RecallRequest(text="secret plan"), metadata=stranger).hits
    assert fails(v2.Get, v2_pb2.GetRequest(coordinate=[3, 4]), metadata=stranger).code() == grpc.StatusCode.NOT_FOUND
    legacy.Delete(pb.DeleteRequest(coord=pb.Coordinate(values=[3.0, 4.0])), metadata=stranger)
    assert legacy.Recall(query([3.0, 4.0])).memories


def test_deadline_is_honoured(legacy):
    assert fails(legacy.Store, memory([1.0]), timeout=0.0001).code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_message_beyond_the_limit_is_refused(legacy):
    error = fails(legacy.Store, memory([1.0], json.dumps({"a": "x" * (6 << 20)})))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_v2_stores_recalls_explains_and_deletes(v2):
    item = v2_pb2.Item(coordinate=[1, 2], payload_json='{"text": "Ann moved to Lisbon"}', importance=2.0)
    receipt = v2.Store(v2_pb2.StoreRequest(item=item, idempotency_key="k")).receipt
    assert (receipt.version, receipt.created, receipt.replayed) == (1, True, False)
    assert v2.Store(v2_pb2.StoreRequest(item=item, idempotency_key="k")).receipt.replayed
    answer = v2.Recall(
        v2_pb2.RecallRequest(text="Ann Lisbon", explain=True, min_seq=receipt.seq, half_life_seconds=86400)
    )
    assert (answer.route, answer.hits[0].record.id) == ("exact", receipt.id)
    assert json.loads(answer.hits[0].explanation_json)["half_life_seconds"] == 86400.0
    assert math.isclose(answer.hits[0].log2_score, math.log2(answer.hits[0].score), abs_tol=1e-9)
    assert v2.Get(v2_pb2.GetRequest(coordinate=[1, 2])).record.importance == 2.0
    assert v2.Stats(v2_pb2.StatsRequest()).total_memories == 1
    assert v2.Delete(v2_pb2.DeleteRequest(coordinate=[1, 2])).deleted
    assert not v2.Recall(v2_pb2.RecallRequest(text="Ann Lisbon")).hits


def test_v2_bulk_is_all_or_nothing(v2):
    items = [v2_pb2.Item(coordinate=[number], payload_json='{"text": "a"}') for number in range(3)]
    receipts = v2.StoreBulk(v2_pb2.StoreBulkRequest(items=items)).receipts
    assert [receipt.seq for receipt in receipts] == sorted(receipt.seq for receipt in receipts)
    broken = [v2_pb2.Item(coordinate=[9.0], payload_json="{}"), v2_pb2.Item(payload_json="{}")]
    error = fails(v2.StoreBulk, v2_pb2.StoreBulkRequest(items=broken))
    assert dict(error.trailing_metadata())["soma-field"] == "items.1.coordinate"
    assert v2.Stats(v2_pb2.StatsRequest()).total_memories == 3


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200), method=st.sampled_from(["Store", "Recall", "Delete"]))
def test_arbitrary_bytes_are_answered_and_never_unknown(channel, metadata, body, method):
    call = channel.unary_unary(f"/somafractalmemory.MemoryService/{method}")
    answer = call.future(body, metadata=metadata, timeout=WAIT)
    assert answer.code() in {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT}
    if answer.code() != grpc.StatusCode.OK:
        assert json.loads(dict(answer.trailing_metadata())["soma-error-bin"])["remedy"]


def test_nothing_is_parsed_for_a_caller_who_is_not_admitted(channel):
    call = channel.unary_unary("/somafractalmemory.MemoryService/Store")
    assert fails(call, b"\x00", timeout=WAIT).code() == grpc.StatusCode.UNAUTHENTICATED


def test_more_than_the_bound_is_answered_with_the_bound_and_says_so(channel, metadata, legacy):
    item = v2_pb2.Item(coordinate=[1.0], payload_json='{"text": "chess"}')
    stub = v2_grpc.MemoryServiceStub(channel)
    stub.Store(v2_pb2.StoreRequest(item=item), metadata=metadata, timeout=WAIT)
    for top_k, said in ((5000, "1000"), (1000, None)):
        request = v2_pb2.RecallRequest(text="chess", top_k=top_k)
        answer, call = stub.Recall.with_call(request, metadata=metadata, timeout=WAIT)
        assert len(answer.hits) == 1
        assert dict(call.trailing_metadata()).get("x-soma-top-k") == said
    legacy.Store(memory((1.0, 2.0)))
    assert len(legacy.Recall(pb.RetrieveRequest(query=pb.Coordinate(values=(1.0, 2.0)), top_k=5000)).memories) == 1
