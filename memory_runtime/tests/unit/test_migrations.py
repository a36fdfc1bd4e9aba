"""The schema's history: up, down, again; never onto a file from the future or of another program."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from memory_runtime.settings import SettingsError
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
        connection.commit()
    before = schema(path)
    with pytest.raises(SettingsError) as caught:
        migrate(path)
    assert "newer version" in str(caught.value)
    assert "backup" in str(caught.value)
    assert schema(path) == before
    assert revision_of(path) == "9999"


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
