"""What a reconcile works with: one place for its collaborators, so that nothing is a global."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from soma_operator.cluster.client import ClusterClient
from soma_operator.desired.children import Child, children
from soma_operator.desired.inputs import Defaults, Inputs
from soma_operator.events.recorder import Recorder
from soma_operator.observe.store import Store
from soma_operator.plan.drift import Corrections
from soma_operator.plan.steps import Verdict
from soma_operator.policy.addresses import Addresses
from soma_operator.policy.rules import Policy
from soma_operator.probes.prober import Prober
from soma_operator.reconcile.slots import RolloutSlots

_REMEMBERED = 20_000
_RENDERED = 64
"""Resources whose children are kept as rendered: while one rolls out, it is reconciled several times in a row."""


def now_text() -> str:
    """The present time as the API writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(slots=True)
class Workbench:
    """Collaborators of the reconcile, and what it remembers between two of them: never anything it could not find out
    again."""

    client: ClusterClient
    store: Store
    recorder: Recorder
    defaults: Defaults
    slots: RolloutSlots
    prober: Prober | None = None
    policy: Policy = field(default_factory=Policy)
    addresses: Addresses = field(default_factory=Addresses)
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], str] = now_text
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    corrections: Corrections = field(init=False)
    rendered: OrderedDict[Hashable, list[Child]] = field(default_factory=OrderedDict)

    def children(self, inputs: Inputs) -> list[Child]:
        """`desired.children`, without rendering anew what a moment ago came of the same inputs.

        Of a resource its identity and generation stand for its spec, which is all that children are made of.
        """
        meta = inputs.memory.metadata
        digests = (inputs.defaults, inputs.token_digest, inputs.credentials_digest)
        key = (meta.namespace, meta.name, meta.uid, meta.generation, *digests)
        found = self.rendered.get(key)
        if found is None:
            found = self.rendered[key] = children(inputs)
            if len(self.rendered) > _RENDERED:
                self.rendered.popitem(last=False)
        self.rendered.move_to_end(key)
        return found

    def trust(self, uid: str, verdict: Verdict) -> None:
        """Remember what a dry-run said. Forgetting costs one more dry-run an object, so forgetting all is fine."""
        if len(self.verdicts) >= _REMEMBERED:
            self.verdicts.clear()
        self.verdicts[uid] = verdict

    def __post_init__(self) -> None:
        self.corrections = Corrections(self.clock)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reconcile ended: when to come again by oneself (None: when something changes), and whether something
    failed."""

    again_in: float | None = None
    failed: bool = False
    result: str = "ok"
