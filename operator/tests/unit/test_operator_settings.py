"""The operator's settings: named, bounded, and refused in one line."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from soma_operator.main import main
from soma_operator.settings import InvalidSettingsError, OperatorSettings
from soma_operator.telemetry.logs import RECONCILE_ID, JsonFormatter, TextFormatter


def read(**given: str) -> OperatorSettings:
    return OperatorSettings.from_environment({f"SOMA_OPERATOR_{name}": value for name, value in given.items()})


def test_defaults_do_and_other_variables_do_not_matter() -> None:
    settings = OperatorSettings.from_environment({"PATH": "/bin", "SOMA_MODE": "embedded"})
    assert settings.identity
    assert (settings.health_port, settings.metrics_port) == (8080, 8081)


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("runtime", "latest"),
        ("runtime:1.2", "1.2"),
        ("registry:5000/a/runtime:1.2@sha256:" + "a" * 64, "1.2"),
        ("registry:5000/a/runtime", "latest"),
    ],
)
def test_the_default_version_is_the_images_tag(image: str, version: str) -> None:
    assert read(RUNTIME_IMAGE=image).default_version == version
    assert read(RUNTIME_IMAGE=image, RUNTIME_VERSION="9").default_version == "9"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "0"),
        ("RESYNC_SECONDS", "soon"),
        ("LOG_LEVEL", "LOUD"),
        ("HEALTH_PORT", "99999"),
        ("NAMESPACE", "A B"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(name: str, value: str) -> None:
    with pytest.raises(InvalidSettingsError, match=f"SOMA_OPERATOR_{name}={value}: "):
        read(**{name: value})


def test_a_misspelt_setting_is_refused() -> None:
    with pytest.raises(InvalidSettingsError, match="SOMA_OPERATOR_WORKER: no such setting"):
        read(WORKER="4")


def test_bad_settings_end_with_status_two(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SOMA_OPERATOR_WORKERS", "many")
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("soma-operator: SOMA_OPERATOR_WORKERS=many: ")


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_are_quick_and_need_no_cluster(flag: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "soma_operator.main", flag], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0
    assert "soma-operator" in done.stdout
    assert "SOMA_OPERATOR_LEASE_NAME" in done.stdout or flag == "--version"


def test_a_log_line_is_json_with_the_reconciles_id() -> None:
    record = logging.getLogger("x").makeRecord(
        "x", logging.INFO, "f", 1, "said %s", ("it",), None, extra={"object": "a"}
    )
    token = RECONCILE_ID.set("abcd")
    try:
        entry = json.loads(JsonFormatter().format(record))
    finally:
        RECONCILE_ID.reset(token)
    assert (entry["message"], entry["reconcile_id"], entry["object"], entry["level"]) == (
        "said it",
        "abcd",
        "a",
        "INFO",
    )


def test_a_text_line_tells_the_fields_too() -> None:
    record = logging.makeLogRecord({"msg": "applied", "object": "Service/store", "settings": object(), "k8s_ref": {}})
    assert TextFormatter().format(record).endswith("applied object=Service/store")
