"""How many memory types a tenant may have: each costs every search of the tenant, so their number is bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from memory_runtime.model.errors import Unprocessable
from memory_runtime.stores.values import CountKey


class Types(Container[str], Protocol):
    """The living types of a tenant."""

    def __len__(self) -> int: ...


def types_of(counts: Mapping[CountKey, int]) -> dict[str, Counter[str]]:
    """The living memories of each type, by tenant, over all its namespaces and collections."""
    found: dict[str, Counter[str]] = {}
    for (tenant, _, memory_type, _), count in counts.items():
        if count > 0:
            found.setdefault(tenant, Counter())[memory_type] += count
    return found


def refuse(tenant: str, most: int) -> Unprocessable:
    """The refusal of one more type."""
    return Unprocessable(
        f"the tenant {tenant} has as many memory types as it may: {most}",
        field="memory_type",
        remedy="use a type that is there, delete the memories of one, or raise SOMA_MAX_MEMORY_TYPES",
    )


class TypeBound:
    """The bound for one process. Belongs to the event loop; new types of stores that are under way count."""

    def __init__(self, most: int, living: Callable[[str], Types]) -> None:
        """`living` gives the types that a tenant has memories of."""
        self._most = most
        self._living = living
        self._coming: dict[str, Counter[str]] = {}

    @contextmanager
    def room_for(self, tenant: str, types: Iterable[str]) -> Iterator[None]:
        """Inside, memories of these types may be stored. Raises Unprocessable where they would be too many."""
        living = self._living(tenant)
        new = {one for one in types if one not in living}
        if not new:
            yield
            return
        coming = self._coming.setdefault(tenant, Counter())
        try:
            if len(living) + len({one for one in new | coming.keys() if one not in living}) > self._most:
                raise refuse(tenant, self._most)
            coming.update(new)
            try:
                yield
            finally:
                coming.subtract(new)
                for one in new:
                    if not coming[one]:
                        del coming[one]
        finally:
            if not coming and self._coming.get(tenant) is coming:
                del self._coming[tenant]
