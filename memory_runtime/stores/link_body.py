"""An edge in the outbox: what was linked, or that the link was taken away."""

from __future__ import annotations

import json

from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import canonical_coordinate, coordinate_from_canonical
from memory_runtime.model.records import Edge
from memory_runtime.stores.contracts import Change, Link


def link_body(link: Link) -> str:
    """The outbox payload of a link. A version that does not know `removed` reads it as a link, and looks it up."""
    body = {
        "from": canonical_coordinate(link.edge.source),
        "to": canonical_coordinate(link.edge.target),
        "link_type": link.edge.link_type,
        "weight": link.edge.weight,
        "metadata": link.edge.metadata,
    }
    return canonical_json(body | {"removed": True} if link.removed else body)


def link_of(change: Change) -> Link:
    """The link that a change of the outbox tells of."""
    body = json.loads(change.payload or "{}")
    ends = coordinate_from_canonical(body["from"]), coordinate_from_canonical(body["to"])
    edge = Edge(*ends, body["link_type"], body["weight"], body["metadata"])
    return Link(change.scope, edge, change.at, removed=bool(body.get("removed")))
