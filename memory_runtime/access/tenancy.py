"""Whose memories a request means: tenant and namespace from the headers that existing clients send."""

from __future__ import annotations

from collections.abc import Mapping

from memory_runtime.model.records import Scope, check_name
from memory_runtime.settings import SMFSettings

TENANT_HEADER = "x-soma-tenant"
NAMESPACE_HEADER = "x-soma-namespace"


def scope_of(headers: Mapping[str, str], settings: SMFSettings) -> Scope:
    """The scope that the headers name (names in lower case), else the configured default.

    `X-Soma-Namespace` is `namespace` or `namespace:tenant`; `X-Soma-Tenant` wins over the tenant written there.
    Raises InvalidArgument naming the header when a name is too long or holds control characters.
    """
    written = headers.get(NAMESPACE_HEADER, "").strip()
    namespace, _, trailing = written.rpartition(":") if ":" in written else (written, "", "")
    tenant = headers.get(TENANT_HEADER, "").strip() or trailing.strip() or settings.default_tenant
    return Scope(
        check_name(tenant, field="X-Soma-Tenant"),
        check_name(namespace.strip() or settings.namespace, field="X-Soma-Namespace"),
    )
