"""What the two engines have in common: a folder, a port for life, and one child process."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from otpqueue.embedded.errors import EmbeddedError
from otpqueue.embedded.home import free_port, private_folder
from otpqueue.embedded.process import ChildProcess


class Engine(ABC):
    """A server of ours on 127.0.0.1, with its data under `home`; a context manager that starts and stops it.

    durable  False: faster, and data may be lost; each engine says when
    port     TCP port; 0: a free one, chosen at the first start and kept

    The caller holds the lock of the folder above, see `EngineHome`: two engines on one `home` end each other.
    """

    name: str

    def __init__(self, home: Path, *, durable: bool = True, port: int = 0) -> None:
        self.home = home.resolve()
        self.durable = durable
        self._port = port
        self._process: ChildProcess | None = None

    def start(self) -> None:
        """Start the server and wait until it answers; does nothing while it runs.

        After a crash call it again: same port, same password, same data. Call it on the main thread, see
        `ChildProcess.start`. Raises an EmbeddedError, and then leaves no process behind.
        """
        if not self.running:
            self.launch()
            self.wait_ready()

    def launch(self) -> None:
        """Start the server without waiting for it; `wait_ready` must follow.

        Call it on the main thread, while the server does not run. Raises an EmbeddedError.
        """
        private_folder(self.home)
        self._port = self._port or free_port()
        self._process = self._prepare()
        self._process.start()

    def wait_ready(self) -> None:
        """Wait until the server answers. Raises an EmbeddedError, and then leaves no process behind."""
        process = self._known_process()
        try:
            process.wait_ready()
            self._started()
        except BaseException:
            process.stop(grace=5)
            raise

    def stop(self) -> None:
        """Stop the server in good order, at worst by SIGKILL after 30 seconds; does nothing if it is down."""
        if self._process is not None:
            self._process.stop()

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The process id of the server. Raises EmbeddedError before the first start."""
        return self._known_process().pid

    @property
    def port(self) -> int:
        """The TCP port; 0 before the first start if none was asked for."""
        return self._port

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect to, with the password. Raises EmbeddedError before the first start."""

    @property
    def log(self) -> Path:
        """The file that the server's own messages are appended to."""
        return self.home / "server.log"

    @abstractmethod
    def _prepare(self) -> ChildProcess:
        """Make the data folder ready and return the server as a child to start."""

    def _started(self) -> None:  # noqa: B027 - a hook that an engine may leave as it is
        """Do what needs the running server before it is handed over."""

    def _known_process(self) -> ChildProcess:
        if self._process is None:
            raise EmbeddedError(f"{self.name} was never started: call start() first")
        return self._process

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
