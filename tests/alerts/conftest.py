"""A deployment with real traffic through the simulator, and a clock that can be advanced."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from freezegun import freeze_time

from otpqueue import clock
from otpqueue.domain.alert_rules import RULES
from otpqueue.domain.alerts import Alert, AlertState
from otpqueue.domain.errors import CodeIncorrect, OtpqueueError
from otpqueue.domain.request import OtpRequest
from otpqueue.operations.alerts.lifecycle import EvaluationResult
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.store import clients
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, MakeParts, Provider

MINUTE = timedelta(minutes=1)


class Deployment:
    """Makes traffic, and evaluates the rules minute by minute on a clock of its own."""

    def __init__(self, parts: Parts, provider: Provider, client_id: UUID) -> None:
        self.parts, self.provider, self.client_id = parts, provider, client_id
        self.now = clock.now()

    def ask(self, number: str, **wanted: Any) -> OtpRequest:
        """Ask for a code."""
        return self.parts.request(
            RequestedCode(phone_number=number, **wanted), client_id=self.client_id, now=clock.now()
        )

    def try_to_ask(self, number: str) -> bool:
        """Ask for a code; return whether that was accepted."""
        try:
            self.ask(number)
        except OtpqueueError:
            return False
        return True

    def send(self, numbers: Sequence[str]) -> list[OtpRequest]:
        """Ask for a code for each number, and have them sent."""
        asked = [self.ask(number) for number in numbers]
        self.parts.pump.run()
        return asked

    def check(self, request: OtpRequest, number: str, *, right: bool) -> None:
        """Check the code of a request, the right one or another."""
        code = self.provider.code(number)
        typed = code if right else f"{(int(code) + 1) % 1_000_000:06}"
        try:
            self.parts.verify(request.id, TypedCode(code=typed), client_id=self.client_id, now=clock.now())
        except CodeIncorrect:
            assert not right

    def reports(self, *, wait_s: float = 120) -> None:
        """Let what was sent be reported on: wait by the simulator's clock, and pull."""
        self.provider.call("POST", "/_simulator/clock", json={"advance_s": wait_s})
        self.parts.receipts.pull(self.parts.infobip, now=clock.now())

    def report_as(self, **rule: Any) -> None:
        """Say how what is sent from now on is reported."""
        self.provider.call("DELETE", "/_simulator/receipts")
        answer = self.provider.call("POST", "/_simulator/receipts", json={"match": {}, **rule})
        assert answer.status_code < 300, answer.text

    def evaluate(self, times: int = 1, *, only: str | None = None) -> list[EvaluationResult]:
        """Roll up events, and evaluate every rule or one this many times, a minute apart.

        One rule takes a tenth of the time. The open alerts of all others are closed.
        """
        evaluate = self.parts.evaluate_alerts
        if only:
            evaluate = replace(evaluate, rules={only: evaluate.rules[only]})
        self.parts.roll_up()
        found = []
        # What has just happened must lie in the window, however long it took.
        self.now = max(self.now, clock.now())
        for _ in range(times):
            found.append(evaluate(now=self.now))
            assert not found[-1].skipped
            self.now += MINUTE
        return found

    @contextmanager
    def after(self, pause: timedelta) -> Iterator[None]:
        """Let so much time pass on every clock but Postgres's and Redis's, for as long as the block lasts."""
        self.now += pause
        # The simulator may run in this process: a timer that its loop sets by a moved clock may never end.
        with freeze_time(self.now, tick=True, ignore=["asyncio"]):
            yield

    def open(self, rule: str | None = None) -> list[Alert]:
        """Return the open alerts, of one rule or all."""
        return list(self.parts.alert_admin.list(state=AlertState.OPEN, rule=rule))

    def rules_open(self) -> list[str]:
        """Return the rules that have open alerts."""
        return sorted(alert.rule for alert in self.open())


def only(*rules: str) -> dict[str, dict[str, Any]]:
    """Return the setting that turns all other rules off: evaluating a rule takes ten milliseconds."""
    return {name: {"off": True} for name in RULES if name not in rules}


def numbers(count: int, first: int = 0) -> list[str]:
    """Return this many different numbers."""
    return [f"+447700900{last:03d}" for last in range(first, first + count)]


@pytest.fixture
def database_url(emptied_database_url: str) -> str:
    """Return a migrated database that is emptied for each test."""
    return emptied_database_url


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment without limits and guard, which are not the subject here, and with patience."""
    return {
        **environment,
        **NO_LIMITS,
        "OTPQUEUE_GUARD": "off",
        "OTPQUEUE_TUNING_PROVIDER_CONNECT_TIMEOUT_S": "5",
        "OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S": "10",
        "OTPQUEUE_TUNING_SEND_LEASE_S": "20",
        "OTPQUEUE_TUNING_CHECK_LEASE_S": "12",
    }


@pytest.fixture
def client_id(parts: Parts) -> UUID:
    """Return a client."""
    with connection(parts.engine) as conn:
        return clients.ensure_client(conn, "shop", now=clock.now())


MakeDeployment = Callable[..., Deployment]


@pytest.fixture
def make_deployment(
    parts: Parts, make_parts: MakeParts, provider: Provider, client_id: UUID
) -> MakeDeployment:
    """Return a function that makes a deployment with other rules or settings."""

    def make(rules: Mapping[str, Mapping[str, Any]] | None = None, **differing: str) -> Deployment:
        other = make_parts(OTPQUEUE_ALERT_RULES=json.dumps(rules or {}), **differing)
        return Deployment(other, provider, client_id)

    return make


@pytest.fixture
def deployment(make_deployment: MakeDeployment) -> Deployment:
    """Return a deployment under watch, with the rules as they are."""
    return make_deployment()
