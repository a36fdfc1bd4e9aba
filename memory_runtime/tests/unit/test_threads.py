"""Whatever work raises in another thread, its caller hears of it: asyncio cannot carry a StopIteration."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from memory_runtime.embedding.lanes import Lane
from memory_runtime.model.errors import InvalidArgument
from memory_runtime.model.threads import in_thread, raisable
from memory_runtime.stores.redis.marked import _Line
from memory_runtime.stores.resilience.readers import FairReaders

UNCARRIED = [StopIteration("end"), SystemExit(3), asyncio.CancelledError(), GeneratorExit(), KeyboardInterrupt()]


@pytest.fixture(params=UNCARRIED, ids=lambda one: type(one).__name__)
def raised(request: pytest.FixtureRequest) -> BaseException:
    error: BaseException = request.param
    return error


def failing(error: BaseException) -> Any:
    def work(*_: Any) -> Any:
        raise error

    return work


async def heard(answer: Any, error: BaseException) -> None:
    with pytest.raises(RuntimeError, match=f"raised {type(error).__name__}") as caught:
        await asyncio.wait_for(answer, 20)
    assert caught.value.__cause__ is error


async def test_a_thread_of_the_loop(raised: BaseException) -> None:
    await heard(in_thread(failing(raised)), raised)


async def test_a_reader(raised: BaseException) -> None:
    readers = FairReaders(1, "reader")
    await heard(asyncio.wrap_future(readers.submit(failing(raised))), raised)
    assert await asyncio.wrap_future(readers.submit(lambda: 7)) == 7
    readers.shutdown()


async def test_a_lane_of_embeddings(raised: BaseException) -> None:
    encoders = iter([failing(raised), list])

    def encode(texts: Any) -> Any:
        return next(encoders)(texts)

    lane = Lane("lane", encode, 8)
    await heard(asyncio.wrap_future(lane.submit(["a"])), raised)
    assert await asyncio.wrap_future(lane.submit(["b"])) == ["b"]
    lane.close()


async def test_an_error_stays_what_it_is() -> None:
    error = InvalidArgument("top_k: no", field="top_k", remedy="less")
    assert raisable(error) is error
    with pytest.raises(InvalidArgument) as caught:
        await in_thread(failing(error))
    assert caught.value is error
    assert caught.value.__cause__ is None
    assert await in_thread(int, "ff", base=16) == 255


async def test_commands_that_got_too_few_answers_are_told_so() -> None:
    sent: list[int] = []

    async def send(commands: Any) -> list[Any]:
        sent.append(len(commands))
        return list(range(len(commands) - (len(sent) == 1)))

    line = _Line(send)
    with pytest.raises(Exception, match="answered 1 of 2"):
        await asyncio.wait_for(line.send([("GET", "a"), ("GET", "b")]), 20)
    assert await asyncio.wait_for(line.send([("GET", "a"), ("GET", "b")]), 20) == [0, 1]
