"""What `IKeyValueStore` promises, of every implementation."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memory_runtime.model.errors import InvalidArgument, PayloadTooLarge, Unavailable
from memory_runtime.stores.interfaces import IKeyValueStore
from memory_runtime.stores.keyvalue.values import MAX_VALUE_BYTES, decode, encode

pytestmark = pytest.mark.integration


async def keys(store: IKeyValueStore, prefix: str = "") -> list[str]:
    return sorted({key async for key in store.scan(prefix)})


async def test_it_is_a_key_value_store_that_answers(store: IKeyValueStore) -> None:
    assert isinstance(store, IKeyValueStore)
    assert await store.ping()
    await store.start()
    assert await store.ping()


VALUES: list[Any] = [
    {"coordinate": [1.5, -2.0], "text": "Zürich 🗻", "nested": {"a": [True, None, ""]}},
    "text",
    17,
    -(2**63),
    2**63 - 1,
    1e22,
    1e300,
    5e-324,
    0.1,
    [],
    {},
    False,
]


async def test_a_value_comes_back_as_it_was(store: IKeyValueStore) -> None:
    for value in VALUES:
        await store.put("ns:(1.0, 2.0):data", value)
        assert await store.get("ns:(1.0, 2.0):data") == value
    many = {f"key {n}": value for n, value in enumerate(VALUES)}
    await store.put_many(many)
    assert await store.get_many([*many, "missing"]) == many


async def test_a_missing_key_is_none_and_no_error(store: IKeyValueStore) -> None:
    assert await store.get("nowhere") is None
    assert await store.get_many(["nowhere"]) == {}
    assert await store.get_many([]) == {}
    assert not await store.delete("nowhere")
    assert await store.delete_many([]) == 0
    await store.put_many({})
    assert await keys(store) == []


async def test_a_put_replaces_and_a_repeat_changes_nothing(store: IKeyValueStore) -> None:
    await store.put("k", 1)
    await store.put("k", {"v": 2})
    await store.put("k", {"v": 2})
    assert await store.get("k") == {"v": 2}
    assert await keys(store) == ["k"]


async def test_a_deleted_key_is_gone_until_it_is_put_again(store: IKeyValueStore) -> None:
    await store.put("k", 1)
    assert await store.get("k") == 1
    assert await store.delete("k")
    assert await store.get("k") is None
    assert not await store.delete("k")
    await store.put("k", 2)
    assert await store.get("k") == 2


async def test_add_is_won_by_one_of_many(store: IKeyValueStore) -> None:
    won = await asyncio.gather(*(store.add("lock", n) for n in range(20)))
    assert sum(won) == 1
    assert await store.get("lock") == won.index(True)
    assert await store.delete("lock")
    assert await store.add("lock", "again")


async def test_many_are_put_read_and_deleted_in_batches(store: IKeyValueStore) -> None:
    items = {f"bulk:{n:05d}": {"n": n} for n in range(2500)}
    await store.put_many(items)
    assert await store.get_many(list(items)) == items
    assert await keys(store, "bulk:") == sorted(items)
    assert await store.delete_many([*items, "missing", "bulk:00000"]) == 2500
    assert await keys(store, "bulk:") == []


async def test_a_key_expires_and_its_place_is_free(store: IKeyValueStore) -> None:
    await store.put("long", 1, ttl=60.0)
    await store.put("kept", 1, ttl=1.0)
    await store.put("kept", 2)
    await store.put("short", 1, ttl=1.0)
    assert await store.get("short") == 1
    assert not await store.add("short", 2)
    await asyncio.sleep(1.1)
    assert await store.get("short") is None
    assert await store.get_many(["short", "long", "kept"]) == {"long": 1, "kept": 2}
    assert await keys(store) == ["kept", "long"]
    assert not await store.delete("short")
    assert await store.add("short", 3, ttl=60.0)
    assert await store.get("short") == 3


async def test_a_read_value_does_not_outlive_its_time(store: IKeyValueStore) -> None:
    """A cache before the store must not keep what the store has let go."""
    await store.put("short", 1, ttl=1.0)
    for _ in range(3):
        assert await store.get("short") == 1
    await asyncio.sleep(1.1)
    assert await store.get("short") is None


async def test_a_prefix_is_taken_literally(store: IKeyValueStore) -> None:
    names = ["a", "a*", "a*b", "a?", "ab", "a[b]", "a\\", "a\\d", "a%", "a_", "a^", "b", "ä", "a\U0010ffff", "a🗻"]
    await store.put_many(dict.fromkeys(names, 1))
    for prefix in ["", "a", "a*", "a?", "a[", "a\\", "a%", "a_", "a^", "ä", "a\U0010ffff", "zz"]:
        assert await keys(store, prefix) == sorted(name for name in names if name.startswith(prefix)), prefix


BAD: list[tuple[str, Any, float | None, str]] = [
    ("", 1, None, "key"),
    ("k" * 2049, 1, None, "key"),
    ("ü" * 1025, 1, None, "key"),
    ("a\x00b", 1, None, "key"),
    ("\ud800", 1, None, "key"),
    ("k", math.nan, None, "value"),
    ("k", {"x": math.inf}, None, "value"),
    ("k", {1: 2}, None, "value"),
    ("k", {"x": ["a\x00"]}, None, "value"),
    ("k", 2**63, None, "value"),
    ("k", object(), None, "value"),
    ("k", 1, 0.0, "ttl"),
    ("k", 1, -1.0, "ttl"),
    ("k", 1, math.nan, "ttl"),
]


async def test_bad_input_names_the_argument_and_changes_nothing(store: IKeyValueStore) -> None:
    await store.put("k", "before")
    for key, value, ttl, field in BAD:
        for attempt in (store.put(key, value, ttl=ttl), store.put_many({"k": "after", key: value}, ttl=ttl)):
            with pytest.raises(InvalidArgument) as caught:
                await attempt
            assert caught.value.field == field, (key, value, ttl)
    assert await store.get("k") == "before"


async def test_a_value_that_is_too_large_is_refused(store: IKeyValueStore) -> None:
    with pytest.raises(PayloadTooLarge):
        await store.put("k", "x" * (MAX_VALUE_BYTES + 1))


async def test_who_reads_after_an_acknowledged_write_never_sees_an_older_one(store: IKeyValueStore) -> None:
    """Readers and writers at once, deletes among them."""
    acknowledged = {f"k{n}": 0 for n in range(4)}
    for key in acknowledged:
        await store.put(key, 0)
    over = asyncio.Event()

    async def write(key: str) -> None:
        for version in range(1, 25):
            await store.put(key, version)
            acknowledged[key] = version
            if version % 6 == 0:
                await store.delete(key)
        over.set()

    async def read(key: str) -> None:
        while not over.is_set():
            least = acknowledged[key]
            found = await store.get(key)
            assert found is None or found >= least, (key, found, least)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for key in acknowledged:
            group.create_task(write(key))
            group.create_task(read(key))
            group.create_task(read(key))
    assert await store.get_many(list(acknowledged)) == {}


async def test_a_closed_store_says_so(store: IKeyValueStore) -> None:
    await store.close()
    await store.close()
    assert not await store.ping()
    for call in (store.get("k"), store.put("k", 1), store.delete("k"), store.add("k", 1)):
        with pytest.raises(Unavailable, match="closed"):
            await call
    with pytest.raises(Unavailable, match="closed"):
        await keys(store)


TEXT = st.text('ab"\\ 🗻', max_size=5)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON)
def test_any_json_survives_the_text_that_is_stored(value: Any) -> None:
    assert decode(encode(value)) == value
