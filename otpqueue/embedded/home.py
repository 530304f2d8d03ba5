"""The folder of one instance: its lock, its private files, its ports."""

import fcntl
import os
import secrets
import socket
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from otpqueue.embedded.errors import AlreadyRunning, DataUnusable, EmbeddedError

_PORTS = range(20000, 32000)
_PORT_TRIES = 200


class EngineHome:
    """A data folder that one process at a time may use, as a context manager.

    The lock is the kernel's (flock on the file `lock`), so it is free again as soon as its holder is dead,
    however it died. Keep the folder on a local disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock: int | None = None

    def acquire(self) -> Self:
        """Make the folder if needed and take its lock.

        Raises AlreadyRunning if another process holds it, DataUnusable if the folder is not ours.
        """
        if self._lock is not None:
            return self
        made = not self.path.exists()
        private_folder(self.path)
        if made and os.geteuid() == 0:
            # Where user namespaces are refused PostgreSQL runs as another user, who must get to its folder.
            self.path.chmod(0o711)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode().strip()
            os.close(descriptor)
            raise AlreadyRunning(self.path, holder) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor
        return self

    def release(self) -> None:
        """Free the lock; may be repeated. The file stays: to remove it could free somebody else's lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def private_folder(path: Path) -> None:
    """Make a folder that only its owner may enter. Raises DataUnusable if it exists and we may not use it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise DataUnusable(
            f"{path} belongs to another user (id {path.stat().st_uid}): remove it or choose another"
        )


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600, whole or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # mkstemp makes it 0600
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    Path(name).replace(path)


def password(path: Path) -> str:
    """Return the password kept in a file, made at first use; its characters need no quoting in a URL."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24).encode())
    return path.read_text()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses now.

    It lies below the range the kernel gives to outgoing connections (32768 up on Linux, ip(7), 49152 up on
    macOS): otherwise a client that reconnects while its server is down could be given the server's port and
    meet itself.
    """
    for _ in range(_PORT_TRIES):
        port = secrets.choice(_PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise EmbeddedError(
        f"no free TCP port between {_PORTS.start} and {_PORTS.stop} on 127.0.0.1; choose one yourself"
    )
