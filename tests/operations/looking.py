"""Helpers of the operations tests: rows, bounded waits, concurrent calls."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Engine, RowMapping, Table, make_url, select, text, update
from uuid_utils.compat import uuid7

from otpqueue import clock
from otpqueue.domain.errors import OtpqueueError
from otpqueue.domain.heartbeats import Heartbeat, Liveness, ProcessKind, get_queue_liveness
from otpqueue.domain.phone import PhoneNumber
from otpqueue.domain.request import Channel
from otpqueue.jobs import QUEUES
from otpqueue.store import checks as store_checks
from otpqueue.store import heartbeats as store_heartbeats
from otpqueue.store.accepting import NewRequest
from otpqueue.store.checks import OpenCheck
from otpqueue.store.engine import connection, make_engine
from otpqueue.store.heartbeats import ProcessReport
from otpqueue.store.schema import checks, otp_requests, refusals, send_attempts
from otpqueue.wiring import Parts
from tests.conftest import Engines

T = TypeVar("T")


class Left:
    """The possible remainder of a time that started after this was created, on a machine of any speed."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def of(self, whole_s: int) -> range:
        """Return the possible whole seconds that remain of `whole_s`."""
        return range(whole_s - math.ceil(time.monotonic() - self._begun), whole_s + 1)


@contextmanager
def connections_refused(engines: Engines, database_url: str) -> Iterator[None]:
    """Refuse all connections to a database during the block, as a restart of Postgres does."""
    name = make_url(database_url).database
    admin = make_engine(engines.postgres.url, pool_size=1)
    try:
        with connection(admin) as conn:
            conn.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            conn.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = :name AND backend_type = 'client backend'"
                ),
                {"name": name},
            )
        yield
    finally:
        with connection(admin) as conn:
            conn.exec_driver_sql(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        admin.dispose()


@dataclass(frozen=True)
class Rows:
    """The rows of the tables."""

    engine: Engine

    def request(self, request_id: UUID) -> RowMapping:
        """Return the row of a request."""
        return next(row for row in self.requests() if row["id"] == request_id)

    def requests(self) -> list[RowMapping]:
        """Return all requests, oldest first."""
        return self._all(otp_requests)

    def attempts(self, request_id: UUID | None = None) -> list[RowMapping]:
        """Return the attempts to send (one request), in order."""
        return self._of(send_attempts, request_id)

    def outcomes(self, request_id: UUID) -> list[str | None]:
        """Return the outcomes of the attempts to send one request, in order."""
        return [row["outcome"] for row in self.attempts(request_id)]

    def checks(self, request_id: UUID | None = None) -> list[RowMapping]:
        """Return the checks of codes (of one request), in order."""
        return self._of(checks, request_id)

    def refusals(self) -> list[RowMapping]:
        """Return the stored refusals."""
        return self._all(refusals)

    def change(self, request_id: UUID, **values: Any) -> None:
        """Change a request directly in the table."""
        with connection(self.engine) as conn:
            conn.execute(update(otp_requests).where(otp_requests.c.id == request_id).values(**values))

    def _of(self, table: Table, request_id: UUID | None) -> list[RowMapping]:
        return [row for row in self._all(table) if request_id in {None, row["request_id"]}]

    def _all(self, table: Table) -> list[RowMapping]:
        with connection(self.engine) as conn:
            return list(conn.execute(select(table).order_by(*table.primary_key.columns)).mappings())


def numbers(count: int) -> list[str]:
    """Return this many different numbers that codes may be sent to."""
    return [f"+447700900{last:03d}" for last in range(count)]


def until(condition: Callable[[], T], *, within_s: float = 20) -> T:
    """Wait until a condition is true, and return its value."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still not so after {within_s:g} s"
        time.sleep(0.02)
    return found


def show_life(
    parts: Parts,
    process: str,
    *queues: str,
    kind: ProcessKind = ProcessKind.WORKER,
    in_touch: bool = True,
    starting_for_s: float | None = None,
    ago_s: float = 0,
) -> None:
    """Write a heartbeat as a process would have some seconds ago.

    A process that is not in touch lost the broker a minute before, unless it started `starting_for_s` ago.
    """
    started = starting_for_s is not None

    sign = ProcessReport(
        process=f"{kind.value}|{process}",
        kind=kind,
        queues=queues,
        in_touch=in_touch and not started,
        unheard_s=None if in_touch or started else ago_s + 60,
        version="1",
        running_s=ago_s + (starting_for_s or 0),
        skew_s=None,
    )
    with connection(parts.engine) as conn:
        store_heartbeats.store_heartbeat(conn, sign)
        age = {"process": sign.process, "age": f"{ago_s} seconds"}
        conn.execute(
            text("UPDATE heartbeats SET seen_at = seen_at - CAST(:age AS interval) WHERE process = :process"),
            age,
        )


def heartbeats(parts: Parts) -> list[Heartbeat]:
    """Return the stored heartbeats."""
    with connection(parts.engine) as conn:
        return store_heartbeats.list_heartbeats(conn)


def served(parts: Parts) -> set[str]:
    """Return the queues that a live worker serves."""
    lives = get_queue_liveness(heartbeats(parts), QUEUES)
    return {queue for queue, life in lives.items() if life is Liveness.RUNNING}


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make the calls concurrently. Returns, for each, its result or the refusal it raised."""
    barrier = threading.Barrier(len(calls))

    def make(call: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return call()
        except OtpqueueError as refusal:
            return refusal

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(make, calls))


def begin_check(parts: Parts, request_id: UUID, client_id: UUID, *, lease_s: float) -> None:
    """Begin a check and never finish it."""
    begun = store_checks.begin(
        parts.engine,
        request_id=request_id,
        client_id=client_id,
        session_hashes=None,
        number_hashes=None,
        client_ip_hash=None,
        lease_s=lease_s,
        now=clock.now(),
        vault=parts.vault,
    )
    assert isinstance(begun, OpenCheck)


def new_request(client_id: UUID, phone: PhoneNumber, *, now: datetime, is_test: bool = False) -> NewRequest:
    """Return a new request for a number, with typical values."""
    return NewRequest(
        id=uuid7(),
        client_id=client_id,
        phone=phone,
        session_id=None,
        client_ip=None,
        client_reference=None,
        channel=Channel.SMS,
        language=None,
        checks_allowed=5,
        created_at=now,
        send_by=now + timedelta(seconds=90),
        is_test=is_test,
    )
