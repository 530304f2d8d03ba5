"""POST requests to URLs from clients and operators, with limits and an SSRF guard.

A host name is resolved once. Each of its addresses is checked, and the connection goes to one of the checked
addresses, so a DNS answer that changes later has no effect (DNS rebinding). Certificates are verified against
the name.

One module because the connection must go to the address that was checked, on every path.
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
from socket import SOCK_STREAM, create_connection, getaddrinfo

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
"""The share of the timeout for name resolution, and for each connection attempt."""

_ADDRESSES_AT_MOST = 3
_HOSTS_AT_ONCE = 64
_CONNECTIONS_AT_ONCE = 64
_PORTS = {"http": 80, "https": 443}
_FIRST_FREE_PORT = 1024

# Everything but global unicast. Python's own tables are incomplete in older versions.
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
# Teredo and 6to4 (2001::/23, 2002::/16) reach any IPv4 address. No webhook receiver uses them.
_IPV6_REFUSED = [ip_network(text) for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
_NAT64 = IPv6Network("64:ff9b::/96")


class PostUndeliverable(Exception):
    """The POST got no response. `reason` is a static identifier without parts of the URL."""

    def __init__(self, reason: str, *, retryable: bool) -> None:
        self.reason, self.retryable = reason, retryable
        """Whether a retry with the same URL may succeed."""
        super().__init__(reason)


class _NotConnected(PostUndeliverable):
    """No server received the request, so another address may be tried."""


@dataclass(frozen=True, kw_only=True)
class _Target:
    """The parsed URL."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


Resolve = Callable[[str, int], Sequence[str]]
"""Takes a host and a port. Returns IP addresses, or raises OSError or UnicodeError."""


def resolve_with_system(host: str, port: int) -> list[str]:
    """Return the addresses from the system's resolver without duplicates, in its order."""
    found = getaddrinfo(host, port, type=SOCK_STREAM)
    return list(dict.fromkeys(str(socket_address[0]) for *_, socket_address in found))


def is_public(address: str) -> bool:
    """Return whether an IP address is public. For NAT64, the embedded IPv4 address decides."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return not _is_in_networks(ip, _IPV4_REFUSED)
    if ip in _NAT64:
        return is_public(str(IPv4Address(ip.packed[-4:])))
    return ip in _IPV6_GLOBAL and not _is_in_networks(ip, _IPV6_REFUSED)


def _is_in_networks(ip: IPv4Address | IPv6Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(ip in network for network in networks)


class Outbound:
    """Posts to URLs from clients and operators. Thread-safe.

    Unless private addresses are allowed, only `https` is accepted, on port 443, 80 or from 1024. `timeout_s`
    is the limit of a whole call. `tls` replaces the usual certificate authorities.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
        resolve: Resolve = resolve_with_system,
    ) -> None:
        self._allow_private, self._timeout_s, self._resolve = allow_private, timeout_s, resolve
        self._tls = tls
        self._lock = threading.Lock()
        self._made_pools: PoolManager | None = None

    def check_url(self, url: str) -> None:
        """Check a URL without resolving its name. Raises PostUndeliverable."""
        self._parse_target(url)

    def connect(self, url: str) -> None:
        """Connect to the server of a URL, with TLS for `https`, and send nothing.

        Raises PostUndeliverable as `post` does.
        """
        target = self._parse_target(url)
        *others, last = self._resolve_allowed(target)[:_ADDRESSES_AT_MOST]
        for address in others:
            try:
                return self._connect(target, address)
            except _NotConnected:
                continue
        return self._connect(target, last)

    def _connect(self, target: _Target, address: str) -> None:
        try:
            with create_connection((address, target.port), self._timeout_s * _CONNECT_SHARE) as raw:
                if target.scheme == "https":
                    context = self._tls or _make_tls_context()
                    context.wrap_socket(raw, server_hostname=target.host).close()
        except ssl.SSLCertVerificationError:
            raise PostUndeliverable("certificate_refused", retryable=True) from None
        except TimeoutError:
            raise _NotConnected("connect_timeout", retryable=True) from None
        except OSError:
            raise _NotConnected("connection_failed", retryable=True) from None

    def post(self, url: str, *, body: bytes, headers: Mapping[str, str]) -> int:
        """Post a body and return the HTTP status. Redirects are not followed.

        Raises PostUndeliverable if there is no response. The status is known once the head has arrived. The
        body is read only so that the connection can be reused; a long or slow one closes the connection.
        """
        deadline = time.monotonic() + self._timeout_s
        target = self._parse_target(url)
        *others, last = self._resolve_allowed(target)[:_ADDRESSES_AT_MOST]
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
        # Created when first used: loading the authorities takes 50 ms and some MB, and most processes need
        # none.
        with self._lock:
            if self._made_pools is None:
                # A pool manager ignores proxies in the environment and netrc, and keeps no cookies.
                self._made_pools = PoolManager(
                    num_pools=_HOSTS_AT_ONCE,
                    maxsize=_CONNECTIONS_AT_ONCE,
                    ssl_context=self._tls or _make_tls_context(),
                )
                self._made_pools.pool_classes_by_scheme = POOLS
            return self._made_pools

    def _parse_target(self, url: str) -> _Target:
        target = _parse_url(url)
        if not self._allow_private:
            if target.scheme != "https":
                raise PostUndeliverable("https_required", retryable=False)
            if target.port < _FIRST_FREE_PORT and target.port not in _PORTS.values():
                raise PostUndeliverable("port_refused", retryable=False)
        return target

    def _resolve_allowed(self, target: _Target) -> list[str]:
        addresses = self._resolve_host(target)
        if not addresses:
            raise PostUndeliverable("name_not_resolved", retryable=True)
        # All addresses must be public. A name with one private address is not trusted for the others.
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise PostUndeliverable("address_refused", retryable=False)
        return addresses

    def _resolve_host(self, target: _Target) -> list[str]:
        answer: Future[list[str]] = Future()

        def ask() -> None:
            try:
                answer.set_result(list(self._resolve(target.host, target.port)))
            except (OSError, UnicodeError) as error:
                answer.set_exception(error)

        # A resolver may take half a minute if its servers do not answer, and cannot be interrupted.
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
            # Without its cause: the text contains the URL.
            raise _classify_error(error) from None
        _finish_response(response)
        return response.status


def _make_tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    # A slim container has no certificate authorities.
    context.load_verify_locations(certifi.where())
    return context


def _parse_url(url: str) -> _Target:
    # Parsers disagree about a backslash, a space and a control character.
    if not all("!" <= letter <= "~" and letter != "\\" for letter in url):
        raise PostUndeliverable("url_not_understood", retryable=False)
    try:
        parts = parse_url(url)
    except LocationParseError:
        raise PostUndeliverable("url_not_understood", retryable=False) from None
    # The parser ignores an empty user.
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


def _finish_response(response: BaseHTTPResponse) -> None:
    try:
        is_whole = len(response.read(_MAX_ANSWER_BYTES + 1)) <= _MAX_ANSWER_BYTES
    except (
        HTTPError,
        OSError,
        ValueError,
    ):  # http.client raises this for a chunk of negative length
        is_whole = False
    if is_whole:
        response.release_conn()
    else:
        response.close()


def _classify_error(error: Exception) -> PostUndeliverable:
    if isinstance(error, NewConnectionError):
        if isinstance(error.__cause__, ssl.SSLCertVerificationError):
            return PostUndeliverable("certificate_refused", retryable=True)
        return _NotConnected("connection_failed", retryable=True)
    if isinstance(error, ConnectTimeoutError):
        return _NotConnected("connect_timeout", retryable=True)
    if isinstance(error, ReadTimeoutError | TimeoutError):
        return PostUndeliverable("timeout", retryable=True)
    return PostUndeliverable("connection_cut", retryable=True)
