"""Where settings come from, what wins, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory_runtime.settings import RELOADABLE, SettingsError, SMFSettings, load_settings, reload_settings
from memory_runtime.settings.aliases import ALIASES, COMPAT_PROFILE


def test_environment_wins_over_secrets_over_file_over_defaults(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("http_port: 1\ngrpc_port: 1\nnamespace: file\nhalf_life: 30d\n")
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "http_port").write_text("2\n")
    (secrets / "SOMA_GRPC_PORT").write_text("2")
    environ = {
        "SOMA_CONFIG_FILE": str(tmp_path / "settings.yaml"),
        "SOMA_SECRETS_DIR": str(secrets),
        "SOMA_HTTP_PORT": "3",
    }
    loaded = load_settings(environ=environ)
    assert (loaded.settings.http_port, loaded.settings.grpc_port, loaded.settings.namespace) == (3, 2, "file")
    assert loaded.settings.half_life == 30 * 86400
    assert loaded.settings.vector_dim == 384
    assert loaded.origins["http_port"] == "environment SOMA_HTTP_PORT"
    assert loaded.origins["namespace"].startswith("file ")


def test_command_line_options_win_over_all() -> None:
    assert load_settings(environ={"SOMA_HTTP_PORT": "3"}, overrides={"http_port": 4}).settings.http_port == 4


def test_constructing_settings_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMA_HTTP_PORT", "1")
    assert SMFSettings().http_port == 9595


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"SOMA_HTTP_PORT": "x"}, ("http_port", "SOMA_HTTP_PORT")),
        ({"SOMA_HTTP_PORT": "70000"}, ("http_port", "65535")),
        ({"SOMA_HALF_LIFE": "30"}, ("half_life", "30d")),
        ({"SOMA_HALF_LIFE": "0d"}, ("half_life", "zero")),
        ({"SOMA_FEATURE_WEIGHTS": "a=.5,b=.7"}, ("feature_weights", "1.2")),
        ({"SOMA_FEATURE_WEIGHTS": '{"a": '}, ("feature_weights", "JSON")),
        ({"SOMA_MODE": "clustered"}, ("mode", "embedded")),
        ({"SOMA_API_TOKEN": "t", "SOMA_AUTH_DISABLED": "1"}, ("auth_disabled", "api_token")),
        ({"SOMA_CONFIG_FILE": "/nonexistent/settings.yaml"}, ("SOMA_CONFIG_FILE", "No such file")),
        ({"SOMA_LOG_LEVEL": "LOUD"}, ("log_level", "SOMA_LOG_LEVEL")),
        ({"POSTGRES_SSL_MODE": "strict"}, ("postgres_ssl_mode", "verify-full")),
        ({"POSTGRES_SSL_CERT": "/tls/tls.crt"}, ("postgres_ssl_key", "private key")),
        ({"SOMA_REDIS_KEY": "/tls/tls.key"}, ("redis_cert", "redis_key")),
        ({"SOMA_REDIS_TOPOLOGY": "cluster"}, ("redis_nodes", "host:port")),
    ],
)
def test_a_bad_value_is_one_sentence_with_setting_and_reason(environ: dict[str, str], words: tuple[str, ...]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=environ)
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence
    assert caught.value.exit_code == 2


def test_an_unknown_key_in_the_file_is_refused_and_the_nearest_named(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("halflife: 30d\n")
    with pytest.raises(SettingsError, match=r"halflife.*did you mean half_life"):
        load_settings(environ={}, config_file=tmp_path / "settings.yaml")


def test_an_unknown_variable_warns_and_names_the_nearest() -> None:
    loaded = load_settings(
        environ={"SOMA_HTP_PORT": "1", "SOMA_OPERATOR_IMAGE": "x", "PATH": "/bin", "SOMA_EMBEDDING_PROVIDER": "hash"}
    )
    assert len(loaded.warnings) == 1
    assert "SOMA_HTTP_PORT" in loaded.warnings[0]


def test_settings_of_the_old_service_are_accepted_and_say_so() -> None:
    environ = {"MEMORY_MODE": "evented_enterprise", "POSTGRES_URL": "postgresql://u:secret@h/db", "SFM_FAST_CORE": "1"}
    loaded = load_settings(environ=environ)
    assert loaded.settings.mode == "distributed"
    assert any("SFM_FAST_CORE has no effect" in warning for warning in loaded.warnings)
    assert load_settings(environ={"MEMORY_MODE": "development"}).settings.mode == "embedded"
    assert load_settings(environ={"SOMA_FORCE_HASH_EMBEDDINGS": "1"}).settings.embedding_provider == "hash"
    assert load_settings(environ={"SOMA_MEMORY_NAMESPACE": "a", "SOMA_NAMESPACE": "b"}).settings.namespace == "b"
    assert set(ALIASES.values()) <= set(SMFSettings.model_fields)


def test_back_ends_are_found_by_the_old_names() -> None:
    environ = {"REDIS_HOST": "cache", "REDIS_DB": "2", "POSTGRES_POOL_SIZE": "7", "SOMA_REDIS_NODES": "a:1, b:2"}
    settings = load_settings(environ=environ).settings
    assert (settings.redis_host, settings.redis_db, settings.postgres_pool_size) == ("cache", 2, 7)
    assert settings.redis_nodes == ["a:1", "b:2"]
    assert SMFSettings().postgres_pool_size == 15


def test_the_compat_profile_restores_old_defaults_but_no_choice_of_the_user() -> None:
    settings = load_settings(environ={"SOMA_COMPAT_PROFILE": "true", "SOMA_RATE_LIMIT_MAX": "7"}).settings
    assert settings.vector_dim == COMPAT_PROFILE["vector_dim"] == 768
    assert settings.rate_limit_max == 7


def test_no_secret_is_in_the_summary_or_in_an_error() -> None:
    environ = {"SOMA_API_TOKEN": "hunter2", "SOMA_MODE": "distributed", "POSTGRES_URL": "postgresql://u:hunter2@h/db"}
    loaded = load_settings(environ=environ)
    assert "hunter2" not in repr(loaded.summary())
    assert "hunter2" not in repr(loaded)
    assert loaded.summary()["api_token"] == "***"
    with pytest.raises(SettingsError) as caught:
        load_settings(environ={"SOMA_API_TOKEN": "hunter2", "SOMA_AUTH_DISABLED": "true"})
    assert "hunter2" not in str(caught.value)


def test_the_token_file_is_read_anew_and_an_empty_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    settings = SMFSettings(api_token_file=path)
    with pytest.raises(SettingsError, match="api_token_file"):
        settings.read_api_token()
    path.write_text("one\n")
    first = settings.read_api_token()
    path.write_text("two\n")
    second = settings.read_api_token()
    assert first is not None
    assert second is not None
    assert (first.get_secret_value(), second.get_secret_value()) == ("one", "two")
    path.write_text(" \n")
    with pytest.raises(SettingsError, match="empty"):
        settings.read_api_token()


def test_reload_changes_the_declared_subset_and_names_the_rest() -> None:
    current = SMFSettings()
    result = reload_settings(current, load_settings(environ={"SOMA_TOP_K_MAX": "7", "SOMA_VECTOR_DIM": "3"}))
    assert result.settings.top_k_max == 7
    assert result.settings.vector_dim == current.vector_dim
    assert (result.changed, result.need_restart) == (("top_k_max",), ("vector_dim",))
    assert set(SMFSettings.model_fields) >= RELOADABLE


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in SMFSettings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"http_port: 1\nnamespace: Gr\xfc\xdfe\n", "byte 0xfc at line 2 is not UTF-8"),
        ("http_port: 1\n".encode("utf-16"), "is not UTF-8"),
        (b"http_port: 1\n\tgrpc_port: 2\n", "neither YAML nor JSON at line 2"),
        (b"a: " + b"[" * 99_999, "neither YAML nor JSON"),
        (b"a: " + b"9" * 5_000, "neither YAML nor JSON"),
        (b"a: 2001-99-99\n", "neither YAML nor JSON"),
        (b"a: \0\n", "neither YAML nor JSON"),
        (b"http_port = 1\n", "expected `key: value` lines"),
        (b"- http_port\n", "expected `key: value` lines"),
        (b"? [1]\n: 2\n", "neither YAML nor JSON"),
    ],
)
def test_a_settings_file_that_cannot_be_read_is_one_sentence(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "settings.yaml").write_bytes(data)
    with pytest.raises(SettingsError, match=words) as refused:
        load_settings(environ={}, config_file=tmp_path / "settings.yaml")
    assert "settings.yaml" in str(refused.value)
    (tmp_path / "settings.yaml").write_bytes(b"")
    assert load_settings(environ={}, config_file=tmp_path / "settings.yaml").origins == {}


def test_a_mark_at_the_start_of_a_file_is_not_part_of_it(tmp_path: Path) -> None:
    for name, data in {
        "settings.yaml": b"\xef\xbb\xbfhttp_port: 1\r\n",
        "settings.json": b'\xef\xbb\xbf{"http_port": 1}',
        "SOMA_API_TOKEN": b"\xef\xbb\xbfsecret\r\n",
        "token": b"\xef\xbb\xbfsecret\n",
    }.items():
        (tmp_path / name).write_bytes(data)
    for name in ("settings.yaml", "settings.json"):
        assert load_settings(environ={}, config_file=tmp_path / name).settings.http_port == 1
    for environ in ({"SOMA_SECRETS_DIR": str(tmp_path)}, {"SOMA_API_TOKEN_FILE": str(tmp_path / "token")}):
        token = load_settings(environ=environ).settings.read_api_token()
        assert token is not None
        assert token.get_secret_value() == "secret"


def test_a_variable_that_nests_too_deeply_is_one_sentence() -> None:
    with pytest.raises(SettingsError, match="half_life_by_type: SOMA_HALF_LIFE_BY_TYPE is not valid JSON"):
        load_settings(environ={"SOMA_HALF_LIFE_BY_TYPE": '{"a": ' + "[" * 99_999})
