"""Gathers values from environment, mounted secrets and file, remembers where each came from, and validates once."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr, ValidationError

from memory_runtime.settings.aliases import (
    ALIASES,
    COMPAT_PROFILE,
    DERIVED,
    FOREIGN,
    FOREIGN_PREFIXES,
    NOT_SETTINGS,
    WITHOUT_EFFECT,
)
from memory_runtime.settings.kubernetes import without_service_links
from memory_runtime.settings.promises import refuse_absent_protection, refuse_false_promises, without_effect
from memory_runtime.settings.schema import SettingsError, SMFSettings

FIELDS = tuple(SMFSettings.model_fields)
_LISTS = {"cors_origins", "etcd_endpoints", "redis_nodes"}
_STRUCTURED = {"half_life_by_type", "feature_weights"} | _LISTS
_TRUE = {"1", "true", "yes", "on", "y", "t"}


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings in force, where each given value came from, and what the user should hear about."""

    settings: SMFSettings
    origins: dict[str, str]
    warnings: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """The settings for the log at start: secrets show only that they are set, others their value and origin."""
        return redacted(self.settings) | {"origins": self.origins}


def redacted(settings: SMFSettings) -> dict[str, Any]:
    """The settings as JSON-safe values; a secret is `***` where it is set and null where not."""
    shown: dict[str, Any] = {}
    for name in FIELDS:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            shown[name] = "***"
        else:
            shown[name] = str(value) if isinstance(value, Path) else value
    return shown


def load_settings(
    *,
    environ: Mapping[str, str] | None = None,
    config_file: Path | str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> LoadedSettings:
    """The settings of this process.

    `config_file` (else `SOMA_CONFIG_FILE`) is YAML or JSON; `overrides` are command-line options, which win over all.
    Raises SettingsError with one sentence that names the setting, its origin and the remedy; also where a setting asks
    for something that would silently not be done (see `promises`).
    """
    env = without_service_links(os.environ if environ is None else environ)
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    path = config_file or env.get("SOMA_CONFIG_FILE") or None
    layers = [
        _from_file(Path(path)) if path else {},
        _from_secrets(env.get("SOMA_SECRETS_DIR") or env.get("SOMA_SECRETS_PATH")),
        _from_environment(env),
        {name: (value, "command line") for name, value in (overrides or {}).items() if value is not None},
    ]
    for layer in layers:
        for name, (value, origin) in layer.items():
            values[name], origins[name] = value, origin
    if _is_true(values.get("compat_profile")):
        for name, value in COMPAT_PROFILE.items():
            if name not in values:
                values[name], origins[name] = value, "compat profile"
    unknown = _unknown(env)
    refuse_absent_protection(unknown, lambda variable: _nearest(variable, _KNOWN))
    settings = _validate(values, origins)
    refuse_false_promises(settings, origins)
    return LoadedSettings(settings, origins, (*_warnings(env, unknown), *without_effect(settings, origins)))


def files_stamp(
    *, environ: Mapping[str, str] | None = None, config_file: Path | str | None = None
) -> tuple[tuple[str, int, int, int], ...]:
    """Name, inode, time of change and size of each file that `load_settings` reads: different once one has changed.

    A mounted ConfigMap or Secret is a link into a directory that is replaced whole: its files' inodes change.
    """
    env = os.environ if environ is None else environ
    path = config_file or env.get("SOMA_CONFIG_FILE")
    folder = env.get("SOMA_SECRETS_DIR") or env.get("SOMA_SECRETS_PATH")
    files = [Path(path)] if path else []
    found = []
    try:
        files += sorted(Path(folder).iterdir()) if folder else []
    except OSError:
        found.append((str(folder), 0, 0, 0))
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found.append((str(file), status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


Layer = dict[str, tuple[Any, str]]


def _from_environment(env: Mapping[str, str]) -> Layer:
    layer: Layer = {}
    for variable, convert in DERIVED.items():
        if variable in env:
            layer.update({name: (value, f"environment {variable}") for name, value in convert(env[variable]).items()})
    for variable, name in ALIASES.items():
        if variable in env:
            layer[name] = (_decode(name, env[variable], variable), f"environment {variable}")
    for name in FIELDS:
        variable = f"SOMA_{name.upper()}"
        if variable in env:
            layer[name] = (_decode(name, env[variable], variable), f"environment {variable}")
    return layer


def _from_secrets(directory: str | None) -> Layer:
    layer: Layer = {}
    if not directory:
        return layer
    folder = Path(directory)
    if not folder.is_dir():
        raise SettingsError(
            f"SOMA_SECRETS_DIR: {folder} is not a directory", setting="secrets_dir", remedy="mount the secrets there"
        )
    names = ALIASES | {f"SOMA_{name.upper()}": name for name in FIELDS} | {name: name for name in FIELDS}
    for file_name, name in names.items():
        path = folder / file_name
        if path.is_file():
            try:
                text = path.read_text(encoding="utf-8-sig").strip()
            except (OSError, UnicodeDecodeError):
                message = f"{name}: cannot read the secret file {path}"
                raise SettingsError(message, setting=name, remedy="make it readable UTF-8 text") from None
            layer[name] = (_decode(name, text, str(path)), f"secret {path}")
    return layer


def _from_file(path: Path) -> Layer:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(
            f"SOMA_CONFIG_FILE: cannot read {path}: {error.strerror}", setting="config_file", remedy="correct the path"
        ) from None
    except UnicodeDecodeError as error:
        message = f"{path}: byte {error.object[error.start]:#04x} at line {_line(error)} is not UTF-8"
        raise SettingsError(message, setting="config_file", remedy="save the file as UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: 2001-99-99, or a number of thousands of digits
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where is not None else ""
        message = f"{path}: neither YAML nor JSON{line}"
        raise SettingsError(
            message, setting="config_file", remedy="write `name: value` lines, or a JSON object"
        ) from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"{path}: expected `key: value` lines", setting="config_file", remedy="mend the file")
    for key in document:
        if key not in FIELDS:
            raise SettingsError(
                f"{key}: unknown setting in {path}", setting=str(key), remedy=_nearest(str(key), FIELDS)
            )
    return {key: (value, f"file {path}") for key, value in document.items()}


def _line(error: UnicodeDecodeError) -> int:
    return error.object.count(b"\n", 0, error.start) + 1


def _decode(name: str, text: str, origin: str) -> Any:
    """Text of an environment variable or a secret file as the setting's value: lists and maps are JSON or `a=1,b=2`."""
    if name not in _STRUCTURED:
        return None if text == "" and SMFSettings.model_fields[name].default is None else text
    stripped = text.strip()
    if stripped[:1] in {"{", "["}:
        try:
            return json.loads(stripped)
        except (ValueError, RecursionError):
            raise SettingsError(f"{name}: {origin} is not valid JSON", setting=name, remedy="mend the JSON") from None
    parts = [part.strip() for part in stripped.split(",") if part.strip()]
    if name in _LISTS:
        return parts
    pairs = [part.partition("=") for part in parts]
    if any(not separator for _, separator, _ in pairs):
        raise SettingsError(f"{name}: {origin} is not a map", setting=name, remedy='write {"a": 1} or a=1,b=2')
    return {key.strip(): value.strip() for key, _, value in pairs}


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() in _TRUE)


def _validate(values: dict[str, Any], origins: dict[str, str]) -> SMFSettings:
    try:
        return SMFSettings(**values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        name = str(first["loc"][0]) if first["loc"] else first["msg"].removeprefix("Value error, ").partition(":")[0]
        origin = f" (from {origins[name]})" if name in origins else ""
        reason = first["msg"].removeprefix("Value error, ").removeprefix(f"{name}: ")
        field = SMFSettings.model_fields.get(name)
        remedy = f"correct it: {field.description}" if field is not None else "remove it"
        raise SettingsError(f"{path or name}: {reason}{origin}", setting=name, remedy=remedy) from None


_KNOWN = sorted({f"SOMA_{name.upper()}" for name in FIELDS} | set(ALIASES) | set(DERIVED) | NOT_SETTINGS | FOREIGN)


def _unknown(env: Mapping[str, str]) -> dict[str, str]:
    """Variables that look like ours and are no settings."""
    known = {*_KNOWN, *WITHOUT_EFFECT}
    return {
        variable: value
        for variable, value in env.items()
        if variable.startswith("SOMA_") and variable not in known and not variable.startswith(FOREIGN_PREFIXES)
    }


def _warnings(env: Mapping[str, str], unknown: Mapping[str, str]) -> list[str]:
    heard = {
        variable: f"{variable} has no effect: {WITHOUT_EFFECT[variable]}"
        for variable in env
        if variable in WITHOUT_EFFECT
    }
    heard |= {
        variable: f"{variable} is not a setting and has no effect; {_nearest(variable, _KNOWN)}" for variable in unknown
    }
    return [heard[variable] for variable in sorted(heard)]


def _nearest(name: str, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else "remove it"
