"""Pages: how many pages of tables and indexes each operation reads, by the number of ended requests.

Pages do not depend on the machine or its load. `N rows / 10000` is the ratio.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy import text

from benchmarks.harness import history, numbers, options, report
from benchmarks.harness.pages import counted
from benchmarks.harness.stage import Otpqueue, Stage
from otpqueue import clock
from otpqueue.domain.errors import CodeIncorrect
from otpqueue.domain.receipts import DeliveryState, Receipt
from otpqueue.domain.search import SearchFilters
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.stats import gauges
from otpqueue.operations.verify import TypedCode
from otpqueue.settings import load
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts

_BASE = 10_000
_WARM = 2
"""The first executions also read the catalogue."""

_CLAIMS = 5


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    options.checkout_options(parser)
    options.history_options(parser)
    parser.set_defaults(rounds=1)


def measure(on: Stage, given: argparse.Namespace) -> report.Found:
    """Fill the databases and count."""
    ours = Otpqueue(name="otpqueue", settings=dict(given.set) | {"OTPQUEUE_TUNING_JOB_LINGER_S": "0"})
    sizes = sorted({_BASE, min(given.rows, 1_000_000), given.rows})
    found: report.Found = {}
    # Records would stand between the results.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    for size in sizes:
        url = history.make(on, ours, size)
        on.empty_redis()
        with _parts(ours.environment(on, url)) as parts:
            found[f"{size} rows"] = [_count(parts)]
    small = found[f"{_BASE} rows"][0]
    for size in sizes[1:]:
        (large,) = found[f"{size} rows"]
        found[f"{size} rows / {_BASE}"] = [{name: large[name] / max(small[name], 1.0) for name in small}]
    return found


@contextmanager
def _parts(environment: dict[str, str]) -> Iterator[Parts]:
    parts = Parts(load(environment, dotenv=None))
    try:
        yield parts
    finally:
        parts.close()


def _count(parts: Parts) -> dict[str, float]:
    found: dict[str, float] = {}
    with connection(parts.engine) as conn:
        client_id = conn.execute(text("SELECT id FROM clients WHERE name = 'benchmark'")).scalar_one()
        old = conn.execute(text("SELECT id FROM otp_requests ORDER BY id LIMIT 1")).scalar_one()
    # Kept databases know the numbers of earlier runs.
    mine = itertools.islice(numbers.ordinary(), secrets.randbelow(500_000), None)

    addresses = (f"203.0.113.{n}" for n in itertools.count(1))

    def ask(number: str) -> Any:
        wanted = RequestedCode(phone_number=number, session_id="s", client_ip=next(addresses))
        return parts.request(wanted, client_id=client_id, now=clock.now())

    def operation(name: str, work: Callable[[], object]) -> None:
        with counted() as pages:
            work()
        found[name] = float(sum(count.pages for count in pages.values()))

    now = clock.now
    for _ in range(_WARM + 1):
        for _ in range(_CLAIMS - 1):
            ask(next(mine))
        number = next(mine)
        operation("accept", partial(ask, number))
        sent = ask(next(mine)).id
        operation(f"claim and record {_CLAIMS + 1}", parts.pump.run)
        operation("poll", partial(parts.status, sent, client_id=client_id))
        operation("verify", partial(_guess, parts, sent, client_id))
        operation("delivery report", partial(receive_report, parts))
        operation("cancel", partial(parts.cancel, sent, client_id=client_id, now=now()))
        operation("sweep", partial(parts.sweep, now=now()))
        operation("expire", partial(parts.expire, now=now()))
        operation("evaluate alerts", partial(parts.evaluate_alerts, now=now() + timedelta(minutes=1)))
        operation("metrics", partial(gauges.of_database, parts.engine, now=now()))
        operation("history of one", partial(parts.history, old))
        operation("list 50", partial(parts.search, SearchFilters(), reader=client_id, cursor=None, limit=50))
        operation("list 50 failed", partial(_list_failed, parts, client_id))
        operation("erase", partial(parts.erase, number, country=None, client_id=None, now=now()))
    return found


def _guess(parts: Parts, request_id: Any, client_id: Any) -> None:
    with suppress(CodeIncorrect):
        parts.verify(
            request_id, TypedCode(code="000000", session_id="s"), client_id=client_id, now=clock.now()
        )


def _list_failed(parts: Parts, client_id: Any) -> None:
    parts.search(SearchFilters(status="failed"), reader=client_id, cursor=None, limit=50)


def receive_report(parts: Parts) -> None:
    """Receive a delivery report of an unknown message."""
    one = Receipt(
        message_id=str(uuid4()),
        delivery=DeliveryState.DELIVERED,
        status="DELIVERED_TO_HANDSET",
        error=None,
        done_at=clock.now(),
        price=None,
        currency=None,
    )
    parts.receipts([one], now=clock.now())
