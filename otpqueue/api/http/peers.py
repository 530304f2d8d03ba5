"""Peers: the address of a caller, and whether it uses HTTPS, as trusted proxies report them.

`X-Forwarded-For` is read from its right end, where the nearest proxy writes. The address is used for the log,
for the limits of calls without an API key, and for the limits of console log-ins. `X-Forwarded-Proto` decides
whether a call used HTTPS. `Forwarded` (RFC 7239) is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import falcon

from otpqueue.settings import TrustedProxies

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Peer:
    """The caller's end of a connection."""

    address: Address | None
    https: bool

    @property
    def network(self) -> str | None:
        """The network of the address, which may be logged: /24, or /48 for IPv6."""
        return None if self.address is None else _find_network(self.address)


@dataclass(frozen=True)
class Peers:
    """Finds the peer of a call. `trusted` is the number of proxies in front of the API, or their networks."""

    trusted: TrustedProxies

    def find_peer(self, req: falcon.Request) -> Peer:
        """Return the peer of a call."""
        nearest = _parse_address(req.remote_addr or "")
        if not self._trusts(nearest, hops=0):
            return Peer(nearest, req.scheme == "https")
        given = [word.strip().lower() for word in (req.get_header("X-Forwarded-Proto") or "").split(",")]
        # Each of several hops must have used HTTPS: otherwise the call was readable on its way.
        https = set(given) == {"https"} if any(given) else req.scheme == "https"
        return Peer(self._farthest(nearest, req.get_header("X-Forwarded-For") or ""), https)

    def _farthest(self, nearest: Address | None, forwarded_for: str) -> Address | None:
        address, hops = nearest, 0
        for text in reversed(forwarded_for.split(",")):
            if not self._trusts(address, hops=hops):
                break
            before = _parse_address(text)
            if before is None:
                break
            address, hops = before, hops + 1
        return address

    def _trusts(self, address: Address | None, *, hops: int) -> bool:
        if isinstance(self.trusted, int):
            return hops < self.trusted
        return address is not None and any(address in network for network in self.trusted)


@lru_cache(maxsize=1024)
def _find_network(address: Address) -> str:
    bits = 24 if address.version == 4 else 48
    return str(ip_network((address, bits), strict=False))


@lru_cache(maxsize=1024)
def _parse_address(text: str) -> Address | None:
    """Return the address in `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::1` or `[2001:db8::1]:4711`."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
