"""The simulator as an HTTP server: uvicorn, extended so that the application can cut a connection."""

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from otpqueue.simulator.app import create_app
from otpqueue.simulator.middleware import CUT_EXTENSION
from otpqueue.simulator.options import Options
from otpqueue.simulator.state import SimulatorState
from otpqueue.simulator.storage import StateFile, StateFileError

BACKLOG = 2048
KEEP_ALIVE_S = 75
START_TIMEOUT_S = 10.0
TICK_S = 1.0
"""Maximum age of the Date header in seconds."""


class CuttingProtocol(HttpToolsProtocol):
    """HTTP/1.1 protocol that lets a request abort its connection, by an ASGI extension."""

    def on_message_begin(self) -> None:
        """Add the extension to each request; called by the parser."""
        super().on_message_begin()
        self.scope["extensions"] = {CUT_EXTENSION: {"cut": self.transport.abort}}


class _SimulatorServer(uvicorn.Server):
    """A server that wakes up once per second instead of ten times, and stops immediately."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        """Update the Date header until the server stops; called by uvicorn."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), TICK_S)

    def stop(self) -> None:
        """Stop serving. Thread-safe."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # it has already ended
                self._loop.call_soon_threadsafe(self._woken.set)


class RunningSimulator:
    """A simulator on its own thread; `url` is its base URL.

    Raises `StateFileError` when `state_file` cannot be read.
    """

    def __init__(self, options: Options, listener: socket.socket, *, state_file: Path | None = None) -> None:
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self.state = SimulatorState(options)
        self._kept = kept = StateFile(state_file, self.state) if state_file is not None else None
        if kept is not None:
            kept.load()
        self._listener = listener
        self._server = _SimulatorServer(
            uvicorn.Config(
                create_app(options, self.state, state_file=kept),
                http=CuttingProtocol,
                loop="asyncio",
                ws="none",
                lifespan="on",
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=0,
                server_header=False,
                access_log=False,
                log_config=None,
                log_level="critical",
            )
        )
        self._thread = threading.Thread(target=self._run, name="infobip-simulator", daemon=True)

    def start(self) -> None:
        """Start serving; returns when it accepts requests."""
        self._thread.start()
        for _ in range(int(START_TIMEOUT_S / 0.005)):
            if self._server.started:
                return
            self._thread.join(0.005)
            if not self._thread.is_alive():
                break
        raise RuntimeError("the simulator did not start")

    def stop(self) -> None:
        """Stop within a second, and abort open requests."""
        self._server.stop()
        self._thread.join()

    def _run(self) -> None:
        with self._listener:
            asyncio.run(self._server.serve(sockets=[self._listener]))
        if self._kept is not None:
            self._kept.save()  # changes of the last requests before the stop


@contextmanager
def running(
    options: Options, *, host: str = "127.0.0.1", port: int = 0, state_file: Path | None = None
) -> Iterator[RunningSimulator]:
    """Run a simulator in this process for the length of a `with`; port 0 takes a free one.

    With `state_file` its state is kept. Raises OSError when the address is not available, and
    `StateFileError` when the file cannot be read.
    """
    listener = _listen(host, port)
    try:
        simulator = RunningSimulator(options, listener, state_file=state_file)
    except StateFileError:
        listener.close()
        raise
    simulator.start()
    try:
        yield simulator
    finally:
        simulator.stop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only on sockets that name their protocol; with it on, every
    # answer on a kept-alive connection waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener


def serve(options: Options, *, host: str, port: int, state_file: Path | None = None) -> None:
    """Run the simulator until SIGTERM or SIGINT; to be called on the main thread.

    Writes one line to standard error, saying where it listens. Raises OSError when the address is not
    available, and `StateFileError` when the state file cannot be read.
    """
    asked_to_stop = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        asked_to_stop.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with running(options, host=host, port=port, state_file=state_file) as simulator:
            sys.stderr.write(f"Infobip simulator listens on {simulator.url}\n")
            sys.stderr.flush()
            asked_to_stop.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
