"""What is said to Neo4j: its statements, and how scopes, coordinates and edges are written in it."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

from memory_runtime.model.canonical import canonical_json
from memory_runtime.model.coordinates import Coordinate, canonical_coordinate
from memory_runtime.model.records import Edge, Scope
from memory_runtime.stores.walking import Step

SCHEMA: Final = (
    "CREATE CONSTRAINT soma_place_key IF NOT EXISTS FOR (p:SomaPlace) REQUIRE p.key IS UNIQUE",
    "CREATE CONSTRAINT soma_cursor_name IF NOT EXISTS FOR (c:SomaCursor) REQUIRE c.name IS UNIQUE",
    "CREATE INDEX soma_place_scope IF NOT EXISTS FOR (p:SomaPlace) ON (p.tenant, p.namespace, p.key)",
)
VERSION: Final = "CALL dbms.components() YIELD versions RETURN versions[0] AS version"
# a position in the history of another ledger is none in ours
_OURS: Final = "CASE WHEN coalesce(c.ledger, '') = $ledger THEN c.seq ELSE -1 END AS seq"
POSITION: Final = f"MATCH (c:SomaCursor {{name: 'graph'}}) RETURN {_OURS}"
# the write takes the cursor's lock: two feeders meet here, and the second sees where the first went
LOCKED_POSITION: Final = (
    f"MERGE (c:SomaCursor {{name: 'graph'}}) ON CREATE SET c.seq = -1 SET c.seen = true RETURN {_OURS}"
)
MOVE: Final = "MATCH (c:SomaCursor {name: 'graph'}) SET c.seq = $seq, c.ledger = $ledger"
_STEP: Final = (
    "a.coordinate AS source, b.coordinate AS target, r.link_type AS link_type, r.weight AS weight,"
    " r.metadata AS metadata"
)
OUTGOING: Final = (
    "UNWIND $keys AS key MATCH (a:SomaPlace {key: key})-[r:SOMA_LINK]->(b:SomaPlace)"
    f" WHERE $type IS NULL OR r.link_type = $type RETURN {_STEP}"
)
PLACES: Final = (
    "MATCH (a:SomaPlace {tenant: $tenant, namespace: $namespace}) WHERE a.key > $after"
    " RETURN a.key AS key ORDER BY a.key LIMIT $limit"
)
MERGE: Final = (
    "UNWIND $rows AS row"
    " MERGE (a:SomaPlace {key: row.source_key})"
    " ON CREATE SET a.tenant = row.tenant, a.namespace = row.namespace, a.coordinate = row.source"
    " MERGE (b:SomaPlace {key: row.target_key})"
    " ON CREATE SET b.tenant = row.tenant, b.namespace = row.namespace, b.coordinate = row.target"
    " MERGE (a)-[r:SOMA_LINK {link_type: row.link_type}]->(b) SET r.weight = row.weight, r.metadata = row.metadata"
)
UNLINK: Final = (
    "MATCH (:SomaPlace {key: $source})-[r:SOMA_LINK]->(:SomaPlace {key: $target})"
    " WHERE $type IS NULL OR r.link_type = $type DELETE r RETURN count(r) AS number"
)
REMOVE: Final = (
    "UNWIND $rows AS row MATCH (:SomaPlace {key: row.source_key})-[r:SOMA_LINK {link_type: row.link_type}]->"
    "(:SomaPlace {key: row.target_key}) DELETE r"
)
NEAR: Final = (
    "UNWIND $keys AS key MATCH (:SomaPlace {key: key})-[r:SOMA_LINK]-(b:SomaPlace)"
    " RETURN count(DISTINCT r) AS number, collect(DISTINCT b.key) AS near"
)
CLEAR: Final = "UNWIND $keys AS key MATCH (a:SomaPlace {key: key}) DETACH DELETE a"
TIDY: Final = "UNWIND $keys AS key MATCH (a:SomaPlace {key: key}) WHERE NOT (a)--() DELETE a"
WIPE: Final = "MATCH (a:SomaPlace) WITH a LIMIT $limit DETACH DELETE a RETURN count(a) AS number"
COUNT: Final = "MATCH ()-[r:SOMA_LINK]->() RETURN count(r) AS number"
COUNT_SCOPE: Final = (
    "MATCH (a:SomaPlace {tenant: $tenant, namespace: $namespace})-[r:SOMA_LINK]->() RETURN count(r) AS number"
)


def key(scope: Scope, coordinate: Coordinate | str) -> str:
    """The key of a place: 64 hexadecimal digits."""
    text = coordinate if isinstance(coordinate, str) else canonical_coordinate(coordinate)
    return hashlib.sha256(f"{scope.tenant}\x1f{scope.namespace}\x1f{text}".encode()).hexdigest()


def row(scope: Scope, edge: Edge) -> dict[str, Any]:
    """The edge as `MERGE` and `REMOVE` take it."""
    source, target = canonical_coordinate(edge.source), canonical_coordinate(edge.target)
    return {
        "tenant": scope.tenant,
        "namespace": scope.namespace,
        "source_key": key(scope, source),
        "target_key": key(scope, target),
        "source": source,
        "target": target,
        "link_type": edge.link_type,
        "weight": edge.weight,
        "metadata": canonical_json(edge.metadata, field="metadata"),
    }


def step(found: Any) -> Step:
    """The edge that a record of `OUTGOING` holds."""
    metadata = json.loads(found["metadata"])
    return Step(found["source"], found["target"], found["link_type"], found["weight"], metadata)
