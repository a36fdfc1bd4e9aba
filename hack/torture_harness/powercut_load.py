"""`python -m hack.torture_harness.powercut_load DIR as-set|NORMAL SEED`: writes through our ledger, to be recorded.

Each acknowledgement is a line of `DIR/acknowledged.jsonl`: its place in the recording says when it was given.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from memory_runtime.model.records import Scope
from memory_runtime.scoring import ImportanceNormaliser
from memory_runtime.stores.contracts import Delete, Put, Unit
from memory_runtime.stores.sqlite import SQLiteLedger, opening, writer

ACKNOWLEDGED: Final = "acknowledged.jsonl"
WRITERS: Final = 3
COMMITS: Final = 60
SCOPE: Final = Scope("a", "b")


def main(arguments: Sequence[str]) -> int:
    """0 when all was written; 2 for wrong arguments."""
    if len(arguments) != 3 or arguments[1] not in ("as-set", "NORMAL"):
        print(__doc__, file=sys.stderr)
        return 2
    if arguments[1] != "as-set":
        level = f"PRAGMA synchronous={arguments[1]}"
        opening._WRITER = tuple(level if "synchronous" in one else one for one in opening._WRITER)  # type: ignore[assignment]  # noqa: SLF001
    # The log is folded in often, so that the recording has that too
    writer.CHECKPOINT_BYTES, writer.CHECKPOINT_REST_SECONDS = 2**17, 0.0
    asyncio.run(_load(Path(arguments[0]), int(arguments[2])))
    return 0


async def _load(directory: Path, seed: int) -> None:
    ledger = SQLiteLedger(
        directory,
        normalisers=lambda state: ImportanceNormaliser.loads(state) if state else ImportanceNormaliser(),
        observer=lambda _: None,
    )
    ledger.open()
    told = os.open(directory / ACKNOWLEDGED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    await asyncio.gather(*(_write(ledger, told, number, random.Random(seed + number)) for number in range(WRITERS)))
    os.close(told)
    ledger.close()


async def _write(ledger: SQLiteLedger, told: int, number: int, dice: random.Random) -> None:
    for turn in range(COMMITS):
        # Few coordinates, so that most are overwritten or deleted again
        coordinate = f"{float(number)},{float(dice.randrange(12))}"
        identity = uuid.uuid5(uuid.NAMESPACE_OID, coordinate)
        text = None if dice.random() < 0.2 else f"{number}-{turn} " + "x" * dice.randrange(6000)
        unit = Unit([Delete(identity, SCOPE, "m", at=1.0) if text is None else _put(identity, coordinate, text)])
        receipt = (await ledger.commit(unit)).receipts[0]
        if receipt.changed:
            line = {"id": identity.hex, "seq": receipt.seq, "text": text}
            os.write(told, (json.dumps(line) + "\n").encode())


def _put(identity: uuid.UUID, coordinate: str, text: str) -> Put:
    return Put(
        id=identity,
        scope=SCOPE,
        memory_type="m",
        coordinate=coordinate,
        payload=json.dumps({"text": text}),
        search_text=text,
        event_time=1.0,
        ingest_time=1.0,
        importance=2.0,
        vector=np.full(4, 0.5, np.float32),
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
