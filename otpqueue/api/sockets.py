"""The sockets of this process, found by their descriptors: granian opens them and lets nobody near them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager


def limit_unread_answers(seconds: int) -> None:
    """Have the kernel cut connections of this process's servers whose peers take nothing for `seconds`.

    Connections inherit it from the listener. Linux alone has it: tcp(7), TCP_USER_TIMEOUT.
    """
    if sys.platform != "linux":
        return
    with _open() as found:
        ports = {
            sock.getsockname()[1]
            for sock in found
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        }
        for sock in found:
            if sock.getsockname()[1] in ports:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds * 1000)


def cut(peers: Collection[str]) -> None:
    """Shut the connections to these down, each `address:port`; what is closed already is let be."""
    with _open() as found:
        for sock in found:
            try:
                address, port = sock.getpeername()[:2]
                if f"{address}:{port}" in peers or f"[{address}]:{port}" in peers:
                    sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # a listener, or closed by now
                continue


@contextmanager
def _open() -> Iterator[list[socket.socket]]:
    """Yield duplicates of this process's TCP sockets: what is done to them is done to the originals."""
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
    except OSError:  # no socket
        os.close(copy)
        return None
