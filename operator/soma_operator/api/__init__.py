"""Room: the API. Pydantic models of SomaMemory and SomaMemoryBackup, the one source of their defaults, rules and CRDs.

One module a concern; `resources` has the wrappers that parse an object, `conditions` the closed enums of condition
types and reasons, `errors` the typed refusal of a bad spec. Pure values: no I/O, and no import from other rooms.
Fields are described by the string below them: `kubectl explain` shows it.
"""

from soma_operator.api.backup import SomaMemoryBackupSpec, SomaMemoryBackupStatus
from soma_operator.api.conditions import BackupConditionType, Condition, ConditionStatus, MemoryConditionType, Reason
from soma_operator.api.errors import Problem, SpecError
from soma_operator.api.resources import API_VERSION, GROUP, VERSION, ObjectMeta, SomaMemory, SomaMemoryBackup
from soma_operator.api.spec import DriftPolicy, Mode, SomaMemorySpec
from soma_operator.api.status import SomaMemoryStatus

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "BackupConditionType",
    "Condition",
    "ConditionStatus",
    "DriftPolicy",
    "MemoryConditionType",
    "Mode",
    "ObjectMeta",
    "Problem",
    "Reason",
    "SomaMemory",
    "SomaMemoryBackup",
    "SomaMemoryBackupSpec",
    "SomaMemoryBackupStatus",
    "SomaMemorySpec",
    "SomaMemoryStatus",
    "SpecError",
]
