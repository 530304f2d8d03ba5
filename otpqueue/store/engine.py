"""The connection pool, and how a transaction is run."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from otpqueue.domain.errors import DatabaseUnavailable

Result = TypeVar("Result")

_RETRIED = {"40001": "serialization_failure", "40P01": "deadlock_detected"}
_TRIES = 30
"""Of several sessions that want to make the same row one gets in each time: the last needs a try for each."""

_PAUSE_S = 0.005


def make_engine(url: str, *, pool_size: int) -> Engine:
    """Return an engine with at most `pool_size` connections; it connects when first used.

    Statements run in autocommit unless `transaction` is used: most of ours are one statement, and a
    transaction around one statement costs two more round trips.
    """
    parsed = make_url(url)
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    return create_engine(
        parsed,
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=False,
        pool_use_lifo=True,
        pool_reset_on_return=None,
        # An error's text ends up in logs.
        hide_parameters=True,
        connect_args={"connect_timeout": 5, "application_name": "otpqueue", "options": "-c timezone=UTC"},
    )


@contextmanager
def connection(engine: Engine) -> Iterator[Connection]:
    """Lend a connection in autocommit.

    Raises DatabaseUnavailable when none can be had or it breaks.
    """
    try:
        with engine.connect() as conn:
            yield conn
    except (OperationalError, PoolTimeout) as error:
        if _sqlstate(error) in _RETRIED:
            raise
        raise DatabaseUnavailable(retry_after_s=1) from error


def transaction(engine: Engine, work: Callable[[Connection], Result]) -> Result:
    """Run `work` in one transaction and return what it returns; `work` may be run again from its start.

    It is, when Postgres reports a deadlock, a serialization failure, or a unique violation (another session
    made the row first). Raises DatabaseUnavailable when no connection can be had or it breaks.
    """
    for attempt in range(1, _TRIES + 1):
        try:
            with (
                connection(engine.execution_options(isolation_level="READ COMMITTED")) as conn,
                conn.begin(),
            ):
                return work(conn)
        except DBAPIError as error:
            retried = _sqlstate(error) in {*_RETRIED, "23505"}
            if not retried or attempt == _TRIES:
                raise
        time.sleep(random.random() * _PAUSE_S * attempt)  # noqa: S311 - spreads retries, guards nothing
    raise AssertionError("unreachable")


def _sqlstate(error: Exception) -> str | None:
    return getattr(getattr(error, "orig", None), "sqlstate", None)
