"""The properties of every connection: time-outs, detection of dead connections, and required settings."""

from __future__ import annotations

import math
import select
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import Connection, ProgrammingError
from psycopg.conninfo import make_conninfo
from psycopg.types.datetime import TimestamptzLoader
from sqlalchemy import ExceptionContext
from sqlalchemy.exc import DisconnectionError

from otpqueue.domain.errors import DatabaseMisconfigured
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class TimeLimits:
    """Time-outs, in seconds."""

    wait_s: float = 2
    """For a free connection of the pool; and, at least 2 s, for opening a new one."""
    statement_s: float = 5
    """For one statement, including lock waits. The longest one ends 1000 requests at once."""
    lock_s: float = 2
    """For one lock."""
    idle_in_transaction_s: float = 10
    """Between two statements of a transaction. Only provisioning waits there."""


_PSYCOPGS_OWN = {"autocommit", "context", "cursor_factory", "prepare_threshold", "row_factory"}


def check_options(given: Mapping[str, Any]) -> None:
    """Raise ValueError for URL options that libpq does not know: every connection would fail."""
    try:
        make_conninfo(**{name: value for name, value in given.items() if name not in _PSYCOPGS_OWN})
    except ProgrammingError:
        raise ValueError("has an unknown option") from None
    if not all(str(given[name]).isdecimal() for name in given.keys() & {"connect_timeout"}):
        raise ValueError("has a connect_timeout that is no number")


def build_arguments(limits: TimeLimits, *, given: Mapping[str, Any], pgbouncer: bool) -> dict[str, Any]:
    """Return libpq's and psycopg's arguments of a connection.

    The `given` arguments of the URL win, except for settings that our statements and psycopg require.
    """
    ours: dict[str, Any] = {"application_name": "otpqueue", **_network(limits)}
    required = {"client_encoding": "UTF8"}
    if pgbouncer:
        ours["prepare_threshold"] = None
    else:
        options = (_options(_limits(limits)), str(given.get("options", "")), _options(RELIED_ON))
        required["options"] = " ".join(filter(None, options))
    return {name: value for name, value in ours.items() if name not in given} | required


def _network(limits: TimeLimits) -> dict[str, Any]:
    # A vanished host sends no reset. It is detected after about 10 s, also during a query.
    return {
        "connect_timeout": max(2, math.ceil(limits.wait_s)),
        "keepalives": 1,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }


RELIED_ON: Mapping[str, str] = {
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "default_transaction_isolation": "read committed",
}
"""The settings that our statements or psycopg require. A role or a database may have other defaults."""

_REPORTED = ("DateStyle", "IntervalStyle", "TimeZone", "standard_conforming_strings")
"""The ones among them that Postgres reports when a session starts."""


def _limits(limits: TimeLimits) -> dict[str, str]:
    return {
        "statement_timeout": str(to_milliseconds(limits.statement_s)),
        "lock_timeout": str(to_milliseconds(limits.lock_s)),
        "idle_in_transaction_session_timeout": str(to_milliseconds(limits.idle_in_transaction_s)),
    }


def _options(values: Mapping[str, str]) -> str:
    return " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in values.items())


def to_milliseconds(seconds: float) -> int:
    """Return whole milliseconds, at least 1: Postgres takes 0 for no limit."""
    return max(1, round(seconds * 1000))


def replace_if_dead(connection: Connection[Any], record: Any, _fairy: object) -> None:
    """Have the pool replace an idle connection that the server has closed, before a statement is sent on it.

    Between two statements a server sends nothing, so readable bytes or an end of file mean that it has closed
    the connection. Rare notices only cost a new connection. One system call, no round trip.
    """
    if not record.info.setdefault("lent", False):
        record.info["lent"] = True  # just made
    elif connection.closed or _has_something_to_read(connection.fileno()):
        raise DisconnectionError("the server has closed this connection")


def _has_something_to_read(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def hide_details(context: ExceptionContext) -> None:
    """Keep only the first line of Postgres's message: the others show a whole row, and end up in logs."""
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None:
            keep_first_line(error)


def keep_first_line(error: BaseException) -> None:
    """Reduce the text of a database error to its first line."""
    if error.args:
        error.args = (str(error.args[0]).partition("\n")[0],)


class _UtcLoader(TimestamptzLoader):
    def load(self, data: Any) -> datetime:
        return super().load(data).astimezone(UTC)


def read_times_as_utc(connection: Connection[Any], _record: object) -> None:
    """Return times as UTC even if the session has another time zone."""
    connection.adapters.register_loader("timestamptz", _UtcLoader)


def check_encoding(connection: Connection[Any], _record: object) -> None:
    """Refuse a database with an encoding other than UTF-8, which cannot store every character. No round trip.

    Raises DatabaseMisconfigured, with the connection closed.
    """
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in {None, "UTF8"}:
        _refuse(
            connection,
            f"the database's encoding is {encoding}, and must be UTF8: make another one with `CREATE "
            "DATABASE name ENCODING 'UTF8' TEMPLATE template0`, and restore a dump of this one into it",
        )


def enforce_settings(connection: Connection[Any], _record: object) -> None:
    """Set required settings that override our options, such as libpq's PGDATESTYLE and PGTZ."""
    reported = {name: connection.info.parameter_status(name) for name in _REPORTED}
    if any(value is not None and value != RELIED_ON[name.lower()] for name, value in reported.items()):
        for name, value in RELIED_ON.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        connection.commit()


def check_defaults(connection: Connection[Any], _record: object) -> None:
    """Check the required settings behind PgBouncer, where we cannot set them, except the time zone.

    Raises DatabaseMisconfigured, with the connection closed.
    """
    names = sorted(RELIED_ON.keys() - {"timezone"})
    found = connection.execute(
        "SELECT lower(name), setting FROM pg_settings WHERE lower(name) = ANY(%s)", (names,)
    ).fetchall()
    connection.rollback()
    wrong = {name: setting for name, setting in found if not _is_as_relied_on(name, setting)}
    if wrong:
        fix = "; ".join(f"ALTER ROLE ... SET {name} = '{RELIED_ON[name]}'" for name in sorted(wrong))
        listed = ", ".join(f"{name} = {setting}" for name, setting in sorted(wrong.items()))
        _refuse(
            connection,
            f"sessions through PgBouncer have {listed}. Run `{fix}`, then `RECONNECT` in PgBouncer",
        )


def _is_as_relied_on(name: str, setting: str) -> bool:
    # The order of reading dates does not matter: all dates are written year first.
    return setting.startswith("ISO") if name == "datestyle" else setting == RELIED_ON[name]


def _refuse(connection: Connection[Any], problem: str) -> None:
    connection.close()
    log.error("database_misconfigured", problem=problem)
    raise DatabaseMisconfigured(problem)


def check_statement_timeout(connection: Connection[Any], _record: object) -> None:
    """Warn if the role has no statement time-out and we cannot set one."""
    found = connection.execute("SHOW statement_timeout").fetchone()
    connection.rollback()
    if found == ("0",):
        log.warning("database_without_limits", hint="give the role a statement_timeout: docs/operations.md")
