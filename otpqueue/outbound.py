"""POSTs to URLs that others have given us: bounded, and never a way into the network we stand in.

A name is resolved once, each of its addresses is looked at, and the connection goes to one of these very
addresses: a name that leads elsewhere a moment later leads nowhere. Certificates are held against the name.
"""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import SOCK_STREAM, getaddrinfo

import certifi
from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ReadTimeoutError,
)
from urllib3.util import parse_url

from otpqueue.bounded import POOLS

_MAX_ANSWER_BYTES = 64 * 1024
_CONNECT_SHARE = 1 / 3
"""Of the time: for the name, and for each connection, so that the whole call stays within it."""

_ADDRESSES_AT_MOST = 3
_HOSTS_AT_ONCE = 64
_CONNECTIONS_AT_ONCE = 64
_PORTS = {"http": 80, "https": 443}
_FIRST_FREE_PORT = 1024

# What is global unicast, less what only looks like it: Python's own tables know less in older versions.
_IPV4_REFUSED = [
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
]
_IPV6_GLOBAL = IPv6Network("2000::/3")
# Teredo and 6to4 (2001::/23, 2002::/16) lead to any IPv4 address; nobody receives webhooks there.
_IPV6_REFUSED = [ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
_NAT64 = IPv6Network("64:ff9b::/96")


class PostUndeliverable(Exception):
    """The POST got no answer; `reason` is a static word and holds nothing of the URL."""

    def __init__(self, reason: str, *, retryable: bool) -> None:
        self.reason, self.retryable = reason, retryable
        """Whether it may work later with the same URL."""
        super().__init__(reason)


class _NotConnected(PostUndeliverable):
    """Nobody has seen the call: another address may do."""


@dataclass(frozen=True, kw_only=True)
class _Target:
    """Where a URL leads."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


Resolve = Callable[[str, int], Sequence[str]]
"""Takes a host and a port; returns IP addresses, or raises OSError or UnicodeError."""


def ask_system(host: str, port: int) -> list[str]:
    """Return the addresses that the system's resolver gives, each once, in its order."""
    found = getaddrinfo(host, port, type=SOCK_STREAM)
    return list(dict.fromkeys(str(socket_address[0]) for *_, socket_address in found))


def is_public(address: str) -> bool:
    """Whether an IP address is one that anybody may have on the internet, an embedded one included."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return not _is_in(ip, _IPV4_REFUSED)
    if ip in _NAT64:
        return is_public(str(IPv4Address(ip.packed[-4:])))
    return ip in _IPV6_GLOBAL and not _is_in(ip, _IPV6_REFUSED)


def _is_in(ip: IPv4Address | IPv6Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(ip in network for network in networks)


class Outbound:
    """Posts to URLs that others have given. Thread-safe.

    Unless private addresses are allowed, only `https` is, on ports 443, 80 and from 1024 on. `timeout_s` is
    for all of a call. `tls` says whom to trust instead of the usual authorities.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = ask_system,
    ) -> None:
        self._allow_private, self._timeout_s, self._resolve = allow_private, timeout_s, resolve
        self._tls = tls
        self._lock = threading.Lock()
        self._made_pools: PoolManager | None = None

    def check(self, url: str) -> None:
        """Raise Undeliverable when the URL itself is refused; its name is not looked up."""
        self._target(url)

    def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> int:
        """Post a body and return the answer's HTTP status: a redirect's is an answer like any other.

        Raises PostUndeliverable when there is none. The status counts once the head is in: the rest is read
        so that the connection can be used again, and let go of when it is long or slow.
        """
        deadline = time.monotonic() + self._timeout_s
        target = self._target(url)
        *others, last = self._addresses(target)[:_ADDRESSES_AT_MOST]
        for address in others:
            try:
                return self._post(target, address, body, headers, deadline)
            except _NotConnected:
                continue
        return self._post(target, last, body, headers, deadline)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            if self._made_pools is not None:
                self._made_pools.clear()

    @property
    def _pools(self) -> PoolManager:
        # Made when first used: to read the authorities takes 50 ms and some MB, and most processes need none.
        with self._lock:
            if self._made_pools is None:
                # A pool manager looks at no proxy of the environment, no netrc, and keeps no cookies.
                self._made_pools = PoolManager(
                    num_pools=_HOSTS_AT_ONCE,
                    maxsize=_CONNECTIONS_AT_ONCE,
                    ssl_context=self._tls or _usual_authorities(),
                )
                self._made_pools.pool_classes_by_scheme = POOLS
            return self._made_pools

    def _target(self, url: str) -> _Target:
        target = _read(url)
        if not self._allow_private:
            if target.scheme != "https":
                raise PostUndeliverable("https_required", retryable=False)
            if target.port < _FIRST_FREE_PORT and target.port not in _PORTS.values():
                raise PostUndeliverable("port_refused", retryable=False)
        return target

    def _addresses(self, target: _Target) -> list[str]:
        addresses = self._resolved(target)
        if not addresses:
            raise PostUndeliverable("name_not_resolved", retryable=True)
        # All of them: a name that leads to us with one of its addresses is not to be trusted with the others.
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise PostUndeliverable("address_refused", retryable=False)
        return addresses

    def _resolved(self, target: _Target) -> list[str]:
        answer: Future[list[str]] = Future()

        def ask() -> None:
            try:
                answer.set_result(list(self._resolve(target.host, target.port)))
            except (OSError, UnicodeError) as error:
                answer.set_exception(error)

        # A resolver takes half a minute when its servers are silent, and cannot be told to hurry.
        threading.Thread(target=ask, name="resolve", daemon=True).start()
        try:
            return answer.result(self._timeout_s * _CONNECT_SHARE)
        except (OSError, UnicodeError):
            raise PostUndeliverable("name_not_resolved", retryable=True) from None

    def _post(
        self, target: _Target, address: str, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> int:
        pool = self._pools.connection_from_host(
            address, target.port, target.scheme, pool_kwargs={"server_hostname": target.host}
        )
        left = max(deadline - time.monotonic(), 0.001)
        try:
            response = pool.urlopen(
                "POST",
                target.path,
                body=body,
                headers={"User-Agent": "otpqueue", **headers, "Host": target.host_header},
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
                timeout=Timeout(connect=min(left, self._timeout_s * _CONNECT_SHARE), total=left),
            )
        except (HTTPError, OSError) as error:
            # Without its cause, whose text has the URL.
            raise _why(error) from None
        _finish(response)
        return response.status


def _usual_authorities() -> ssl.SSLContext:
    context = ssl.create_default_context()
    # A slim container has no authorities of its own.
    context.load_verify_locations(certifi.where())
    return context


def _read(url: str) -> _Target:
    # A backslash, a space or a control character is read in one way here and in another there.
    if not all("!" <= letter <= "~" and letter != "\\" for letter in url):
        raise PostUndeliverable("url_not_understood", retryable=False)
    try:
        parts = parse_url(url)
    except LocationParseError:
        raise PostUndeliverable("url_not_understood", retryable=False) from None
    # An empty one, too, which the parser overlooks.
    if re.match(r"[^/?#]*//[^/?#]*@", url):
        raise PostUndeliverable("userinfo_refused", retryable=False)
    if parts.scheme not in _PORTS or not parts.host or parts.port == 0:
        raise PostUndeliverable("url_not_understood", retryable=False)
    return _Target(
        scheme=parts.scheme,
        host=parts.host.strip("[]"),
        port=parts.port or _PORTS[parts.scheme],
        path=parts.request_uri,
    )


def _finish(response: BaseHTTPResponse) -> None:
    try:
        is_whole = len(response.read(_MAX_ANSWER_BYTES + 1)) <= _MAX_ANSWER_BYTES
    except (
        HTTPError,
        OSError,
        ValueError,
    ):  # ValueError: http.client's word for a chunk of a negative length
        is_whole = False
    if is_whole:
        response.release_conn()
    else:
        response.close()


def _why(error: Exception) -> PostUndeliverable:
    if isinstance(error, NewConnectionError):
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            return PostUndeliverable("certificate_refused", retryable=True)
        return _NotConnected("connection_failed", retryable=True)
    if isinstance(error, ConnectTimeoutError):
        return _NotConnected("connect_timeout", retryable=True)
    if isinstance(error, ReadTimeoutError | TimeoutError):
        return PostUndeliverable("timeout", retryable=True)
    return PostUndeliverable("connection_cut", retryable=True)
