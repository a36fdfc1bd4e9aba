"""What Neo4j's errors mean to the guard: what may pass is repeated, what will not is said."""

from __future__ import annotations

import pytest
from neo4j import exceptions

from memory_runtime.model.errors import Internal, Unavailable
from memory_runtime.stores.graph.neo4j_connecting import classify
from memory_runtime.stores.resilience import Backoff, Failure, Guard, GuardPolicy, Retry


def of_server(code: str) -> exceptions.Neo4jError:
    """The exception that the driver makes of a server's code."""
    return exceptions.Neo4jError._hydrate_neo4j(code=code, message="a message with neo4j://user:secret@host")  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (of_server("Neo.TransientError.Transaction.DeadlockDetected"), Failure.CONTENDED),
        (of_server("Neo.TransientError.Transaction.LockAcquisitionTimeout"), Failure.CONTENDED),
        (of_server("Neo.TransientError.General.OutOfMemoryError"), Failure.AWAY),
        (of_server("Neo.ClientError.Cluster.NotALeader"), Failure.AWAY),
        (of_server("Neo.ClientError.Security.Unauthorized"), Failure.REFUSED),
        (of_server("Neo.ClientError.Statement.SyntaxError"), Failure.REFUSED),
        (exceptions.ServiceUnavailable("gone"), Failure.AWAY),
        (exceptions.SessionExpired("gone"), Failure.AWAY),
        (exceptions.IncompleteCommit("in doubt"), Failure.AWAY),
        (ValueError("a defect of ours"), None),
    ],
)
def test_an_error_says_what_it_is(error: Exception, failure: Failure | None) -> None:
    assert classify(error) is failure


async def test_a_deadlock_is_tried_again_and_a_refusal_is_not() -> None:
    policy = GuardPolicy(attempts=3, backoff=Backoff(base=0.0, cap=0.0))
    guard = Guard("neo4j", policy, classify=classify)
    left = [of_server("Neo.TransientError.Transaction.DeadlockDetected"), exceptions.ServiceUnavailable("gone")]

    async def deadlocked() -> str:
        if left:
            raise left.pop()
        return "done"

    assert await guard.run("link", deadlocked, retry=Retry.SAFE) == "done"
    calls = 0

    async def refused() -> None:
        nonlocal calls
        calls += 1
        raise of_server("Neo.ClientError.Security.Unauthorized")

    with pytest.raises(Internal) as said:
        await guard.run("link", refused, retry=Retry.SAFE)
    assert calls == 1
    assert "secret" not in f"{said.value} {said.value.remedy}"

    async def away() -> None:
        raise exceptions.ServiceUnavailable("neo4j://user:secret@host")

    with pytest.raises(Unavailable) as gone:
        await guard.run("link", away, retry=Retry.SAFE)
    assert "secret" not in str(gone.value)
