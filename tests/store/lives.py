"""Requests with random events in random order, from workers, callers and the provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from otpqueue.domain.checking import CheckVerdict
from otpqueue.domain.receipts import DeliveryState, Receipt
from otpqueue.domain.request import OtpRequest, Reason, Status
from otpqueue.domain.sending import LEASE_RAN_OUT, RETURNED, Outcome, SendDecision
from otpqueue.store import attempts, checks, expiring, receipts, requests
from otpqueue.store.attempts import ExpiredLease
from otpqueue.store.checks import OpenCheck
from otpqueue.store.claims import Claim
from tests.store.conftest import NOW, REFUSED, SENT, Store, a_result, accepted


def ask_again(store: Store, request: OtpRequest, *, now: datetime) -> bool:
    """Ask for a resend."""
    return requests.resend(
        store.conn,
        request.id,
        client_id=store.client_id,
        channel=None,
        send_by=now + timedelta(seconds=90),
        now=now,
    )


def a_report(message_id: str, delivery: DeliveryState) -> Receipt:
    """Return a report."""
    return Receipt(
        message_id=message_id,
        delivery=delivery,
        status=delivery.upper(),
        error=None,
        done_at=None,
        price=None,
        currency=None,
    )


class Life:
    """A request with random events; an event that is impossible now changes nothing."""

    def __init__(self, store: Store, random: Random, number: int) -> None:
        self.store, self.random = store, random
        self.now = NOW + timedelta(hours=number)
        self.phone_number = f"+447700900{number % 1000:03}"
        self.claims: list[Claim | ExpiredLease] = []
        self.checks: list[OpenCheck] = []
        self.messages: list[str] = []
        self.ids: list[UUID] = []
        self.ask()

    def live(self) -> None:
        """Apply events, a few seconds apart."""
        steps: list[Callable[[], object]] = [
            *[self.claim, self.claim, self.answer, self.answer],
            *[self.check, self.check, self.judge, self.judge, self.report],
            *[self.report, self.resend, self.sweep, self.expire, self.cancel, self.ask],
        ]
        if self.random.random() < 0.8:
            self.claim()
            self.answer()
        if self.random.random() < 0.8:
            self.report()
        for _ in range(8):
            self.now += timedelta(seconds=self.random.choice([0, 1, 20]))
            self.random.choice(steps)()

    def ask(self) -> None:
        """Request a code, sometimes only if there is none."""
        if self.ids and self.random.random() < 0.8:
            return
        sent_by = self.now + timedelta(seconds=90)
        request = self.store.insert(
            self.phone_number,
            created_at=self.now,
            send_by=sent_by,
            checks_allowed=self.random.randint(1, 2),
            **self.wanted(),
        )
        self.ids.append(request.id)

    def wanted(self) -> dict[str, Any]:
        """Return what else is stored of a request."""
        return {}

    def claim(self) -> None:
        """Claim due requests, sometimes under an expired lease."""
        self.claims += self.store.claim(now=self.now, lease_s=self.random.choice([0.0, 30.0]))

    def answer(self) -> None:
        """Record an outcome of any attempt, including late and repeated ones."""
        if not self.claims:
            return
        claim = self.random.choice([*self.claims, self.claims[-1], self.claims[-1]])
        soon = self.now + timedelta(seconds=1)
        retry = SendDecision(status=Status.QUEUED, next_attempt_at=soon)
        outcome, decision = self.random.choice(
            [
                *[(self.accepted(), SENT)] * 8,
                (REFUSED, retry),
                (RETURNED, retry),
                (REFUSED, SendDecision(status=Status.FAILED, reason=Reason.ATTEMPTS_EXHAUSTED)),
                (REFUSED, SendDecision(status=Status.EXPIRED, reason=Reason.SEND_DEADLINE)),
            ]
        )
        expires_at = self.now + timedelta(seconds=60) if decision is SENT else None
        result = a_result(claim, outcome, decision, now=self.now, expires_at=expires_at)
        resend_after = self.now if decision is SENT else None
        attempts.record(self.store.conn, [replace(result, resend_after=resend_after)])

    def accepted(self) -> Outcome:
        """Return the outcome of a message that can be reported on."""
        self.messages.append(f"{self.phone_number}-{len(self.messages)}")
        return replace(accepted(), external_message_id=self.messages[-1])

    def check(self) -> None:
        """Begin a check, sometimes under an expired lease, and judge one, sometimes."""
        request = self.store.find(self.ids[-1])
        begun = self.store.begin(request, now=self.now, lease_s=self.random.choice([0.0, 20.0]))
        self.checks += [begun] if begun else []
        if self.random.random() < 0.5:
            self.judge()

    def judge(self) -> None:
        """Record the judgement of any check, each once."""
        if self.checks:
            verdict = self.random.choice([*CheckVerdict, CheckVerdict.CORRECT, CheckVerdict.EXHAUSTED])
            check = self.checks.pop(self.random.randrange(len(self.checks)))
            self.store.judge(check, verdict, now=self.now)

    def report(self) -> None:
        """Report on any message."""
        if self.messages:
            name = self.random.choice([*self.messages, self.messages[-1]])
            receipts.add(self.store.conn, [self.a_report(name)], now=self.now)
            receipts.match(self.store.conn, [name], now=self.now)

    def a_report(self, message_id: str) -> Receipt:
        """Return a report that says anything."""
        return a_report(message_id, self.random.choice(list(DeliveryState)))

    def resend(self) -> None:
        """Ask for resends; most are taken up."""
        for _ in range(2):
            ask_again(self.store, self.store.find(self.ids[-1]), now=self.now)
            if self.random.random() < 0.8:
                self.claim()
                self.answer()

    def sweep(self) -> None:
        """Sweep expired leases."""
        conn, retry = self.store.conn, SendDecision(status=Status.QUEUED, next_attempt_at=self.now)
        lost = [
            replace(a_result(one, LEASE_RAN_OUT, retry, now=self.now), started_at=None)
            for one in attempts.find_expired_leases(conn, limit=100)
        ]
        if lost:
            attempts.record(conn, lost)
        expiring.give_up_resends(conn, now=self.now, limit=100)
        checks.sweep(conn, now=self.now, limit=100)

    def expire(self) -> None:
        """Expire requests, sometimes later than the next step."""
        at = self.now + timedelta(seconds=self.random.choice([0, 100]))
        expiring.expire_unsent(self.store.conn, now=at, limit=100)
        expiring.expire_codes(self.store.conn, now=at, limit=100)

    def cancel(self) -> None:
        """Cancel, sometimes."""
        if self.random.random() < 0.3:
            requests.cancel(self.store.conn, self.ids[-1], client_id=self.store.client_id, now=self.now)
