"""What the routes accept. Unknown keys are ignored, as ever; what is absent is the old behaviour."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from memory_runtime.engine import UNSET, ExportedMemory, RecallRequest, Unset
from memory_runtime.model.coordinates import make_coordinate, parse_coordinate
from memory_runtime.model.duration import DURATION_PATTERN, parse_duration, parse_half_life
from memory_runtime.model.records import Edge, StoreItem, Vector
from memory_runtime.model.timestamps import own_time, parse_timestamp

MOST_AT_ONCE = 10_000
LARGEST = 1e300


Finite = Annotated[float, Field(allow_inf_nan=False)]
JsonObject = dict[str, Any]
Coord = Annotated[str, Field(max_length=100_000, description="Numbers separated by commas.", examples=["1,2,3"])]
Payload = Annotated[dict[str, Any], Field(description="Any JSON object.", examples=[{"text": "Ann moved to Lisbon"}])]
TypeName = Annotated[str, Field(min_length=1, max_length=256, examples=["episodic"])]
# as the old service took it: an empty name is none
_no_name = BeforeValidator(lambda value: None if value == "" else value)
OptionalType = Annotated[TypeName | None, _no_name]
TypeQuery = Annotated[TypeName | None, _no_name, Query()]
TopK = Annotated[
    int,
    Field(
        ge=0,
        lt=1 << 63,
        description="How many, at most; 0 finds nothing. More than the bound (1000) gives the bound, "
        "and the header X-Soma-Top-K says so.",
    ),
]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Time = Annotated[
    Number | str, Field(description="Epoch seconds or ISO 8601; docs/api.md, Times.", examples=["2024-06-10T06:13:20Z"])
]
Duration = Annotated[str, Field(pattern=DURATION_PATTERN, examples=["30d"])]
HalfLife = Annotated[str, Field(pattern=rf"{DURATION_PATTERN}|^none$", examples=["30d"], max_length=64)]
CoordinateNumber = Finite | int
"""An integer stays one: as a float it might be another number."""
VectorIn = Annotated[list[Finite], Field(min_length=1, max_length=4096, description="Any length; made unit.")]


class StoreOptions(BaseModel):
    """What a memory may carry beyond the old service's fields; each one's absence is the old behaviour."""

    timestamp: Time | None = Field(None, description="When it happened; absent: the payload's timestamp, else now.")
    importance: Finite | None = Field(None, description="Raw importance; absent: the payload's importance, else 1.")
    vector: VectorIn | None = Field(None, description="Its embedding; absent: the payload's text is embedded.")
    features: dict[str, Finite] | None = Field(None, description="Feature channels in [0, 1].", max_length=64)
    pinned: bool = Field(False, description="It does not decay, and neither its ttl nor retention takes it.")
    ttl: Duration | None = Field(None, description="How long after being stored it is forgotten.")

    def item(self, coord: str, payload: dict[str, Any], memory_type: str, *, field: str = "") -> StoreItem:
        """The engine's item. `field` prefixes the names in errors. Raises InvalidArgument."""
        return StoreItem(
            coordinate=parse_coordinate(coord, field=f"{field}coord"),
            payload=payload,
            memory_type=memory_type,
            timestamp=self._event_time(payload, f"{field}timestamp"),
            importance=_number(payload.get("importance")) if self.importance is None else self.importance,
            vector=None if self.vector is None else as_vector(self.vector),
            features=self.features,
            pinned=self.pinned,
            ttl=None if self.ttl is None else parse_duration(self.ttl, field=f"{field}ttl"),
        )

    def _event_time(self, payload: dict[str, Any], field: str) -> float | None:
        if self.timestamp is not None:
            return parse_timestamp(self.timestamp, field=field)
        return own_time(payload)


def _number(value: Any) -> float | None:
    """The number, where a payload's field holds a finite one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST else None


def as_vector(values: list[float]) -> Vector:
    """float32 [n]; a number that float32 cannot hold becomes an infinity, which the engine refuses by name."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float64).astype(np.float32)


class StoreBody(StoreOptions):
    """POST /store."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"coord": "1,2,3", "payload": {"text": "Ann moved to Lisbon"}},
                {"coord": "4,5,6", "payload": {"text": "Bo plays chess"}, "timestamp": "2024-05-01", "importance": 3},
            ]
        }
    )
    coord: Coord
    payload: Payload
    type: OptionalType = "episodic"

    def to_item(self, *, field: str = "") -> StoreItem:
        """The engine's item. Raises InvalidArgument."""
        return self.item(self.coord, self.payload, self.type or "episodic", field=field)


class RememberBody(StoreOptions):
    """POST /remember: as /store, where a coordinate is made of the payload if none is given."""

    coord: Coord | None = None
    payload: Payload
    type: OptionalType = "episodic"


REPLACE = "Delete what each one replaces, its accesses, versions and links, in the same transaction."


class BulkBody(BaseModel):
    """POST /store_bulk."""

    items: list[StoreBody] = Field(max_length=MOST_AT_ONCE)
    replace: bool = Field(False, description=REPLACE)


class MemoryBody(StoreOptions):
    """POST /memories."""

    coord: Coord
    payload: Payload
    memory_type: OptionalType = "episodic"

    def to_item(self) -> StoreItem:
        """The engine's item. Raises InvalidArgument."""
        return self.item(self.coord, self.payload, self.memory_type or "episodic")


class RecallOptions(BaseModel):
    """What a recall may ask beyond the old service's fields; each one's absence is the old behaviour."""

    half_life: HalfLife | None = Field(None, description="Replaces the configured half-life; `none`: no decay.")
    as_of: Time | None = Field(None, description="Answer as the memory was then.")
    min_seq: int | None = Field(None, ge=0, lt=1 << 63, description="The write that the answer must include.")
    explain: bool = Field(False, description="Adds the factors of each score and what decay suppressed.")

    def request(self, query: str | None, vector: list[float] | None = None, **rest: Any) -> RecallRequest:
        """The engine's request. Raises InvalidArgument."""
        half_life: float | Unset | None = UNSET if self.half_life is None else parse_half_life(self.half_life)
        return RecallRequest(
            query=query,
            vector=None if vector is None else as_vector(vector),
            half_life=half_life,
            as_of=None if self.as_of is None else parse_timestamp(self.as_of, field="as_of"),
            min_seq=self.min_seq,
            explain=self.explain,
            **rest,
        )


class QueryBody(RecallOptions):
    """A query as text or as a vector."""

    query: str | None = Field(None, max_length=1_000_000, examples=["where does Ann live?"])
    vector: VectorIn | None = Field(None, description="Instead of the text.")
    top_k: TopK = 5

    @model_validator(mode="after")
    def _text_or_vector(self) -> QueryBody:
        if (self.query is None) == (self.vector is None):
            raise ValueError("query: give exactly one of query (text) and vector")
        return self


class RecallBody(QueryBody):
    """POST /recall."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"query": "where does Ann live?", "top_k": 3},
                {"query": "where does Ann live?", "half_life": "30d", "explain": True},
            ]
        }
    )
    type: OptionalType = None
    filters: JsonObject | None = Field(None, description="Equalities on payload fields, before the top k.")
    hybrid: bool | None = Field(None, description="Mix in keyword hits; absent: as configured.")

    def to_request(self) -> RecallRequest:
        """The engine's request. Raises InvalidArgument."""
        rest = {"memory_type": self.type, "filters": self.filters, "hybrid": self.hybrid}
        return self.request(self.query, self.vector, top_k=self.top_k, **rest)


class ScoresBody(RecallBody):
    """POST /recall_with_scores. `exact` and `case_sensitive` hold with the compat profile; else any word counts."""

    exact: bool = True
    case_sensitive: bool = False

    def to_request(self) -> RecallRequest:
        """The engine's request. Raises InvalidArgument."""
        return replace(super().to_request(), exact=self.exact, case_sensitive=self.case_sensitive)


class BatchBody(RecallOptions):
    """POST /recall_batch."""

    queries: list[Annotated[str, Field(max_length=1_000_000)]] = Field(max_length=256)
    top_k: TopK = 5
    type: OptionalType = None
    filters: JsonObject | None = None
    hybrid: bool | None = None


class ContextBody(RecallOptions):
    """POST /recall_with_context: the context is part of what is looked for."""

    query: str = Field(max_length=1_000_000)
    context: JsonObject
    top_k: TopK = 5
    type: OptionalType = None


class KeywordBody(BaseModel):
    """POST /keyword_search."""

    term: str = Field(min_length=1, max_length=10_000)
    exact: bool = Field(True, description="The term as it stands, anywhere in the payload's text.")
    case_sensitive: bool = False
    top_k: TopK = 50
    type: OptionalType = None


class HybridBody(RecallOptions):
    """POST /hybrid_recall_with_scores."""

    query: str = Field(max_length=1_000_000)
    terms: list[Annotated[str, Field(min_length=1, max_length=10_000)]] | None = Field(None, max_length=64)
    boost: Annotated[float, Field(ge=1.0, le=100.0, allow_inf_nan=False)] = 2.0
    top_k: TopK = 5
    exact: bool = True
    case_sensitive: bool = False
    type: OptionalType = None


class SearchBody(QueryBody):
    """POST /memories/search."""

    offset: int = Field(0, ge=0, le=MOST_AT_ONCE)
    memory_type: OptionalType = None
    filters: JsonObject | None = None
    hybrid: bool | None = None


class LinkBody(BaseModel):
    """POST /link."""

    from_coord: Coord
    to_coord: Coord
    type: OptionalType = "related"
    weight: Finite = 1.0


class GraphLinkBody(BaseModel):
    """POST /graph/link."""

    from_coord: Coord
    to_coord: Coord
    link_type: OptionalType = "related"
    strength: Finite = 1.0
    metadata: JsonObject | None = None


class CoordsBody(BaseModel):
    """POST /payloads_by_coords."""

    coords: list[Coord | Annotated[list[CoordinateNumber], Field(min_length=1, max_length=4096)]] = Field(
        max_length=1000
    )


class LinkLine(BaseModel):
    """One link of POST /graph/links."""

    from_coord: Coord
    to_coord: Coord
    link_type: TypeName = "related"
    strength: Finite = Field(1.0, ge=0)
    metadata: JsonObject = Field(default_factory=dict)

    def edge(self, *, field: str) -> Edge:
        """The engine's edge. Raises InvalidArgument."""
        source = parse_coordinate(self.from_coord, field=f"{field}from_coord")
        target = parse_coordinate(self.to_coord, field=f"{field}to_coord")
        return Edge(source, target, self.link_type, self.strength, self.metadata)


class LinksBody(BaseModel):
    """POST /graph/links."""

    links: list[LinkLine] = Field(max_length=MOST_AT_ONCE)
    skip_missing: bool = Field(False, description="Leave out links whose ends hold no memory.")


class ExportLine(StoreOptions):
    """One memory of POST /memories/import, as `soma export-memories` writes it."""

    coordinate: list[CoordinateNumber] = Field(min_length=1, max_length=4096)
    payload: Payload
    memory_type: TypeName
    importance_norm: Finite
    ingested: Time
    accessed: Time
    access_count: int = Field(0, ge=0)
    hold: bool = False
    expires_at: Time | None = None
    model_revision: Annotated[str, Field(max_length=256)] = "client"

    def exported(self, *, field: str = "") -> ExportedMemory:
        """The engine's memory: nothing is read out of the payload. Raises InvalidArgument naming `field` + name."""
        item = StoreItem(
            coordinate=make_coordinate(self.coordinate, field=f"{field}coordinate"),
            payload=self.payload,
            memory_type=self.memory_type,
            timestamp=None if self.timestamp is None else parse_timestamp(self.timestamp, field=f"{field}timestamp"),
            importance=self.importance,
            vector=None if self.vector is None else as_vector(self.vector),
            features=self.features,
            pinned=self.pinned,
            hold=self.hold,
        )
        return ExportedMemory(
            item,
            importance_norm=self.importance_norm,
            ingested=parse_timestamp(self.ingested, field="ingested"),
            accessed=parse_timestamp(self.accessed, field="accessed"),
            access_count=self.access_count,
            expires_at=None if self.expires_at is None else parse_timestamp(self.expires_at, field="expires_at"),
            model_revision=self.model_revision,
        )


class ImportBody(BaseModel):
    """POST /memories/import."""

    items: list[ExportLine] = Field(max_length=1000)
    replace: bool = Field(False, description=REPLACE)


class Staying(BaseModel):
    """A coordinate, and the memory types that stay there."""

    coord: Coord
    stay: list[TypeName] = Field(min_length=1, max_length=1000)


class PruneBody(BaseModel):
    """POST /memories/prune."""

    places: list[Staying] = Field(max_length=1000)
