"""The Celery application and the Redis client, with timeouts that suit callers and workers."""

from __future__ import annotations

import ssl
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.exceptions import KombuError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from otpqueue.jobs import ALL, SOCKET_TIMEOUT_S

_CONNECTIONS_AT_MOST = 4096
_WORKER_TIMEOUT_S = 10
_HEARTBEAT_S = 10
_RECONNECT_S = 2


class _Connection(Connection):
    """A connection for workers and beat, which reconnects every two seconds.

    Celery itself waits longer after each failure, up to half a minute, a third of the time that a code may
    wait.
    """

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Connection:
        super().ensure_connection(*args, **{"interval_max": _RECONNECT_S, **kwargs})  # type: ignore[no-untyped-call]
        return self


class _Amqp(AMQP):  # type: ignore[misc]
    Connection = _Connection


def make_celery(broker: str, *, quick: bool) -> Celery:
    """Return a Celery application that knows our queues. It connects when it is first used.

    `quick` is for publishers, which must fail quickly. A worker waits for its broker.
    """
    app = Celery("otpqueue", broker=broker, set_as_current=False, amqp=_Amqp)
    app.conf.update(
        task_routes={job.name: {"queue": job.queue} for job in ALL},
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        timezone="UTC",
        # Jobs are wake-ups: a lost or duplicate one does no harm, so acknowledge each at once.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_build_worker_options(broker),
        broker_use_ssl=_build_tls_options(broker),
        # Only for AMQP. A worker leaves an unresponsive broker after two missed heartbeats.
        broker_heartbeat=_HEARTBEAT_S,
        # Both settings concern jobs that a lost connection returns to the queue. Ours are acknowledged at
        # once.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_enable_prefetch_count_reduction=False,
    )
    if quick:
        app.conf.update(
            broker_connection_timeout=SOCKET_TIMEOUT_S,
            broker_pool_acquire_timeout=SOCKET_TIMEOUT_S,
            broker_transport_options=_build_publisher_options(broker),
        )
    return app


def _build_worker_options(broker: str) -> dict[str, Any]:
    # Otherwise worker and beat wait forever for the answer of a broker that has become unresponsive.
    return _build_amqp_timeouts(_WORKER_TIMEOUT_S) if _is_amqp(broker) else {}


def _build_publisher_options(broker: str) -> dict[str, Any]:
    # Without `max_retries` kombu reconnects forever, whatever `retry=False` says.
    options: dict[str, Any] = {"max_retries": 0, "interval_start": 0, "interval_step": 0, "interval_max": 0}
    if broker.startswith(("redis", "valkey")):
        options |= {"socket_timeout": SOCKET_TIMEOUT_S, "socket_connect_timeout": SOCKET_TIMEOUT_S}
    if _is_amqp(broker):
        # Without confirms, a message to a broker that is unresponsive, full or shutting down is lost
        # silently.
        options |= _build_amqp_timeouts(SOCKET_TIMEOUT_S) | {"confirm_publish": True}
    return options


def _is_amqp(broker: str) -> bool:
    return broker.startswith(("amqp", "pyamqp"))


def _build_amqp_timeouts(seconds: float) -> dict[str, Any]:
    return {"read_timeout": seconds, "write_timeout": seconds}


def _build_tls_options(broker: str) -> dict[str, Any] | None:
    # By default kombu verifies no certificate of `rediss`, and no host name of `amqps`.
    if broker.startswith("rediss"):
        return {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    # None means the host of the URL.
    return {"server_hostname": None} if broker.startswith("amqps") else None


_BAD_OPTION = "has an unknown or invalid option after its `?`"


def check_broker(url: str) -> None:
    """Check a broker URL without connecting. Raises ValueError without the URL."""
    try:
        Connection(url)  # type: ignore[no-untyped-call]
    except (KombuError, TypeError, ValueError):
        raise ValueError(_BAD_OPTION) from None


def connect_redis(url: str) -> Redis:
    """Return a Redis client with short timeouts and without retries. It connects when it is first used.

    Raises ValueError for an invalid URL. The text does not contain it.
    """
    try:
        client = _make_redis(url)
        client.connection_pool.make_connection()
    except (RedisError, TypeError, ValueError):
        raise ValueError(_BAD_OPTION) from None
    return client


def _make_redis(url: str) -> Redis:
    return Redis.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        # Each thread uses at most one, and threads are bounded. Beyond the default of 100, others would fail.
        max_connections=_CONNECTIONS_AT_MOST,
    )
