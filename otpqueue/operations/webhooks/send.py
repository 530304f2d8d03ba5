"""Notify clients of the outcomes of their requests: what the pump of webhooks claims, posts and records.

Nothing is locked in Postgres while a receiver answers; the delivery is leased.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain import webhooks
from otpqueue.domain.webhooks import WebhookResponse
from otpqueue.operations.pump import PumpSettings
from otpqueue.operations.pump_user import ClaimAllowance, HoldTimer, PumpUser, TurnResult
from otpqueue.operations.recording import KEPT_S
from otpqueue.operations.webhooks.reports import describe_delivery, report_delivery, report_disabled
from otpqueue.outbound import PostUndeliverable
from otpqueue.store.engine import run, transaction
from otpqueue.store.vault import Vault
from otpqueue.store.webhooks import deliveries
from otpqueue.store.webhooks.deliveries import DeliveryResult, EndedEndpoint, WebhookDelivery
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

THREADS = 128
"""Deliveries in flight per worker process."""

SHARE = 32
"""How many of them may be to one client: slow receivers leave threads for other clients."""

POLL_S = 0.05
"""While deliveries are in flight, new ones are claimed this often; a claim costs more than that of codes."""


class PostFunction(Protocol):
    """A function that posts to a receiver."""

    def __call__(self, url: str, *, body: bytes, headers: dict[str, str]) -> int:
        """Return the answer's HTTP status. Raises PostUndeliverable."""


def post_webhook(
    post: PostFunction, url: str, *, secrets: Sequence[str], webhook_id: str, text: str, now: datetime
) -> WebhookResponse:
    """Post one signed body and return what came of it; nothing is posted that cannot be signed."""
    if not secrets:
        return WebhookResponse(reason="secret_not_opened")
    headers = webhooks.build_headers(secrets, webhook_id=webhook_id, now=now, text=text)
    try:
        return WebhookResponse(status=post(url, body=text.encode(), headers=headers))
    except PostUndeliverable as problem:
        return WebhookResponse(reason=problem.reason)


@dataclass(frozen=True, kw_only=True)
class SendWebhooksSettings(PumpSettings):
    """How the webhooks of one process are sent. The lease is longer than a receiver may take."""

    disable_after: timedelta
    """An endpoint is disabled after nothing but failures for this long."""
    threads: int = THREADS
    share: int = SHARE
    keep_s: float = KEPT_S
    poll_s: float = POLL_S


class SendWebhooks(PumpUser[WebhookDelivery, DeliveryResult]):
    """Posts webhooks to the receivers of clients, each client's within its share of the threads."""

    def __init__(
        self, *, engine: Engine, vault: Vault, post: PostFunction, settings: SendWebhooksSettings
    ) -> None:
        self._engine, self._vault, self._post, self._settings = engine, vault, post, settings
        self._busy: Counter[UUID] = Counter()
        self._busy_lock = threading.Lock()

    def take_turn(
        self, results: Sequence[DeliveryResult], permit: ClaimAllowance, *, now: datetime
    ) -> TurnResult[WebhookDelivery, DeliveryResult]:
        """Record and claim in one transaction, or claim in one statement if there is nothing to record.

        No next time is returned: a retry is seconds away, and beat wakes a worker for it.
        """
        if not results:
            claimed = run(self._engine, lambda conn: self._claim_deliveries(conn, permit, now))
            ended: list[EndedEndpoint] = []
            locked: set[UUID] = set()
        else:

            def record_and_claim(
                conn: Connection,
            ) -> tuple[list[EndedEndpoint], set[UUID], list[WebhookDelivery]]:
                ended, locked = deliveries.record(
                    conn, results, disable_after=self._settings.disable_after, now=now
                )
                return ended, locked, self._claim_deliveries(conn, permit, now)

            ended, locked, claimed = transaction(self._engine, record_and_claim)
        with self._busy_lock:
            self._busy.update(one.client_id for one in claimed)
        for endpoint in ended:
            report_disabled(endpoint)
        recorded = [one for one in results if one.delivery.id not in locked]
        return TurnResult(
            claimed=claimed,
            has_more=len(claimed) == permit.slots > 0,
            recorded=recorded,
            given_back=sum(one.answer is None for one in recorded),
            locked={position for position, one in enumerate(results) if one.delivery.id in locked},
        )

    def _claim_deliveries(
        self, conn: Connection, permit: ClaimAllowance, now: datetime
    ) -> list[WebhookDelivery]:
        if not permit.slots:
            return []
        with self._busy_lock:
            busy = dict(self._busy)
        return deliveries.claim(
            conn,
            slots=permit.slots,
            share=self._settings.share,
            busy=busy,
            lease_s=self._settings.lease_s,
            now=now,
            vault=self._vault,
        )

    def perform_task(self, task: WebhookDelivery, hold: HoldTimer) -> DeliveryResult:
        """Post a delivery."""
        answer = post_webhook(
            self._post,
            task.url,
            secrets=task.secrets,
            webhook_id=str(task.id),
            text=webhooks.build_body(task.event, task.at, task.data),
            now=hold.now,
        )
        now = hold.now
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        retry_at = (
            None if answer.is_success else webhooks.compute_retry_at(task.tries, now=now, jitter=jitter)
        )
        return DeliveryResult(delivery=task, answer=answer, tried_at=now, next_try_at=retry_at)

    def return_task(self, task: WebhookDelivery, hold: HoldTimer) -> DeliveryResult:
        """Return the result of a delivery that was not posted."""
        return DeliveryResult(delivery=task, answer=None, tried_at=hold.now, next_try_at=None)

    def release_task(self, task: WebhookDelivery) -> None:
        """Count one delivery less for its client."""
        with self._busy_lock:
            self._busy -= Counter([task.client_id])

    def report_recorded(self, results: Sequence[DeliveryResult]) -> None:
        """Log and count tries."""
        for one in results:
            report_delivery(one)

    def report_unrecorded(self, results: int, *, error: str) -> None:
        """Log tries that are recorded later."""
        log.warning("webhooks_not_recorded", error=error, deliveries=results)

    def report_refused(self, result: DeliveryResult, error: Exception) -> None:
        """Log a delivery that is posted again when its lease expires."""
        log.error("webhook_outcome_refused", **describe_delivery(result.delivery), exc_info=error)

    def report_crash(self, task: WebhookDelivery, error: Exception) -> None:
        """Log a delivery that is posted again when its lease expires."""
        log.error("webhook_crashed", **describe_delivery(task), exc_info=error)
