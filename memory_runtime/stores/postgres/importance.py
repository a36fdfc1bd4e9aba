"""What a rebuild of importance reads and writes: raw values, every i of a tenant at once, the i that were before.

`importance_previous` holds the replaced i until the rebuild is confirmed or undone.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Final

from memory_runtime.stores.postgres.reading import as_uuids
from memory_runtime.stores.postgres.session import Session

_MINE: Final = "tenant = $1 AND collection = 0 AND NOT deleted AND importance_raw IS NOT NULL"
_AT_ONCE: Final = 20_000

Map = Callable[[float], float]


def raw_values(session: Session, tenant: str, most: int) -> tuple[list[float], int]:
    """At most about `most` raw importances of the tenant's live memories, evenly spread, and how many there are."""
    count = int(session.value(f"SELECT count(*) FROM memories WHERE {_MINE}", tenant))  # noqa: S608
    stride = max(1, -(-count // most))
    sql = (
        "SELECT importance_raw FROM (SELECT importance_raw, row_number() OVER (ORDER BY row) AS number"  # noqa: S608
        f" FROM memories WHERE {_MINE}) numbered WHERE number % $2 = 0"
    )
    return [found[0] for found in session.rows(sql, tenant, stride)], count


def raw_of(session: Session, tenant: str, ids: Sequence[bytes]) -> dict[bytes, float]:
    """The raw importances of those of the ids that are the tenant's and have one."""
    sql = f"SELECT uuid_send(id), importance_raw FROM memories WHERE {_MINE} AND id = ANY($2::uuid[])"  # noqa: S608
    wanted: list[uuid.UUID] = as_uuids(ids)
    return {found[0]: found[1] for found in session.rows(sql, tenant, wanted)}


def normaliser_state(session: Session, tenant: str) -> str | None:
    """The tenant's normaliser, dumped."""
    found = session.value("SELECT state FROM normalisers WHERE tenant = $1", tenant)
    return None if found is None else str(found)


def rebuild(session: Session, tenant: str, mapped: Map, version: int) -> int:
    """Gives every memory of the tenant the i of another map, and keeps the i that it had; returns how many."""
    session.do("DELETE FROM importance_previous WHERE tenant = $1", tenant)
    session.do(
        "INSERT INTO importance_previous SELECT row, tenant, importance_norm, normaliser_version, version"  # noqa: S608
        f" FROM memories WHERE {_MINE}",
        tenant,
    )
    return _map(session, tenant, mapped, version, "TRUE")


def undo(session: Session, tenant: str, mapped: Map, version: int, since: int) -> int:
    """Gives back the i that were before; what was stored since version `since` gets that of the former map."""
    returned = session.do(
        "UPDATE memories m SET importance_norm = p.importance_norm, normaliser_version = p.normaliser_version"
        " FROM importance_previous p WHERE p.row = m.row AND p.tenant = $1 AND p.version = m.version AND NOT m.deleted",
        tenant,
    )
    _map(session, tenant, mapped, version, f"normaliser_version >= {int(since)}")
    confirm(session, tenant)
    return returned


def confirm(session: Session, tenant: str) -> None:
    """Forgets the i that were before."""
    session.do("DELETE FROM importance_previous WHERE tenant = $1", tenant)


def _map(session: Session, tenant: str, mapped: Map, version: int, which: str) -> int:
    """The map is Python's: the distinct raw values are mapped here, and sent back beside what they are mapped to."""
    done, last = 0, None
    while True:
        after = "" if last is None else f" AND importance_raw > {last!r}::float8"
        sql = (
            f"SELECT DISTINCT importance_raw FROM memories WHERE {_MINE} AND {which}{after}"  # noqa: S608
            f" ORDER BY importance_raw LIMIT {_AT_ONCE}"
        )
        raw = [float(found[0]) for found in session.rows(sql, tenant)]
        if not raw:
            return done
        # the bounds keep what this loop has mapped already from counting as stored since
        done += session.do(
            "UPDATE memories m SET importance_norm = x.norm, normaliser_version = $2"  # noqa: S608
            " FROM unnest($3::float8[], $4::float8[]) x(raw, norm)"
            f" WHERE {_MINE.replace('tenant', 'm.tenant')} AND {which} AND m.importance_raw = x.raw",
            tenant,
            version,
            raw,
            [float(mapped(one)) for one in raw],
        )
        last = raw[-1]
