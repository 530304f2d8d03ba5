"""An embedded Valkey server, which implements the Redis protocol."""

import os
import re
import signal
import socket
from pathlib import Path

from otpqueue.embedded.binaries import find_valkey_server
from otpqueue.embedded.engine import Engine
from otpqueue.embedded.home import load_password, write_private
from otpqueue.embedded.orphans import end_orphans
from otpqueue.embedded.process import ChildProcess, bare_environment

_STOP = (signal.SIGTERM,)
_PING_SECONDS = 2


class Valkey(Engine):
    """A Valkey server on 127.0.0.1 with a password; see `Engine` for the arguments.

    A durable server appends each command to a file that is synced every second; a non-durable server keeps no
    data after its end. It never evicts keys, because a queue must not lose messages silently.
    """

    name = "valkey"

    @property
    def url(self) -> str:
        """`redis://:PASSWORD@127.0.0.1:PORT/0`. Raises EmbeddedError before the first start."""
        self._require_process()
        return f"redis://:{self._password()}@127.0.0.1:{self.port}/0"

    def _prepare_child(self) -> ChildProcess:
        server = find_valkey_server()
        end_orphans(self.home, self.home / "server.pid", _STOP, server.resolve().name)
        configuration = self.home / "server.conf"
        write_private(configuration, self._configuration())
        return ChildProcess(
            self.name,
            [server, _literal(configuration)],
            ready=self._ping,
            env=bare_environment(),
            log=self.log,
            stop_signals=_STOP,
            death_signal=_STOP[0],
            cwd=self.home,
        )

    def _configuration(self) -> bytes:
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": _quoted(self.home),
            "pidfile": _quoted(self.home / "server.pid"),
            "requirepass": self._password(),
            "save": '""',
            "appendonly": "yes" if self.durable else "no",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "tcp-keepalive": "60",
            # Wake-ups per second when idle; the default is ten.
            "hz": "2",
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items()).encode()

    def _password(self) -> str:
        return load_password(self.home / "password")

    def _ping(self) -> None:
        # Without a client library, which takes longer to import than the server to start.
        with socket.create_connection(("127.0.0.1", self.port), timeout=_PING_SECONDS) as connection:
            connection.sendall(f"AUTH {self._password()}\r\nPING\r\n".encode())
            with connection.makefile("rb") as answers:
                answered = [answers.readline().decode().strip() for _ in range(2)]
        if answered != ["+OK", "+PONG"]:
            raise ConnectionError(f"answered {answered}")


def _quoted(path: Path) -> str:
    r"""Return a path as a value in valkey.conf: in double quotes, \xHH for every byte that could mean more.

    Source: sdssplitargs() in src/sds.c of Valkey.
    """
    plain = re.compile(rb"[A-Za-z0-9 _./+,@:=-]")
    encoded = (chr(byte) if plain.match(bytes([byte])) else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f'"{"".join(encoded)}"'


def _literal(path: Path) -> str:
    """Return the configuration file's path as an argument: one with `*`, `?` or `[` is taken for a pattern.

    A pattern that matches nothing is skipped silently: the server would run with its defaults, on port 6379
    and without a password. Source: loadServerConfig() in src/config.c of Valkey.
    """
    text = str(path)
    return re.sub(r"([\\*?\[])", r"\\\1", text) if re.search(r"[*?\[]", text) else text
