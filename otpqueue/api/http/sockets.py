"""The sockets of this process, found by their descriptors, since granian has no access to them."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

_NOT_OURS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


def check_address(host: str, port: int) -> None:
    """Raise OSError unless an address is free and can be listened on.

    The server shares its port among its processes, and would share it with other processes of the same user.
    """
    listens, missing = False, None
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            _try_to_listen(family, address)
            listens = True
        except OSError as error:
            if error.errno not in _NOT_OURS:
                raise
            missing = error  # a name may have an address of a family that this machine lacks
    if missing is not None and not listens:
        raise missing


def _try_to_listen(family: int, address: Any) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Ignores closed connections, but not listeners.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)


def limit_unread_answers(seconds: int) -> None:
    """Make the kernel close connections of this process's servers if the peer reads nothing for `seconds`.

    Connections inherit the option from the listener. Linux only: tcp(7), TCP_USER_TIMEOUT.
    """
    if sys.platform != "linux":
        return
    with _open_sockets() as found:
        ports = {
            sock.getsockname()[1]
            for sock in found
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        }
        for sock in found:
            if sock.getsockname()[1] in ports:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds * 1000)


def close_connections(peers: Collection[str]) -> None:
    """Shut down the connections to these peers, each `address:port`. Closed connections are ignored."""
    with _open_sockets() as found:
        for sock in found:
            try:
                address, port = sock.getpeername()[:2]
                if f"{address}:{port}" in peers or f"[{address}]:{port}" in peers:
                    sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # a listener, or closed by now
                continue


@contextmanager
def _open_sockets() -> Iterator[list[socket.socket]]:
    """Yield duplicates of this process's TCP sockets. Operations on them apply to the originals."""
    every = [sock for sock in map(_duplicate, os.listdir("/dev/fd")) if sock is not None]  # noqa: PTH208
    internet = {socket.AF_INET, socket.AF_INET6}
    try:
        yield [sock for sock in every if sock.family in internet and sock.type == socket.SOCK_STREAM]
    finally:
        for sock in every:
            sock.close()


def _duplicate(descriptor: str) -> socket.socket | None:
    try:
        copy = os.dup(int(descriptor))
    except OSError:  # closed since it was listed
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:  # not a socket
        os.close(copy)
        return None
