"""The collection: made where it is missing, checked where it is there; a clash is refused, and nothing changed."""

from __future__ import annotations

from typing import Any, Final

from qdrant_client import AsyncQdrantClient, models

from memory_runtime.settings import SettingsError
from memory_runtime.stores.qdrant.options import QdrantOptions

LEAST_SERVER: Final = (1, 16)
"""The first version with conditional upserts: an older one would ignore the condition and let a stale write win."""

TENANT, NAMESPACE, TYPE, SEQ, EPOCH, BAND, WEIGHT, EVENT_TIME, EXPIRES_AT, LAYOUT, GONE = (
    "tenant", "namespace", "memory_type", "seq", "epoch", "band", "log2_weight", "event_time", "expires_at", "layout",
    "gone",
)  # fmt: skip
"""The fields of a point. No payload of a memory leaves the ledger: what is erased there is nowhere else."""

_INTEGER: Final = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=True)
INDEXES: Final[dict[str, Any]] = {
    # is_tenant keeps one tenant's points together on disk: a search reads its own
    TENANT: models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True),
    NAMESPACE: models.PayloadSchemaType.KEYWORD,
    TYPE: models.PayloadSchemaType.KEYWORD,
    BAND: _INTEGER,
    SEQ: _INTEGER,
    EPOCH: _INTEGER,
    LAYOUT: models.PayloadSchemaType.INTEGER,
    WEIGHT: models.PayloadSchemaType.FLOAT,
    EVENT_TIME: models.PayloadSchemaType.FLOAT,
    EXPIRES_AT: models.PayloadSchemaType.FLOAT,
    # 0 or 1: a bool is matched as a number by some clients, and then matches nothing
    GONE: models.PayloadSchemaType.INTEGER,
}


async def ensure(client: AsyncQdrantClient, options: QdrantOptions, *, local: bool) -> bool:
    """Leaves a collection as the options want it; True where it had to be made. Raises SettingsError."""
    if not local:
        await _check_version(client)
    made = False
    if not await client.collection_exists(options.collection):
        made = await _create(client, options)
    info = await client.get_collection(options.collection)
    clash = clash_of(info.config, options, local=local)
    if clash is not None:
        raise clash
    if not local:
        await _ensure_indexes(client, options, info.payload_schema)
    return made


async def _check_version(client: AsyncQdrantClient) -> None:
    version = (await client.info()).version
    parts = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if parts < LEAST_SERVER:
        raise SettingsError(
            f"qdrant_url: Qdrant {version} has no conditional upserts, which keep a stale write from winning",
            setting="qdrant_url",
            remedy=f"run Qdrant {LEAST_SERVER[0]}.{LEAST_SERVER[1]} or later",
        )


async def _create(client: AsyncQdrantClient, options: QdrantOptions) -> bool:
    try:
        return await client.create_collection(
            options.collection,
            vectors_config=models.VectorParams(size=options.dim, distance=models.Distance.DOT),
            shard_number=options.shards,
            replication_factor=options.replicas,
            write_consistency_factor=options.consistency,
            quantization_config=_quantization(options),
        )
    except Exception:
        # another replica was quicker: then it is there, and is checked like any other
        if await client.collection_exists(options.collection):
            return False
        raise


def _quantization(options: QdrantOptions) -> models.ScalarQuantization | None:
    if options.quantization == "none":
        return None
    return models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
    )


async def _ensure_indexes(client: AsyncQdrantClient, options: QdrantOptions, present: dict[str, Any]) -> None:
    for field, kind in INDEXES.items():
        if field not in present:
            await client.create_payload_index(options.collection, field, field_schema=kind, wait=True)


def clash_of(config: models.CollectionConfig, options: QdrantOptions, *, local: bool) -> SettingsError | None:
    """Why a collection cannot be used, by the setting that it contradicts; None where it can."""
    vectors = config.params.vectors
    if not isinstance(vectors, models.VectorParams):
        return _clash("qdrant_collection", "named vectors", "one unnamed vector", options)
    checks: list[tuple[str, Any, Any]] = [
        ("vector_dim", vectors.size, options.dim),
        ("qdrant_collection", f"distance {vectors.distance.value}", f"distance {models.Distance.DOT.value}"),
    ]
    if not local:
        checks += [
            ("qdrant_quantization", _named(vectors.quantization_config or config.quantization_config),
             options.quantization),
            ("qdrant_shard_number", config.params.shard_number, options.shards),
            ("qdrant_replication_factor", config.params.replication_factor, options.replicas),
            ("qdrant_write_consistency_factor", config.params.write_consistency_factor, options.consistency),
        ]  # fmt: skip
    for setting, found, wanted in checks:
        if wanted is not None and found != wanted:
            return _clash(setting, found, wanted, options)
    return None


def _named(config: Any) -> str:
    if config is None:
        return "none"
    if isinstance(config, models.ScalarQuantization) and config.scalar.type is models.ScalarType.INT8:
        return "int8"
    return type(config).__name__


def _clash(setting: str, found: Any, wanted: Any, options: QdrantOptions) -> SettingsError:
    spare = f"{options.collection}_dim{options.dim}" if setting == "vector_dim" else f"{options.collection}_new"
    return SettingsError(
        f"{setting}: the collection {options.collection!r} has {found}, the settings say {wanted}",
        setting=setting,
        remedy=f"set what it has, or SOMA_QDRANT_COLLECTION={spare} to fill another from the ledger",
    )
