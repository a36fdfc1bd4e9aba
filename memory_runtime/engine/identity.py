"""Which ledger this is, whatever process asks and wherever its copies are."""

from __future__ import annotations

import uuid

from memory_runtime.stores.sessions import Ledger, LedgerTransaction
from memory_runtime.stores.values import Facts


async def identity_of(ledger: Ledger) -> str:
    """The ledger's identity, drawn at the first call, the same for every replica on it."""

    def run(transaction: LedgerTransaction) -> str:
        transaction.remember(Facts.IDENTITY, str(uuid.uuid4()), replace=False)
        return transaction.view.facts()[Facts.IDENTITY]

    known = (await ledger.read(lambda view: view.facts())).get(Facts.IDENTITY)
    return known if known is not None else await ledger.transact(run)
