"""Which addresses the operator connects to. A name says nothing of that: whoever owns it decides where it leads."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LOCAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
        "::/128", "::1/128", "fe80::/10", "ff00::/8", "fd00:ec2::254/128",
    )
)  # fmt: skip
"""The operator's own pod, the node's metadata service (of AWS by IPv6 too), and what is no host at all."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def literal(host: str) -> Address | None:
    """The address that `host` is, in any form that the resolver takes for one, such as 0x7f.1; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def meanings(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 address that it carries: a packet to the one arrives at the other."""
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        for carried in (address.ipv4_mapped, address.sixtofour, address.teredo[1] if address.teredo else None):
            if carried is not None:
                yield carried


@dataclass(frozen=True, slots=True)
class Addresses:
    """Refuses what is local, `refused` (the API server, the node), and nothing that a policy names in `allowed`."""

    refused: tuple[Network, ...] = ()
    allowed: tuple[Network, ...] = ()

    def admit(self, address: str) -> bool:
        """Whether the operator may connect to this address (text, with or without a zone)."""
        found = literal(address.partition("%")[0])
        if found is None:
            return False
        if any(meaning in network for meaning in meanings(found) for network in self.allowed):
            return True
        return not any(meaning in network for meaning in meanings(found) for network in (*_LOCAL, *self.refused))


def networks(addresses: Iterable[str]) -> tuple[Network, ...]:
    """The addresses among these texts, each as the network of that one host."""
    found = (literal(text) for text in addresses)
    return tuple(ipaddress.ip_network(str(address)) for address in found if address is not None)
