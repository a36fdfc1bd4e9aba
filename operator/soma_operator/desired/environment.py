"""The environment of the runtime's container: one entry a name, or the API server refuses the whole object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Variable = Mapping[str, Any]


def environment(
    config_dir: str, data_dir: str, once: bool, credentials: Iterable[Variable], given: Iterable[Variable]
) -> list[Variable]:
    """Ours, the back ends' credentials, then what the spec adds: a later entry takes the place of an earlier one.

    `once` is a pod that serves nobody: it needs no token.
    """
    ours: list[Variable] = [{"name": "SOMA_CONFIG_FILE", "value": f"{config_dir}/settings.yaml"}]
    if not once:
        ours.append({"name": "SOMA_API_TOKEN_FILE", "value": "/var/run/secrets/soma/token"})
    ours.append({"name": "SOMA_DATA_DIR", "value": data_dir})
    return list({entry["name"]: entry for entry in (*ours, *credentials, *given)}.values())
