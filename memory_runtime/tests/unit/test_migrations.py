"""The schema's history: up, down, again; never onto a file from the future or of another program."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from memory_runtime.engine import RecallRequest, build_engine
from memory_runtime.model.records import Scope, StoreItem
from memory_runtime.settings import SettingsError, SMFSettings
from memory_runtime.stores import migrating
from memory_runtime.stores.migrating import HEAD, KNOWN, migrate, revision_of


def schema(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()


def test_the_known_revisions_are_those_of_the_scripts() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrating.__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == HEAD
    assert {script.revision for script in scripts.walk_revisions()} == KNOWN


@pytest.mark.parametrize("folder", [migrating.SCRIPTS, migrating.SCRIPTS.parent / "postgres" / "migrations"])
def test_every_revision_names_the_oldest_that_may_serve_on_it(folder: Path) -> None:
    """CI's gate: without it no older version could be started again after a migration."""
    config = Config()
    config.set_main_option("script_location", str(folder))
    before = ""
    for script in reversed(list(ScriptDirectory.from_config(config).walk_revisions())):
        assert len(script.revision) == 4, "four digits: their order is that of their texts"
        assert script.revision.isdigit()
        oldest = script.module.serves_back_to
        assert before <= oldest <= script.revision, "what cannot serve on a schema cannot serve on the next one"
        before = oldest


def test_migrating_is_safe_to_repeat_and_says_where_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    assert revision_of(path) is None
    assert migrate(path) is None
    made = schema(path)
    assert migrate(path) == HEAD
    assert schema(path) == made
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_down_and_up_again_is_the_same_schema(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    migrate(path)
    made = schema(path)
    migrate(path, "base")
    assert "memories" not in dict(schema(path))
    migrate(path)
    assert schema(path) == made


def test_going_down_never_drops_memories(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "INSERT INTO memories (id, collection, tenant, namespace, memory_type, coordinate, coordinate_first,"
            " importance_norm, normaliser_version, event_time, ingest_time, access_time, access_count, pinned, hold,"
            " version, seq, deleted, model_revision, payload, text)"
            " VALUES (x'00', 0, 't', 'n', 'm', '1.0', 1.0, 1.0, 0, 0.0, 0.0, 0.0, 0, 0, 0, 1, 1, 0, '', '{}', '')"
        )
        connection.commit()
    with pytest.raises(SettingsError, match="memories"):
        migrate(path, "base")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM memories").fetchone()[0] == 1


def test_a_ledger_from_a_newer_version_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("DELETE FROM facts")
        connection.commit()
    before = schema(path)
    with pytest.raises(SettingsError) as caught:
        migrate(path)
    assert "newer version" in str(caught.value)
    assert "backup" in str(caught.value)
    assert schema(path) == before
    assert revision_of(path) == "9999"


def from_the_future(path: Path, oldest: str) -> None:
    """As a later version would leave it, whose last revision added a column and a table."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE memories ADD COLUMN mood TEXT NOT NULL DEFAULT ''")
        connection.execute("CREATE TABLE moods (name TEXT PRIMARY KEY) STRICT")
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE facts SET value = ? WHERE key = 'schema_serves_back_to'", (oldest,))
        connection.commit()


async def test_after_a_later_version_only_added_this_one_serves_and_says_so(tmp_path: Path) -> None:
    settings = SMFSettings(data_dir=tmp_path, embedding_provider="hash", vector_dim=8)
    scope, path = Scope("acme", "notes"), tmp_path / "ledger.sqlite3"
    engine = build_engine(settings)
    await engine.start()
    await engine.store(scope, StoreItem((1.0,), {"text": "before"}))
    assert not (await engine.stats(scope)).notes
    await engine.close()
    from_the_future(path, HEAD)
    made = schema(path)
    assert migrate(path) == "9999"
    for texts in (["before"], ["after", "before"]):
        engine = build_engine(settings)
        await engine.start()
        try:
            (note,) = (await engine.stats(scope)).notes
            assert "9999" in note
            found = await engine.recall(scope, RecallRequest(query="before after", top_k=5))
            assert sorted(hit.record.payload["text"] for hit in found.hits) == texts
            await engine.store(scope, StoreItem((2.0,), {"text": "after"}))
        finally:
            await engine.close()
    with pytest.raises(SettingsError, match="newer version"):
        migrate(path, "base")
    assert schema(path) == made


def test_after_a_later_version_took_something_away_this_one_refuses(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    migrate(path)
    from_the_future(path, "9998")
    made = schema(path)
    with pytest.raises(SettingsError, match="newer version"):
        migrate(path)
    assert (schema(path), revision_of(path)) == (made, "9999")


def test_a_database_of_another_program_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
        connection.commit()
    with pytest.raises(SettingsError, match="not a ledger of ours"):
        migrate(path)
    assert [name for name, _ in schema(path)] == ["theirs"]


def test_a_start_with_nothing_to_migrate_does_not_load_alembic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.sqlite3"
    migrate(path)
    monkeypatch.setattr(migrating, "_run_alembic", lambda *_, **__: pytest.fail("alembic was loaded"))
    assert migrate(path) == HEAD
