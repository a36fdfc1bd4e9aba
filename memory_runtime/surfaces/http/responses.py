"""What the routes answer, for the published OpenAPI document; tests hold the answers to it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Json = dict[str, Any]


class Open(BaseModel):
    """An answer that may carry more keys than are named."""

    model_config = ConfigDict(extra="allow")


class Ok(Open):
    """The memory is durable."""

    ok: bool = True


class Stored(Open):
    """How many memories are durable."""

    stored: int


class Matches(Open):
    """Recalled payloads, best first."""

    matches: list[Json]


class Batches(Open):
    """Recalled payloads, a list for each query."""

    batches: list[list[Json]]


class Scored(Open):
    """A recalled payload and its score in [0, 1], more for a boosted hybrid hit."""

    payload: Json
    score: float


class Scores(Open):
    """Recalled payloads with their scores, best first."""

    results: list[Scored]


class Results(Open):
    """Payloads."""

    results: list[Json]


class Payloads(BaseModel):
    """Payloads of the coordinates that were found."""

    payloads: list[Json]


class Neighbors(BaseModel):
    """Pairs of a coordinate and the edge that leads to it."""

    neighbors: list[list[Any]]


class CoordPath(BaseModel):
    """Coordinates from start to end; empty where there is no path."""

    path: list[list[float]]


class Coords(BaseModel):
    """Coordinates inside the range."""

    coords: list[list[float]]


class MemoryStored(Open):
    """The memory is durable."""

    coord: str
    memory_type: str
    ok: bool = True


class Resource(Open):
    """A memory and what the server knows of it."""

    id: str
    coordinate: list[float]
    payload: Json
    memory_type: str
    importance: float | None
    importance_norm: float
    timestamp: float = Field(description="Event time in epoch seconds.")
    created_at: str | None = Field(description="ISO 8601; null where the ledger holds what is no time.")
    version: int
    seq: int


class MemoryFound(BaseModel):
    """One memory."""

    memory: Resource


class MemoriesFound(Open):
    """Memories, best first."""

    memories: list[Resource]


class MemoryPage(BaseModel):
    """Memories in the order of their ids; `next` continues, null at the end."""

    memories: list[Resource]
    next: str | None


class MemoryDeleted(BaseModel):
    """Whether there was something to delete; it is gone either way."""

    coord: str
    deleted: bool


class Pruned(BaseModel):
    """How many went, and where none went because one is under a legal hold."""

    deleted: int
    held: list[str]


class GraphLinked(BaseModel):
    """The link is durable."""

    from_coord: str
    to_coord: str
    link_type: str
    ok: bool = True


class GraphUnlinked(BaseModel):
    """How many links there were; they are gone either way."""

    from_coord: str
    to_coord: str
    deleted: int


class GraphNeighbors(BaseModel):
    """Neighbours with the edge that leads to each."""

    coord: str
    neighbors: list[Json]


class GraphPath(BaseModel):
    """A path as coordinates; between each two of them the heaviest link's type, and in `links` all of them."""

    from_coord: str
    to_coord: str
    path: list[str]
    link_types: list[str]
    links: list[list[Json]]
    found: bool


class StatsAnswer(Open):
    """Counts of the caller's scope and how the engine is made."""

    total_memories: int
    episodic: int
    semantic: int
    namespace: str
    vector_count: int | None = None
    embedding_provider: str | None = None
    stale: bool | None = None


class HealthAnswer(BaseModel):
    """The parts of the service, as the one we replace names them."""

    kv_store: bool
    vector_store: bool
    graph_store: bool
    prediction_provider: bool


class ServicePart(BaseModel):
    """A part under the name of the system that kept it in the service that we replace."""

    name: str
    healthy: bool
    details: Json


class DetailedHealth(HealthAnswer):
    """The parts, and the same in the words of the later era."""

    status: str = Field(description="healthy, degraded or unhealthy.")
    healthy: bool
    services: list[ServicePart]
