"""Who is looked at next: fair between namespaces, so that one with many silent back ends delays only its own."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

from soma_operator.catalog.back_ends import Endpoint


class Turns:
    """Endpoints that wait for their look, in the queues of the namespaces that use them.

    At most `at_once` looks are under way, and at most `per_namespace` on the account of one namespace. The next turn
    goes to the namespace with the fewest under way; of equals to the one that had no turn for longest.
    """

    def __init__(self, at_once: int, per_namespace: int) -> None:
        self._at_once = at_once
        self._per_namespace = per_namespace
        self._queues: dict[str, dict[Endpoint, None]] = {}
        self._waiting: dict[Endpoint, set[str]] = {}
        self._under_way: Counter[str] = Counter()
        self._served: dict[str, int] = {}
        self._order = itertools.count(1)

    def wait(self, endpoint: Endpoint, namespaces: Iterable[str]) -> None:
        """Queue `endpoint` for these namespaces; whichever gets a turn first pays for it."""
        for namespace in namespaces:
            self._queues.setdefault(namespace, {})[endpoint] = None
            self._waiting.setdefault(endpoint, set()).add(namespace)

    def waits(self, endpoint: Endpoint) -> bool:
        """Whether it is queued."""
        return endpoint in self._waiting

    def withdraw(self, endpoint: Endpoint) -> None:
        """It need not be looked at any more."""
        for namespace in self._waiting.pop(endpoint, set()):
            queue = self._queues[namespace]
            queue.pop(endpoint, None)
            if not queue:
                del self._queues[namespace]
                if not self._under_way[namespace]:
                    self._served.pop(namespace, None)

    def take(self) -> tuple[Endpoint, str] | None:
        """The endpoint to look at now, and the namespace that pays; None while nothing waits or all turns are taken."""
        if self._under_way.total() >= self._at_once:
            return None
        able = [namespace for namespace in self._queues if self._under_way[namespace] < self._per_namespace]
        if not able:
            return None
        namespace = min(able, key=lambda name: (self._under_way[name], self._served.get(name, 0)))
        endpoint = next(iter(self._queues[namespace]))
        self._served[namespace] = next(self._order)
        self._under_way[namespace] += 1
        self.withdraw(endpoint)
        return endpoint, namespace

    def done(self, namespace: str) -> None:
        """A look on the account of `namespace` has ended."""
        self._under_way[namespace] -= 1
        if not self._under_way[namespace]:
            del self._under_way[namespace]
            if namespace not in self._queues:
                self._served.pop(namespace, None)
