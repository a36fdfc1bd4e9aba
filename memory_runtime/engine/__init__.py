"""The use cases of the memory: store, recall, link, delete, bulk, stats, over the ledger and the exact index.

`build_engine` is the one builder; nothing here is a module-level singleton. May import model, settings, scoring,
embedding, stores and telemetry.
"""

from memory_runtime.engine.build import Intake, build_engine, build_intake
from memory_runtime.engine.engine import MemoryEngine
from memory_runtime.engine.importing import ExportedMemory, Imported
from memory_runtime.engine.types import (
    UNSET,
    CoordinateHit,
    GraphPath,
    Hit,
    Neighbor,
    Readiness,
    RecallRequest,
    RecallResult,
    Stats,
    Suppressed,
    Unset,
)
from memory_runtime.engine.writing import RequestId

__all__ = [
    "UNSET",
    "CoordinateHit",
    "ExportedMemory",
    "Hit",
    "Imported",
    "Intake",
    "MemoryEngine",
    "Neighbor",
    "GraphPath",
    "Readiness",
    "RecallRequest",
    "RecallResult",
    "RequestId",
    "Stats",
    "Suppressed",
    "Unset",
    "build_engine",
    "build_intake",
]
