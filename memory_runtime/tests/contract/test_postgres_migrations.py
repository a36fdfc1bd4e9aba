"""PostgreSQL's schema: one version line, one migration at a time, nothing lost; the old service's data taken over."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from hack.services import Service
from memory_runtime.model.coordinates import memory_id
from memory_runtime.model.records import Scope
from memory_runtime.settings import SettingsError
from memory_runtime.stores.contracts import Delete, Unit
from memory_runtime.stores.postgres import flushing, migrating, schema
from memory_runtime.stores.values import Visible
from memory_runtime.surfaces.cli import main
from memory_runtime.tests.contract.conftest import ask, named, settings_for
from memory_runtime.tests.ledgers import Place, put

pytestmark = pytest.mark.integration


@pytest.fixture
def empty(postgres: Service) -> Iterator[str]:
    """The DSN of a database with nothing in it."""
    name = f"soma_{uuid.uuid4().hex[:12]}"
    ask(postgres.url, f"CREATE DATABASE {name}")
    yield named(postgres.url, name)
    ask(postgres.url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def soma(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Runs `soma` on a DSN; its exit code, and what it printed, read as JSON where it is."""

    def run(dsn: str, *arguments: str) -> tuple[int, Any]:
        monkeypatch.setenv("SOMA_MODE", "distributed")
        monkeypatch.setenv("POSTGRES_URL", dsn)
        monkeypatch.setenv("SOMA_EMBEDDING_PROVIDER", "hash")
        code = main(list(arguments))
        printed = capsys.readouterr()
        text = printed.out or printed.err
        return code, json.loads(text) if text.startswith("{") else text

    return run


def tables(dsn: str) -> set[str]:
    return {one[0] for one in ask(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")}


def test_the_code_names_the_newest_revision_and_knows_them_all() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrating.SCRIPTS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [schema.HEAD]
    assert {one.revision for one in scripts.walk_revisions()} == schema.KNOWN


def test_the_schema_is_what_the_code_writes(database: str) -> None:
    """CI's gate for drift: a column that one has and the other has not."""
    found: dict[str, dict[str, str]] = {}
    sql = "SELECT table_name, column_name, udt_name FROM information_schema.columns WHERE table_schema = 'public'"
    for table, column, kind in ask(database, sql):
        found.setdefault(table, {})[column] = kind
    kinds = {"bigint": "int8", "smallint": "int2", "integer": "int4", "boolean": "bool"}
    written = {
        "memories": flushing._MEMORIES,
        "outbox": flushing._OUTBOX,
        "vectors": flushing._VECTORS,
        "vectors_next": flushing._VECTORS,
        "memories_text": flushing._TEXTS | {"words": "tsvector"},
        "idempotency": flushing._REPLIES,
        "edges": flushing._EDGES,
        "audit": flushing._AUDIT,
    }
    for table, columns in written.items():
        assert found[table] == {name: kinds.get(kind, kind) for name, kind in columns.items()}, table
    assert set(ask(database, "SELECT row_to_json(h) ->> 'seq' FROM ledger_head h")) == {("0",)}


def test_migrate_says_what_it_did_and_check_says_whether_it_must(empty: str, soma: Callable[..., Any]) -> None:
    code, answer = soma(empty, "migrate", "--check", "--json")
    assert (code, answer["before"], answer["pending"]) == (1, None, True)
    assert tables(empty) == set()
    code, answer = soma(empty, "migrate", "--json")
    assert (code, answer["before"], answer["after"]) == (0, None, schema.HEAD)
    code, answer = soma(empty, "migrate", "--check", "--json")
    assert (code, answer["pending"]) == (0, False)
    code, answer = soma(empty, "migrate", "--json")
    assert (code, answer["before"], answer["after"]) == (0, schema.HEAD, schema.HEAD)
    code, answer = soma(empty, "migrate", "--to", "nowhere")
    assert code == 2
    assert "nowhere" in answer


def test_migrations_at_the_same_time_are_one(empty: str) -> None:
    settings = settings_for(empty)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: migrating.migrate(settings), range(4)))
    assert sorted(str(one.before) for one in done) == [schema.HEAD] * 3 + ["None"]


def test_a_start_refuses_a_database_that_is_older_or_newer_and_says_what_to_do(
    empty: str, open_at: Callable[..., Place], soma: Callable[..., Any]
) -> None:
    with pytest.raises(SettingsError, match="soma migrate"):
        open_at(empty).open()
    ledger = open_at(empty, postgres_migrate_at_start=True).open()
    assert ledger.healthy
    ledger.close()
    ask(empty, "UPDATE soma_alembic_version SET version_num = '9999'")
    ask(empty, "DELETE FROM facts")
    for attempt in (lambda: open_at(empty).open(), lambda: migrating.migrate(settings_for(empty))):
        with pytest.raises(SettingsError, match="newer version") as caught:
            attempt()
        assert caught.value.setting == "postgres_url"
    assert soma(empty, "migrate", "--check")[0] == 2
    assert ask(empty, "SELECT version_num FROM soma_alembic_version") == [("9999",)]


def from_the_future(dsn: str, oldest: str) -> None:
    """As a later version would leave it, whose last revision added a column and a table."""
    for statement in (
        "ALTER TABLE memories ADD COLUMN mood text NOT NULL DEFAULT ''",
        "ALTER TABLE ledger_head ADD COLUMN mood text",
        "CREATE TABLE moods (name text PRIMARY KEY)",
        "UPDATE soma_alembic_version SET version_num = '9999'",
        f"UPDATE facts SET value = '{oldest}' WHERE key = 'schema_serves_back_to'",  # noqa: S608
    ):
        ask(dsn, statement)


async def test_a_replica_of_the_version_before_is_started_again_after_the_next_one_has_migrated(
    database: str, open_at: Callable[..., Place], soma: Callable[..., Any]
) -> None:
    ledger = open_at(database).open()
    await ledger.commit(Unit([put(1)]))
    await asyncio.to_thread(from_the_future, database, schema.HEAD)
    # the one that runs, one that starts, and one that would migrate at its start
    others = [open_at(database).open(), open_at(database, postgres_migrate_at_start=True).open()]
    for n, one in enumerate((ledger, *others), 2):
        await one.commit(Unit([put(n), put(1)]))
        await one.commit(Unit([Delete(put(n).id, put(n).scope, put(n).memory_type, at=1.0)]))
        assert (await one.get(put(1).id)).version == n
        assert await one.get(put(n).id) is None
    assert [bool(one.note) for one in (ledger, *others)] == [False, True, True]
    assert "9999" in others[0].note
    code, answer = await asyncio.to_thread(soma, database, "migrate", "--check", "--json")
    assert (code, answer["pending"]) == (0, False)
    code, answer = await asyncio.to_thread(soma, database, "migrate", "--json")
    assert (code, answer["before"], answer["after"]) == (0, "9999", "9999")
    assert (await asyncio.to_thread(soma, database, "migrate", "--to", "base"))[0] == 2
    assert "moods" in await asyncio.to_thread(tables, database)


async def test_one_that_the_next_version_no_longer_lets_serve_is_refused(
    database: str, open_at: Callable[..., Place], soma: Callable[..., Any]
) -> None:
    await asyncio.to_thread(from_the_future, database, "9998")
    with pytest.raises(SettingsError, match="newer version"):
        open_at(database).open()
    assert (await asyncio.to_thread(soma, database, "migrate"))[0] == 2


def test_a_foreign_table_of_our_name_is_left_alone(empty: str, open_at: Callable[..., Place]) -> None:
    ask(empty, "CREATE TABLE memories (mine text)")
    for attempt in (lambda: open_at(empty).open(), lambda: migrating.migrate(settings_for(empty))):
        with pytest.raises(SettingsError, match="not ours"):
            attempt()
    assert tables(empty) == {"memories"}


async def test_going_back_is_refused_while_there_are_memories_and_leaves_the_old_tables(
    database: str, open_at: Callable[..., Place]
) -> None:
    await asyncio.to_thread(ask, database, """INSERT INTO kv_store VALUES ('a', '{"b": 1}')""")
    ledger = open_at(database).open()
    await ledger.commit(Unit([put(1)]))
    ledger.close()
    settings = settings_for(database)
    with pytest.raises(SettingsError, match="drop the memories"):
        await asyncio.to_thread(migrating.migrate, settings, "base")
    ledger = open_at(database).open()
    assert (await ledger.get(put(1).id)).version == 1
    ledger.close()
    await asyncio.to_thread(ask, database, "DELETE FROM memories")
    await asyncio.to_thread(migrating.migrate, settings, "base")
    assert await asyncio.to_thread(tables, database) == {"kv_store", schema.VERSION_TABLE}
    assert await asyncio.to_thread(ask, database, "SELECT key FROM kv_store") == [("a",)]
    assert (await asyncio.to_thread(migrating.migrate, settings)).after == schema.HEAD


OLD_TABLES = (
    "CREATE TABLE kv_store (key TEXT PRIMARY KEY, value JSONB NOT NULL)",
    "CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)",
    "INSERT INTO alembic_version VALUES ('20251012_0001')",
    "CREATE TABLE memory_events (id UUID PRIMARY KEY, event_id TEXT NOT NULL, namespace TEXT NOT NULL,"
    " type TEXT NOT NULL, timestamp DOUBLE PRECISION NOT NULL, payload JSONB NOT NULL)",
)
OLD_ROWS = {
    "api_ns:(1.0, 2.0, 3.0):data": {
        "task": "read the manual",
        "memory_type": "episodic",
        "coordinate": [1, 2, 3],
        "importance": 4,
        "importance_norm": 0.5,
        "access_count": 2,
        "timestamp": 1_700_000_000.5,
    },
    "api_ns:(1.0, 2.0, 3.0):meta": {"creation_timestamp": 1.0, "last_accessed_timestamp": 2.0},
    "api_ns:(4.5,):data": {"fact": "water is wet", "memory_type": "semantic"},
    "api_ns:(4.5,):meta": {"creation_timestamp": 1_600_000_000.0},
    "team:one:(7.0, 8.0):data": {"content": "of a namespace with a colon in it"},
    "api_ns:(1.0, 2.0, 3.0):data:version:api_ns": {"ignored": True},
    "api_ns:wal:0b1f": {"ignored": True},
    "api_ns:(what, is, this):data": {"odd": 1},
    "api_ns:(9.0, 9.0):data": ["not", "an", "object"],
}


@pytest.fixture
def old(empty: str) -> str:
    """A database of the service that we replace."""

    async def fill() -> None:
        connection = await asyncpg.connect(empty)
        for statement in OLD_TABLES:
            await connection.execute(statement)
        rows = [(key, json.dumps(value)) for key, value in OLD_ROWS.items()]
        rows += [(f"bulk:({n}.0, 0.0):data", json.dumps({"text": f"row {n}"})) for n in range(700)]
        await connection.executemany("INSERT INTO kv_store VALUES ($1, $2::jsonb)", rows)
        await connection.execute(
            "INSERT INTO memory_events VALUES ($1, 'e-1', 'api_ns', 'episodic', 1650000000, $2::jsonb)",
            uuid.UUID(int=7),
            json.dumps({"text": "consumed from Kafka", "coordinate": "5,6"}),
        )
        await connection.close()

    asyncio.run(fill())
    return empty


def test_the_old_service_s_memories_are_readable_and_searchable_afterwards(
    old: str, soma: Callable[..., Any], open_at: Callable[..., Place]
) -> None:
    before = sorted(ask(old, "SELECT key, value::text FROM kv_store"))
    code, answer = soma(old, "migrate", "--json")
    assert (code, answer["imported"], answer["present"]) == (0, 704, 0)
    assert sorted(one["row"] for one in answer["refused"]) == [
        "api_ns:(9.0, 9.0):data",
        "api_ns:(what, is, this):data",
    ]
    assert sorted(ask(old, "SELECT key, value::text FROM kv_store")) == before
    assert ask(old, "SELECT version_num FROM alembic_version") == [("20251012_0001",)]
    ledger = open_at(old, vector_dim=384).open()
    scope = Scope("default", "api_ns")

    def look(view: Any) -> None:
        first = view.get(memory_id("default", "api_ns", "episodic", "1.0,2.0,3.0"))
        assert (first.event_time, first.importance) == (1_700_000_000.5, 4.0)
        assert first.payload == {"task": "read the manual", "importance": 4, "timestamp": 1_700_000_000.5}
        assert first.vector.shape == (384,)
        semantic = view.get(memory_id("default", "api_ns", "semantic", "4.5"))
        assert semantic.event_time == 1_600_000_000.0
        assert view.get(memory_id("default", "team:one", "episodic", "7.0,8.0")) is not None
        assert view.get(memory_id("default", "api_ns", "episodic", "5.0,6.0")).payload["text"] == "consumed from Kafka"
        best = view.best_by_words(Visible(scope, 1e12), ["manuals"], limit=5)
        assert list(best) == [first.id.bytes]
        assert view.counts()["default", "bulk", "episodic", 0] == 700

    ledger.read_now(look)
    gone = memory_id("default", "api_ns", "semantic", "4.5")

    ledger.write_now(lambda to: to.run(Unit([Delete(gone, scope, "semantic", at=1.0)])))
    # from the start again: nothing comes twice, and nothing comes back
    ledger.write_now(lambda to: [to.forget("legacy_kv_store"), to.trim(1e12, 0)])
    code, answer = soma(old, "migrate", "--json")
    assert (code, answer["imported"], answer["present"]) == (0, 0, 703)
    assert ledger.read_now(lambda view: view.get(gone)) is None
    code, answer = soma(old, "migrate", "--json")
    assert (answer["imported"], answer["present"], answer["refused"]) == (0, 0, [])
