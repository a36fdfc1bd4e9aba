"""What may change while the process runs, and how: a declared subset; the last good settings stay on any error."""

from __future__ import annotations

from typing import NamedTuple

from memory_runtime.settings.loading import FIELDS, LoadedSettings
from memory_runtime.settings.schema import SMFSettings

RELOADABLE: frozenset[str] = frozenset(
    {
        "api_token",
        "api_token_file",
        "cache_enabled",
        "cors_origins",
        "drain_seconds",
        "embedding_timeout_seconds",
        "graph_mirror_enabled",
        "hybrid_boost",
        "hybrid_recall_default",
        "log_level",
        "max_memory_size",
        "max_request_body_mb",
        "rate_limit_max",
        "rate_limit_window_seconds",
        "recall_sample_rate",
        "request_timeout_seconds",
        "top_k_max",
    }
)


class Reload(NamedTuple):
    """The settings after a reload, the names that changed, and the names that need a restart to change."""

    settings: SMFSettings
    changed: tuple[str, ...]
    need_restart: tuple[str, ...]


def reload_settings(current: SMFSettings, loaded: LoadedSettings) -> Reload:
    """What a reload gives: the reloadable names take their fresh values, all others stay.

    `loaded` is the result of a fresh `load_settings`, whose SettingsError the caller logs, keeping `current`.
    """
    fresh = loaded.settings
    differing = [name for name in FIELDS if getattr(current, name) != getattr(fresh, name)]
    changed = tuple(name for name in differing if name in RELOADABLE)
    refused = tuple(name for name in differing if name not in RELOADABLE)
    return Reload(current.model_copy(update={name: getattr(fresh, name) for name in changed}), changed, refused)
