"""The folder of one instance: its lock, its private files and its ports."""

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
    """A data folder that one process at a time may use; a context manager.

    The lock is the kernel's (flock on the file `lock`), so it is released whenever its
    holder ends, even by a crash. Keep the folder on a local disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock: int | None = None

    def acquire(self) -> Self:
        """Create the folder if needed and lock it.

        Raises AlreadyRunning if another process holds it, DataUnusable if the folder belongs to another user.
        """
        if self._lock is not None:
            return self
        made = not self.path.exists()
        make_private_folder(self.path)
        if made and os.geteuid() == 0:
            # Without user namespaces PostgreSQL runs as another user, which must be able to reach its folder.
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
        """Release the lock; may be repeated. Deleting the file could release another's lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_in_use(path: Path) -> bool:
    """Return whether a running process has locked the data folder `path`."""
    try:
        # A link could lead to the lock of another program.
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def make_private_folder(path: Path) -> None:
    """Create a folder of mode 0700. Raises DataUnusable if it exists and we cannot use it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise DataUnusable(
            f"{path} belongs to another user (id {path.stat().st_uid}): remove it or choose another"
        )


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 atomically."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # mkstemp makes it 0600
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    Path(name).replace(path)


def load_password(path: Path) -> str:
    """Return the password in a file, created on first use; its characters need no quoting in a URL."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24).encode())
    return path.read_text()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is not in use.

    It lies below the range the kernel gives to outgoing connections (32768 up on Linux, ip(7), 49152 up on
    macOS): otherwise a client that reconnects while its server is down could get the server's port as its
    own and connect to itself.
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
