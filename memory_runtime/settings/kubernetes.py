"""The variables that Kubernetes sets in every pod for each Service of its namespace. They are no settings of anybody.

A Service named `redis` gives REDIS_PORT=tcp://10.0.0.1:6379, one named `soma-http` gives SOMA_HTTP_PORT=tcp://…: these
have the names of settings, and would be read as such (https://kubernetes.io/docs/concepts/services-networking/service).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_URL: Final = re.compile(r"(?:tcp|udp|sctp)://(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):\d{1,5}", re.IGNORECASE)
_URL_NAME: Final = re.compile(r"[A-Z0-9_]+_PORT(?:_\d+_(?:TCP|UDP|SCTP))?")
_OTHER_NAME: Final = re.compile(
    r"[A-Z0-9_]+_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)_(?:PROTO|PORT|ADDR))"
)


def without_service_links(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment less what Kubernetes set for Services: by the name's form, and for `…_PORT` by the value's."""
    return {name: value for name, value in environ.items() if not _is_service_link(name, value)}


def _is_service_link(name: str, value: str) -> bool:
    if _URL_NAME.fullmatch(name) and _URL.fullmatch(value.strip()):
        return True
    return _OTHER_NAME.fullmatch(name) is not None
