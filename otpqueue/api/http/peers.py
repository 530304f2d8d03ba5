"""Who is at the other end, and whether by HTTPS: what trusted proxies say counts, nobody else's word.

`X-Forwarded-For` is read from its right end, where the nearest proxy writes. It serves the log, the limits of
calls without an API key, and those of log-ins to the console; `X-Forwarded-Proto` serves the rule that plain
HTTP is refused. `Forwarded` (RFC 7239) is not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import falcon

from otpqueue.settings import TrustedProxies

Address = IPv4Address | IPv6Address


@dataclass(frozen=True)
class Peer:
    """The other end of a call."""

    address: Address | None
    https: bool

    @property
    def network(self) -> str | None:
        """The network the address is in, which is what may be logged: /24, or /48 of IPv6."""
        return None if self.address is None else _network(self.address)


@dataclass(frozen=True)
class Peers:
    """Tells who calls. `trusted` is how many proxies stand before us, or in which networks they are."""

    trusted: TrustedProxies

    def of(self, req: falcon.Request) -> Peer:
        """Return the peer of a call."""
        nearest = _address(req.remote_addr or "")
        if not self._trusts(nearest, hops=0):
            return Peer(nearest, req.scheme == "https")
        given = [word.strip().lower() for word in (req.get_header("X-Forwarded-Proto") or "").split(",")]
        # Of several words each must say it: one that did not come by HTTPS has been read on its way.
        https = set(given) == {"https"} if any(given) else req.scheme == "https"
        return Peer(self._farthest(nearest, req.get_header("X-Forwarded-For") or ""), https)

    def _farthest(self, nearest: Address | None, forwarded_for: str) -> Address | None:
        address, hops = nearest, 0
        for text in reversed(forwarded_for.split(",")):
            if not self._trusts(address, hops=hops):
                break
            before = _address(text)
            if before is None:
                break
            address, hops = before, hops + 1
        return address

    def _trusts(self, address: Address | None, *, hops: int) -> bool:
        if isinstance(self.trusted, int):
            return hops < self.trusted
        return address is not None and any(address in network for network in self.trusted)


@lru_cache(maxsize=1024)
def _network(address: Address) -> str:
    bits = 24 if address.version == 4 else 48
    return str(ip_network((address, bits), strict=False))


@lru_cache(maxsize=1024)
def _address(text: str) -> Address | None:
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
