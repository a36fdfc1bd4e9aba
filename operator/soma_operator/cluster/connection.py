"""How the API server is reached: in a pod by its ServiceAccount, elsewhere by the kubeconfig."""

from __future__ import annotations

import os
from pathlib import Path

from kubernetes.aio import config
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException


class NoClusterError(RuntimeError):
    """No way to a cluster was found; the text says what was looked for."""


def source() -> Path | None:
    """The kubeconfig to use, or None in a pod; raises NoClusterError where there is neither."""
    named = os.environ.get("KUBECONFIG")
    if named is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return None
    path = Path(named or "~/.kube/config").expanduser()
    if not path.is_file():
        raise NoClusterError(f"no cluster: {path} does not exist; set KUBECONFIG or run in a pod")
    return path


async def configuration() -> Configuration:
    """As `source` says. The tokens of ServiceAccounts are read again as they rotate."""
    found = Configuration()
    path = source()
    try:
        if path is None:
            config.load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(str(path), client_configuration=found)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise NoClusterError(f"no cluster: {error}; set KUBECONFIG or run in a pod") from None
    # One connection a worker is plenty, and a burst of creations must not open a hundred.
    found.connection_pool_maxsize = 16
    found.retries = 1
    return found


def client(found: Configuration, agent: str) -> ApiClient:
    """The client for everything but the watches."""
    made = ApiClient(configuration=found)
    made.user_agent = agent
    return made
