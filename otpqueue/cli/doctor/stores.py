"""Checks of Postgres, its schema, Redis and the broker."""

from __future__ import annotations

from collections.abc import Iterator

from redis.exceptions import RedisError, ResponseError
from sqlalchemy import make_url, text

from otpqueue.cli.doctor.findings import (
    CheckNotPossible,
    FindingDraft,
    report_failure,
    report_ok,
    report_warning,
)
from otpqueue.domain.errors import DatabaseMisconfigured, DatabaseUnavailable
from otpqueue.settings import SettingsError
from otpqueue.store import placement
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts

OLDEST_POSTGRES = 14


def require_database(parts: Parts) -> None:
    """Raise CheckNotPossible if Postgres cannot be used. The check `database` says why."""
    try:
        with connection(parts.engine) as conn:
            migrated = conn.execute(text("SELECT to_regclass('otp_requests') IS NOT NULL")).scalar_one()
    except (DatabaseUnavailable, SettingsError):
        raise CheckNotPossible("not checked, because Postgres cannot be used") from None
    if not migrated:
        raise CheckNotPossible("not checked, because the database is not migrated")


def check_database(parts: Parts) -> Iterator[FindingDraft]:
    """Connect to Postgres, and check its version and the search path."""
    _ = parts.engine  # rejects a URL that cannot be read
    url = make_url(parts.settings.require("database_url"))
    try:
        placement.check(parts.engine)
        with connection(parts.engine) as conn:
            version = int(conn.execute(text("SHOW server_version_num")).scalar_one()) // 10_000
    except DatabaseMisconfigured as error:
        yield report_failure(error.problem, "Fix the role or the database, see docs/operations.md.")
        return
    except DatabaseUnavailable as error:
        yield report_failure(
            f"Postgres does not answer: {_describe_cause(error)}",
            "Start Postgres, or correct DATABASE_URL.",
        )
        return
    where = url.host or "a local socket"
    yield report_ok(f"PostgreSQL {version} at {where}{f':{url.port}' if url.port else ''}")
    if version < OLDEST_POSTGRES:
        yield report_warning(
            f"PostgreSQL {version} gets no fixes any more", f"Upgrade to {OLDEST_POSTGRES} or newer."
        )


def _describe_cause(error: DatabaseUnavailable) -> str:
    """Return the first line of the driver's error, which contains no password."""
    original = getattr(error.__cause__, "orig", error.__cause__)
    return str(original or error).strip().splitlines()[0]


def check_migrations(parts: Parts) -> Iterator[FindingDraft]:
    """Compare the schema's revision with this version's."""
    from otpqueue.store.migrate import read_revision  # noqa: PLC0415 - Alembic is slow to import

    try:
        revision = read_revision(parts.engine)
    except (DatabaseUnavailable, SettingsError):
        raise CheckNotPossible("not checked, because Postgres cannot be used") from None
    if revision.current == revision.head:
        yield report_ok(f"the schema is at {revision.head}, that of this version")
    elif revision.current is None:
        yield report_failure("the database has no tables", "Run `otpqueue migrate`.")
    elif revision.is_known:
        yield report_failure(
            f"the schema is at {revision.current}, this version needs {revision.head}",
            "Run `otpqueue migrate`.",
        )
    else:
        yield report_failure(
            f"the schema is at {revision.current}, which this version does not know",
            "Install the otpqueue version that migrated the database.",
        )


def check_redis(parts: Parts) -> Iterator[FindingDraft]:
    """Write to Redis as rate limits do, and check that it evicts nothing."""
    client = parts.redis
    try:
        parts.limiter.check_redis()
    except ResponseError as error:
        word = str(error).split(" ", 1)[0]
        yield report_failure(
            f"Redis answers, but refuses writes ({word})",
            "Connect to the primary, and check its memory and the user's ACL.",
        )
        return
    except RedisError as error:
        yield report_failure(
            f"Redis does not answer ({type(error).__name__})", "Start Redis, or correct REDIS_URL."
        )
        return
    yield report_ok("Redis answers and accepts writes")
    try:
        memory = client.info("memory")
    except RedisError:  # an ACL may deny INFO
        return
    policy = memory.get("maxmemory_policy", "noeviction")
    if memory.get("maxmemory") and policy != "noeviction":
        yield report_warning(
            f"Redis evicts keys when its memory is full ({policy}), and with them limits and wake-ups",
            "Set maxmemory-policy to noeviction.",
        )


def check_broker(parts: Parts) -> Iterator[FindingDraft]:
    """Connect to Celery's broker."""
    kind = "RabbitMQ" if parts.settings.broker.startswith("amqp") else "Redis"
    try:
        with parts.publisher.connection_for_write() as broker:
            broker.ensure_connection(max_retries=1, timeout=5, interval_start=0)
    except Exception as error:
        if isinstance(error, SettingsError):
            raise
        name = "OTPQUEUE_BROKER_URL" if parts.settings.broker_url else "REDIS_URL"
        yield report_failure(
            f"the broker ({kind}) cannot be reached ({type(error).__name__})",
            f"Start it, or correct {name}: its host, user and virtual host.",
        )
        return
    yield report_ok(f"the broker ({kind}) answers")
