"""The mutants: which rule each breaks, how, and by which test it must die."""

from __future__ import annotations

from typing import Final

from hack.mutation.alone import ALONE
from hack.mutation.mutant import Mutant
from hack.mutation.operating import OPERATING
from hack.mutation.together import TOGETHER

MUTANTS: Final[tuple[Mutant, ...]] = (*ALONE, *TOGETHER, *OPERATING)
