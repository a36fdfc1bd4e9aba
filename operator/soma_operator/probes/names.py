"""From a name to addresses, so that a name server that does not answer holds up nobody but who asked for the name.

`getaddrinfo` cannot be cancelled. On the event loop's own threads a handful of stalled names would stop every other
look-up of the process, those of the API server too. So each look-up has a thread of its own; how many there are is
bounded by the probes under way, because a probe keeps its turn until its look-ups have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterable

MOST_ADDRESSES = 4
"""Of one name: whoever owns the name decides how many there are."""

Lookup = Callable[[str], tuple[str, ...]]


def resolve(host: str) -> tuple[str, ...]:
    """The addresses of `host`, in the order of preference; raises OSError where there is none. Blocks."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))[:MOST_ADDRESSES]


class Names:
    """For one event loop. A name that is being looked up is not looked up a second time.

    `admits` says of an address whether the operator may connect to it: a name may lead to the operator's own node.
    """

    def __init__(self, lookup: Lookup = resolve, admits: Callable[[str], bool] = lambda address: True) -> None:
        self._lookup = lookup
        self._admits = admits
        self._under_way: dict[str, asyncio.Future[tuple[str, ...]]] = {}

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The addresses of `host` that may be connected to; raises OSError where the name has none.

        May be cancelled; the look-up then goes on.
        """
        found = await asyncio.shield(self._under_way.get(host) or self._begin(host))
        return tuple(address for address in found if self._admits(address))

    async def quiet(self, hosts: Iterable[str]) -> None:
        """Until none of these names is being looked up."""
        pending = [self._under_way[host] for host in hosts if host in self._under_way]
        await asyncio.gather(*pending, return_exceptions=True)

    def _begin(self, host: str) -> asyncio.Future[tuple[str, ...]]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[str, ...]] = loop.create_future()
        self._under_way[host] = future

        def settle(found: tuple[str, ...], error: BaseException | None) -> None:
            self._under_way.pop(host, None)
            if future.done():
                return
            if error is None:
                future.set_result(found)
            else:
                future.set_exception(error)
                future.exception()  # whoever asked may be gone by now

        def work() -> None:
            found: tuple[str, ...] = ()
            problem: OSError | None = None
            try:
                found = self._lookup(host)
            except OSError as error:
                problem = error
            except Exception:  # such as a name with a NUL: whoever waits must hear of it
                problem = OSError("not a name")
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(settle, found, problem)

        # A daemon: a stalled look-up must not hold up the end of the process.
        threading.Thread(target=work, name="probe-name", daemon=True).start()
        return future
