"""A private RabbitMQ node, to test otpqueue with RabbitMQ as the broker.

    python -m tests.faults.rabbitmq                  the short fault harness, on RabbitMQ
    python -m tests.faults.rabbitmq COMMAND ...      any command, with OTPQUEUE_BROKER_URL set
    python -m tests.faults.rabbitmq pytest -n 0 tests/worker/test_rabbitmq.py

`rabbitmq-server` is used where it is installed; where it is not, root on Debian or Ubuntu gets the package
(100 MB with Erlang; its service is not started), and other users a message and exit code 2.

The node listens on 127.0.0.1 alone, keeps everything in a temporary folder, has an epmd, a user and a virtual
host of its own, and so knows nothing of another RabbitMQ on the machine. On Linux it ends with this process,
however that ends.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import click

from otpqueue.embedded import ChildProcess
from otpqueue.embedded.process import bare_environment

# Debian's `rabbitmq-server` in PATH insists on root or its own user; these are what it starts.
_PLACES = ("/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin")
_PACKAGE = "rabbitmq-server"
_POLICY = Path("/usr/sbin/policy-rc.d")
_READY_S = 90


class NoRabbitMq(Exception):
    """RabbitMQ cannot be had here; the message says why and what to do."""


def find_server() -> Path | None:
    """Return the program that starts a node, or None where RabbitMQ is not installed."""
    path = os.pathsep.join((*_PLACES, os.environ.get("PATH", os.defpath)))
    found = shutil.which(_PACKAGE, path=path)
    return Path(found) if found else None


def install_server() -> Path:
    """Install the distribution's package without starting its service, and return the program.

    Raises NoRabbitMq where that cannot be done.
    """
    if not shutil.which("apt-get"):
        raise NoRabbitMq("rabbitmq-server is not installed, and there is no apt-get to install it with")
    if os.geteuid() != 0:
        raise NoRabbitMq("rabbitmq-server is not installed: `apt-get install rabbitmq-server` as root")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with _services_stay_down():
        for command in (["update"], ["install", "-y", "--no-install-recommends", _PACKAGE]):
            done = subprocess.run(["apt-get", *command], env=environment, stdout=sys.stderr, check=False)
    # Nor shall it start with the machine.
    subprocess.run(["update-rc.d", _PACKAGE, "disable"], stdout=sys.stderr, check=False)
    if done.returncode != 0 or (program := find_server()) is None:
        raise NoRabbitMq(f"apt-get could not install {_PACKAGE}; its output is above")
    return program


@contextmanager
def _services_stay_down() -> Iterator[None]:
    # A package asks this program whether it may start its service; 101 says no (invoke-rc.d(8)).
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def free_port() -> int:
    """Return an unused port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class RabbitMq:
    """One node that is ours alone; it keeps its address, its user and its queues over restarts.

    Also a context manager, which starts and stops it. Start it from the main thread (see ChildProcess).
    """

    def __init__(self, program: Path, home: Path) -> None:
        """`program` is what `find_server` found, `home` an empty folder."""
        self._port, distribution, epmd_port = free_port(), free_port(), free_port()
        self._password = secrets.token_hex(16)
        self._name = f"otpqueue-{secrets.token_hex(4)}"
        self._environment = bare_environment() | {
            "HOME": str(home),
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"{self._name}@localhost",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(home / "node.pid"),
            # With "input" the script becomes the Erlang machine, not its parent: signals reach it.
            "RABBITMQ_ALLOW_INPUT": "true",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput -kernel inet_dist_use_interface {127,0,0,1}",
        }
        self._write_configuration(home)
        self._home, self._program = home, program
        self._epmd = ChildProcess(
            "epmd",
            ["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"],
            ready=lambda: socket.create_connection(("127.0.0.1", epmd_port), 1).close(),
            env=self._environment,
            log=home / "epmd.log",
        )
        self._node = ChildProcess(
            "rabbitmq",
            [program],
            ready=self._answer,
            env=self._environment,
            log=home / "rabbitmq.log",
            cwd=home,
        )

    @property
    def url(self) -> str:
        """The broker URL of its user and virtual host."""
        return f"amqp://otpqueue:{self._password}@127.0.0.1:{self._port}/otpqueue"

    @property
    def password(self) -> str:
        """The user's password, which no log may hold."""
        return self._password

    @property
    def log(self) -> str:
        """What the node has written so far."""
        return (self._home / "rabbitmq.log").read_text(errors="replace")

    def start(self) -> None:
        """Start the node and wait until it takes connections. Raises ChildFailed if it does not."""
        for child in (self._epmd, self._node):
            child.start()
            child.wait_ready(_READY_S)

    def stop(self) -> None:
        """End the node in good order, and its epmd."""
        self._end_node()
        self._epmd.stop()

    def restart(self) -> None:
        """End the node in good order and start it again."""
        self._end_node()
        self.start()

    def kill(self) -> None:
        """End the node as a power failure does; `start` brings it back."""
        os.kill(self._node.pid, signal.SIGKILL)
        self._node.wait(10)

    def hang(self) -> None:
        """Stop the node in its tracks: connections stay, and nothing is answered until `go_on`."""
        os.kill(self._node.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let a node that hangs go on."""
        os.kill(self._node.pid, signal.SIGCONT)

    def control(self, *command: str) -> str:
        """Run `rabbitmqctl` on the node and return what it printed."""
        done = subprocess.run(
            [self._program.with_name("rabbitmqctl"), "--quiet", *command],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:  # SIGTERM as well: what has been started must not stay
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _end_node(self) -> None:
        if self._node.running:
            self.go_on()
        self._node.stop(grace=30)

    def _answer(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), 1) as connection:
            connection.settimeout(2)
            connection.sendall(b"AMQP\x00\x00\x09\x01")
            if not connection.recv(1):
                raise ConnectionResetError("hung up")

    def _write_configuration(self, home: Path) -> None:
        settings = {
            "listeners.tcp.1": f"127.0.0.1:{self._port}",
            "default_user": "otpqueue",
            "default_pass": self._password,
            "default_vhost": "otpqueue",
            "disk_free_limit.absolute": "1MB",
            "log.console.level": "info",
        }
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (home / "rabbitmq.conf").write_text(lines)
        (home / "rabbitmq-env.conf").write_text("")
        (home / "advanced.config").write_text("[].\n")
        (home / "enabled_plugins").write_text("[].\n")
        cookie = home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)


@contextmanager
def running(program: Path) -> Iterator[RabbitMq]:
    """Yield a node that runs in a temporary folder."""
    with (
        tempfile.TemporaryDirectory(prefix="otpqueue-rabbitmq-") as home,
        RabbitMq(program, Path(home)) as node,
    ):
        yield node


def main(arguments: Sequence[str]) -> int:
    """Run a command with a node of its own and return the command's exit code."""
    if arguments and arguments[0] in {"-h", "--help"}:
        click.echo(__doc__)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        program = find_server() or install_server()
    except NoRabbitMq as problem:
        click.echo(problem, err=True)
        return 2
    started = time.monotonic()
    with running(program) as node:
        click.echo(f"RabbitMQ is ready after {time.monotonic() - started:.1f} s: {node.url}", err=True)
        harness = [
            sys.executable,
            "-m",
            "tests.faults",
            "--broker",
            node.url,
            "--seed",
            "1",
            "--short",
            "--requests",
            "150",
        ]
        with subprocess.Popen(
            arguments or harness, env=os.environ | {"OTPQUEUE_BROKER_URL": node.url}
        ) as command:
            return _wait(command)


def _wait(command: subprocess.Popen[bytes]) -> int:
    try:
        return command.wait()
    except BaseException:  # Ctrl-C or SIGTERM: the command goes before its broker does
        command.terminate()
        with suppress(subprocess.TimeoutExpired):
            command.wait(30)
        command.kill()
        raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
