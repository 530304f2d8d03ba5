"""Settings of PostgreSQL, Redis and the Celery broker."""

from __future__ import annotations

import re
from typing import ClassVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from otpqueue.settings.fields import (
    ALL,
    API_AND_WORKERS,
    Seconds,
    Secret,
    SettingsSubject,
    constant,
    has_valid_port,
    setting,
)


class DatabaseSettings(SettingsSubject):
    """Connections to PostgreSQL, Redis and the broker."""

    TITLE: ClassVar[str] = "Databases"
    USED_BY: ClassVar[str] = API_AND_WORKERS

    database_url: Secret = setting(
        None,
        "DATABASE_URL",
        "PostgreSQL 15 or newer, `postgresql://user:password@host/name`",
        used_by=ALL,
        example="postgresql://otpqueue:password@localhost/otpqueue",
    )
    database_pool: int = setting(
        8,
        "OTPQUEUE_DATABASE_POOL",
        "maximum connections per process; see [connections](operations.md#overload)",
        ge=2,
        le=200,
    )
    database_wait_s: Seconds = constant(
        2,
        "OTPQUEUE_TUNING_DATABASE_WAIT_S",
        "how long a call waits for a connection before it is answered 503",
        le=30,
    )
    database_statement_timeout_s: Seconds = constant(
        5,
        "OTPQUEUE_TUNING_DATABASE_STATEMENT_TIMEOUT_S",
        "`statement_timeout`; not set through PgBouncer",
        le=15,
    )
    database_lock_timeout_s: Seconds = constant(
        2, "OTPQUEUE_TUNING_DATABASE_LOCK_TIMEOUT_S", "`lock_timeout`; not set through PgBouncer", le=15
    )
    database_idle_in_transaction_s: Seconds = constant(
        10,
        "OTPQUEUE_TUNING_DATABASE_IDLE_IN_TRANSACTION_S",
        "`idle_in_transaction_session_timeout`; not set through PgBouncer",
        le=300,
    )
    database_pgbouncer: bool = setting(
        False, "OTPQUEUE_DATABASE_PGBOUNCER", "`DATABASE_URL` is a PgBouncer in transaction mode", used_by=ALL
    )
    redis_url: Secret = setting(
        None,
        "REDIS_URL",
        "Redis or Valkey, `redis://:password@host:6379/0`",
        used_by=ALL,
        example="redis://localhost:6379/0",
    )
    broker_url: Secret = setting(
        None,
        "OTPQUEUE_BROKER_URL",
        "Celery broker; for RabbitMQ `amqp://user:password@host/vhost`",
        used_by=ALL,
        shown_default="`REDIS_URL`",
    )

    def find_problems(self) -> list[str]:
        """Return a line for each URL that cannot be used."""
        problems = super().find_problems()
        if not _is_database(self.database_url):
            problems.append(
                "DATABASE_URL must be `postgresql://user:password@host:port/name`, with `@` in the user or "
                "the password as `%40`"
            )
        if not _is_redis(self.redis_url):
            problems.append("REDIS_URL must be `redis://:password@host:port/number`")
        if not _is_broker(self.broker_url):
            problems.append(
                "OTPQUEUE_BROKER_URL must be `amqp(s)://user:password@host:port/vhost`, or as REDIS_URL"
            )
        return problems


def _is_database(secret: SecretStr | None) -> bool:
    if secret is None:
        return True
    url = secret.get_secret_value()
    # The text after the first `@` is the host: error messages would show the rest of the password.
    is_ambiguous = url.partition("?")[0].count("@") > 1
    is_postgres = re.match(r"postgres(ql(\+psycopg)?)?://", url) is not None
    return is_postgres and not is_ambiguous and has_valid_port(url)


def _is_redis(secret: SecretStr | None) -> bool:
    if secret is None:
        return True
    try:
        parts = urlsplit(secret.get_secret_value())
        return parts.scheme == "unix" or (
            parts.scheme in {"redis", "rediss"}
            and parts.port != 0
            and re.fullmatch(r"/?[0-9]*", parts.path) is not None
        )
    except ValueError:  # an invalid port
        return False


def _is_broker(secret: SecretStr | None) -> bool:
    # The nodes of a cluster are separated by semicolons.
    return secret is None or all(_is_broker_url(url) for url in secret.get_secret_value().split(";"))


def _is_broker_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_amqp = parts.scheme in {"amqp", "amqps", "pyamqp"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port
        return False
    return is_amqp or _is_redis(SecretStr(url))
