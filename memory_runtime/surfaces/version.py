"""Which version of the product this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def product_version() -> str:
    """The installed version of this distribution; `0` in a checkout that is not installed."""
    try:
        return version("soma-memory-operator")
    except PackageNotFoundError:
        return "0"
