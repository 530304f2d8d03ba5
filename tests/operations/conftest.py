"""Fixtures of the operations tests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine

from otpqueue import clock
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.domain.sending import SmsProvider
from otpqueue.embedded.home import free_port
from otpqueue.operations.nudges import Nudges
from otpqueue.operations.pump import Pump
from otpqueue.operations.send import SendCodes, SendSettings
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, NUMBER, Ask, MakeParts
from tests.emptying import empty_tables
from tests.operations.looking import Rows
from tests.operations.receiver import Receiver
from tests.operations.webhooking import Hooks
from tests.statements import spied_statements


@pytest.fixture
def database_url(shared_database: Engine) -> str:
    """Return a migrated database that is emptied for each test."""
    with connection(shared_database) as conn:
        empty_tables(conn)
    return shared_database.url.render_as_string(hide_password=False)


@pytest.fixture
def rows(parts: Parts) -> Rows:
    """Return the tables."""
    return Rows(parts.engine)


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Yield threads; the test waits for them at its end."""
    with ThreadPoolExecutor(16) as threads:
        yield threads


AskSent = Callable[..., OtpRequest]


@pytest.fixture
def ask_sent(parts: Parts, ask: Ask) -> AskSent:
    """Return a function that requests a code and has it sent."""

    def ask_sent(phone_number: str = NUMBER, **wanted: Any) -> OtpRequest:
        request = ask(phone_number, **wanted)
        parts.pump.run()
        sent = parts.status(request.id, client_id=request.client_id)
        assert sent.status is Status.SENT
        return sent

    return ask_sent


MakePump = Callable[..., Pump[Any, Any]]


@pytest.fixture
def patient_parts(parts: Parts, make_parts: MakeParts) -> Parts:
    """Return parts with a provider timeout longer than any delay in a test."""
    return make_parts(
        OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S="5",
        OTPQUEUE_TUNING_SEND_LEASE_S="10",
        OTPQUEUE_TUNING_CHECK_LEASE_S="6",
    )


@pytest.fixture
def make_pump(patient_parts: Parts) -> MakePump:
    """Return a function that creates a pump with its own `wake`, clock, provider or settings."""
    parts = patient_parts

    def make(
        *,
        wake: Callable[[], bool] = lambda: True,
        clock: Callable[[], datetime] = clock.now,
        sms: SmsProvider | None = None,
        nudges: Nudges | None = None,
        **differing: Any,
    ) -> Pump[Any, Any]:
        settings = SendSettings(
            worker="test",
            threads=parts.settings.sender_threads,
            lease_s=parts.settings.send_lease_s,
            job_s=parts.settings.job_s,
            keep_s=parts.settings.code_lifetime_s,
            code_lifetime_s=parts.settings.code_lifetime_s,
            policy=parts.policy,
            senders=parts.senders,
        )
        settings = replace(settings, **differing)
        send_codes = SendCodes(
            engine=parts.engine,
            vault=parts.vault,
            sms=sms or parts.infobip,
            provider_ids=parts.provision.ids,
            breaker=parts.circuit,
            clock=clock,
            settings=settings,
        )
        return Pump(send_codes, name="codes", wake=wake, clock=clock, nudges=nudges, settings=settings)

    return make


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Yield a list of each statement that is executed from then on, through SQLAlchemy or without it."""
    seen: list[str] = []
    with spied_statements(seen.append):
        yield seen


@pytest.fixture
def closed_port() -> int:
    """Return a port without a listener."""
    return free_port()


@pytest.fixture
def hung_port() -> Iterator[int]:
    """Yield a port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Yield a webhook receiver."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def hooks(parts: Parts, make_parts: MakeParts) -> Hooks:
    """Return webhook helpers over parts that may post to this machine."""
    parts_for_hooks = make_parts(
        **NO_LIMITS, OTPQUEUE_WEBHOOK_ALLOW_PRIVATE="true", OTPQUEUE_DAILY_CAP="none", OTPQUEUE_GUARD="off"
    )
    return Hooks(parts_for_hooks, Rows(parts_for_hooks.engine))
