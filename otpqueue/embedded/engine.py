"""The base class of the engines: a data folder, a fixed port and one child process."""

from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from otpqueue.embedded.errors import EmbeddedError
from otpqueue.embedded.home import free_port, make_private_folder
from otpqueue.embedded.process import ChildProcess


class Engine(ABC):
    """An embedded server on 127.0.0.1 with its data under `home`; a context manager starts and stops it.

    durable  False: faster, but data may be lost; see each engine
    port     TCP port; 0: a free port, chosen at the first start and kept

    The caller holds the lock of the parent folder, see `EngineHome`: two engines with one `home` stop
    each other.
    """

    name: str

    def __init__(self, home: Path, *, durable: bool = True, port: int = 0) -> None:
        self.home = home.resolve()
        self.durable = durable
        self._port = port
        self._process: ChildProcess | None = None

    def start(self) -> None:
        """Start the server and wait until it is ready; does nothing while it runs.

        Call it again after a crash: port, password and data stay. Call it on the main thread, see
        `ChildProcess.start`. Raises an EmbeddedError, and then leaves no process behind.
        """
        if not self.running:
            self.launch()
            self.wait_ready()

    def launch(self) -> None:
        """Start the server without waiting for it; `wait_ready` must follow.

        Call it on the main thread, while the server does not run. Raises an EmbeddedError.
        """
        make_private_folder(self.home)
        self._port = self._port or free_port()
        self._process = self._prepare_child()
        self._process.start()

    def wait_ready(self) -> None:
        """Wait until the server is ready. Raises an EmbeddedError, and then leaves no process behind."""
        process = self._require_process()
        try:
            process.wait_ready()
            self._finish_start()
        except BaseException:
            process.stop(grace=5)
            raise

    def stop(self) -> None:
        """Stop the server gracefully, or by SIGKILL after 30 seconds; does nothing if it is stopped."""
        if self._process is not None:
            self._process.stop()

    @property
    def running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._process is not None and self._process.running

    @property
    def pid(self) -> int:
        """The process id of the server. Raises EmbeddedError before the first start."""
        return self._require_process().pid

    @property
    def port(self) -> int:
        """The TCP port; 0 before the first start if none was given."""
        return self._port

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL for clients, with the password. Raises EmbeddedError before the first start."""

    @property
    def log(self) -> Path:
        """The log file of the server."""
        return self.home / "server.log"

    @abstractmethod
    def _prepare_child(self) -> ChildProcess:
        """Prepare the data folder and return the server as a child to start."""

    def _finish_start(self) -> None:  # noqa: B027 - an optional hook
        """Set up the running server before it is used."""

    def _require_process(self) -> ChildProcess:
        if self._process is None:
            raise EmbeddedError(f"{self.name} was never started. Call start() first.")
        return self._process

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
