"""The connection pool, how long anything may take, and how work is run.

| who calls                                             | gets                                               |
|-------------------------------------------------------|----------------------------------------------------|
| `connection`: reads, and what must not be run again   | autocommit; every passing trouble is unavailable   |
| `run`: one statement that writes                      | the same, run again after a deadlock               |
| `transaction`: several statements, all or nothing     | a transaction, run again from its start            |
| `fetch`: one statement of the hot path, a constant    | as `run`, without SQLAlchemy around the statement  |
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.store import sessions
from otpqueue.store.prepared import prepare
from otpqueue.store.sessions import TimeLimits
from otpqueue.telemetry import metrics

Result = TypeVar("Result")

_DEADLOCKS = frozenset({"40001", "40P01"})
"""Serialization failure, deadlock: Postgres rolled the statement back so that others could continue."""

_UNIQUE_VIOLATION = "23505"

_WRONG_SESSION = frozenset({"25006", "25P03"})
"""Read-only (a former primary), session ended while idle in a transaction.

psycopg reports them as programming errors. A new connection fixes them.
"""

_TRIES = 30
"""If sessions insert the same row, one succeeds per try. The last needs as many tries as sessions."""

_PAUSE_S = 0.005


def make_engine(
    url: str, *, pool_size: int, limits: TimeLimits | None = None, pgbouncer: bool = False
) -> Engine:
    """Return an engine with at most `pool_size` connections; it connects when first used.

    Statements run in autocommit unless `transaction` is used: most operations are one statement, and a
    transaction around one statement costs two more round trips.

    With `pgbouncer`, nothing relies on a session: no prepared statements, and no startup options, which
    PgBouncer refuses. The role must set the statement time-outs then; all limits but `wait_s` are ignored.

    Raises ArgumentError or ValueError for a URL that cannot be read.
    """
    limits = limits or TimeLimits()
    parsed = make_url(url)
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    sessions.check_options(parsed.query)
    engine = create_engine(
        parsed.difference_update_query(["options"]),
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=limits.wait_s,
        # A ping would cost a round trip each time. `replace_if_dead` detects a closed connection without one.
        pool_pre_ping=False,
        pool_use_lifo=True,
        pool_reset_on_return=None,
        # The text of an error ends up in logs.
        hide_parameters=True,
        connect_args=sessions.build_arguments(limits, given=parsed.query, pgbouncer=pgbouncer),
    )
    # Before SQLAlchemy's own first query.
    event.listen(engine, "connect", sessions.check_encoding, insert=True)
    event.listen(engine, "checkout", sessions.replace_if_dead)
    event.listen(engine, "handle_error", sessions.hide_details)
    if pgbouncer:
        event.listen(engine, "connect", sessions.read_times_as_utc)
        event.listen(engine, "first_connect", sessions.check_defaults)
        event.listen(engine, "first_connect", sessions.check_statement_timeout)
    else:
        event.listen(engine, "connect", sessions.enforce_settings)
    return engine


def allow_time(conn: Connection, seconds: float) -> None:
    """Set the time-out for the rest of this transaction: for each statement, lock and idle pause."""
    conn.execute(
        text(
            "SELECT set_config(name, :limit, true) FROM unnest(ARRAY['statement_timeout', 'lock_timeout', "
            "'idle_in_transaction_session_timeout']) AS t (name)"
        ),
        {"limit": f"{sessions.to_milliseconds(seconds)}ms"},
    )


@contextmanager
def connection(engine: Engine) -> Iterator[Connection]:
    """Check a connection out, in autocommit.

    Raises DatabaseUnavailable when no connection is available in time, when it breaks, when a statement takes
    too long, and when it was the victim of a deadlock.
    """
    try:
        with _lent(engine) as conn:
            yield conn
    except DBAPIError as error:
        if _sqlstate(error) in _DEADLOCKS:
            raise DatabaseUnavailable(retry_after_s=1) from error
        raise


def run(engine: Engine, work: Callable[[Connection], Result]) -> Result:
    """Run `work` on a connection in autocommit and return what it returns.

    `work` runs again from its start after a deadlock or a serialization failure. It must contain one writing
    statement, which Postgres has rolled back then, and only reads after it. Raises DatabaseUnavailable as
    `connection` does; a statement that may have been executed never runs again.
    """
    return _until_it_passes(engine, work, _DEADLOCKS)


def transaction(engine: Engine, work: Callable[[Connection], Result]) -> Result:
    """Run `work` in one transaction and return what it returns; `work` may be run again from its start.

    It runs again after a deadlock, a serialization failure, or a unique violation (another session inserted
    the row first). Raises DatabaseUnavailable as `connection` does.
    """

    def whole(conn: Connection) -> Result:
        with conn.begin():
            return work(conn)

    isolated = engine.execution_options(isolation_level="READ COMMITTED")
    return _until_it_passes(isolated, whole, {*_DEADLOCKS, _UNIQUE_VIOLATION})


def snapshot(engine: Engine, work: Callable[[Connection], Result]) -> Result:
    """Run read-only `work` in one snapshot of the database.

    `work` may run again from its start. Raises DatabaseUnavailable as `connection` does.
    """

    def whole(conn: Connection) -> Result:
        with conn.begin():
            return work(conn)

    isolated = engine.execution_options(isolation_level="REPEATABLE READ")
    return _until_it_passes(isolated, whole, _DEADLOCKS)


def _until_it_passes(
    engine: Engine, work: Callable[[Connection], Result], conflicts: Collection[str]
) -> Result:
    def once() -> Result:
        with _lent(engine) as conn:
            return work(conn)

    return _retry(once, conflicts)


def _retry(work: Callable[[], Result], conflicts: Collection[str]) -> Result:
    """Call `work` until it raises none of these SQLSTATEs; report a persistent deadlock as unavailable."""
    for attempt in range(1, _TRIES + 1):
        try:
            return work()
        except (DBAPIError, psycopg.Error) as error:
            sqlstate = _sqlstate(error)
            if sqlstate not in conflicts:
                raise
            if attempt == _TRIES:
                if sqlstate in _DEADLOCKS:
                    raise DatabaseUnavailable(retry_after_s=1) from error
                raise
        time.sleep(random.random() * _PAUSE_S * attempt)  # noqa: S311 - spreads retries, guards nothing
    raise AssertionError("unreachable")


def fetch(
    on: Engine | Connection, statement: str, parameters: Mapping[str, Any], *, retry_unique: bool = False
) -> Sequence[Any]:
    """Execute one constant statement in autocommit and return its rows as named tuples.

    For the hot path: psycopg prepares the statement once per connection, and SQLAlchemy compiles no
    expression, which costs more than the statement itself. `statement` names its parameters as `%(name)s`. It
    is executed again after a deadlock or a serialization failure, and with `retry_unique` after a unique
    violation, since Postgres has rolled it back then. On a connection that is already checked out it is
    executed once.

    Raises DatabaseUnavailable as `connection` does.
    """
    if isinstance(on, Connection):
        return on.exec_driver_sql(statement, dict(parameters)).all()
    engine = on
    conflicts = {*_DEADLOCKS, _UNIQUE_VIOLATION} if retry_unique else _DEADLOCKS
    return _retry(lambda: _fetch(engine, statement, parameters), conflicts)


def _fetch(engine: Engine, statement: str, parameters: Mapping[str, Any]) -> Sequence[Any]:
    try:
        proxy = engine.raw_connection()
    except (PoolTimeout, DBAPIError, psycopg.Error) as error:
        raise _unavailable(error) from error
    metrics.change_gauge(metrics.CONNECTIONS_IN_USE, 1)
    conn = cast("psycopg.Connection[Any]", proxy.driver_connection)
    try:
        return prepare(statement).execute(conn, proxy.info, parameters)
    except psycopg.Error as error:
        sessions.keep_first_line(error)
        wrong_session = error.sqlstate in _WRONG_SESSION
        if conn.closed or wrong_session:
            proxy.invalidate(error)
        if error.sqlstate in _DEADLOCKS:
            raise
        if isinstance(error, psycopg.OperationalError) or conn.closed or wrong_session:
            raise _unavailable(error) from error
        raise
    finally:
        metrics.change_gauge(metrics.CONNECTIONS_IN_USE, -1)
        proxy.close()


def _unavailable(error: Exception) -> DatabaseUnavailable:
    why = "pool_exhausted" if isinstance(error, PoolTimeout) else "unavailable"
    metrics.count(metrics.DATABASE_FAILURES, why)
    return DatabaseUnavailable(retry_after_s=1)


@contextmanager
def _lent(engine: Engine) -> Iterator[Connection]:
    """Check a connection out; raise deadlocks and programming errors unchanged."""
    try:
        with engine.connect() as conn:
            metrics.change_gauge(metrics.CONNECTIONS_IN_USE, 1)
            try:
                yield conn
            except DBAPIError as error:
                if _sqlstate(error) in _WRONG_SESSION:
                    conn.invalidate(error)
                raise
            finally:
                metrics.change_gauge(metrics.CONNECTIONS_IN_USE, -1)
    except PoolTimeout as error:
        raise _unavailable(error) from error
    except DBAPIError as error:
        sqlstate = _sqlstate(error)
        if sqlstate in _DEADLOCKS:
            raise
        # psycopg's OperationalError covers what is not a programming error: failed, refused or broken
        # connections, statement and lock time-outs, a server that is full or shutting down, and PgBouncer's
        # own errors.
        if isinstance(error, OperationalError) or error.connection_invalidated or sqlstate in _WRONG_SESSION:
            raise _unavailable(error) from error
        raise


def _sqlstate(error: Exception) -> str | None:
    """Return the SQLSTATE of an error, psycopg's own or one wrapped by SQLAlchemy."""
    return getattr(getattr(error, "orig", error), "sqlstate", None)
