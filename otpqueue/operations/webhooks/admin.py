"""Administration of clients' webhooks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Connection, Engine
from uuid_utils.compat import uuid7

from otpqueue.domain import webhooks as domain
from otpqueue.domain.audit import AuditOutcome, OperatorAction
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.webhooks import WebhookResponse, WebhookState
from otpqueue.operations.auditing import describe_change, record_action, record_alone, recorded_run
from otpqueue.operations.reasons import check_reason
from otpqueue.operations.webhooks.send import post_webhook
from otpqueue.outbound import PostUndeliverable
from otpqueue.store import clients
from otpqueue.store.engine import connection, transaction
from otpqueue.store.vault import Vault
from otpqueue.store.webhooks import endpoints, outbox
from otpqueue.store.webhooks.endpoints import WebhookEndpoint
from otpqueue.store.webhooks.outbox import StoredDelivery
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

BATCH = 1000
_WHY_REFUSED = {
    "url_not_understood": "must be a URL like https://shop.example/hooks/otp, its name in ASCII",
    "userinfo_refused": "must not contain a user or password",
    "https_required": "must begin with https:// (OTPQUEUE_WEBHOOK_ALLOW_PRIVATE=true allows http)",
    "port_refused": "must use port 443, 80, or one from 1024 up",
}


class WebhookPoster(Protocol):
    """Posts to webhook receivers, and checks their URLs."""

    def post(self, url: str, *, body: bytes, headers: dict[str, str]) -> int:
        """Return the HTTP status of the response. Raises PostUndeliverable."""

    def check_url(self, url: str) -> None:
        """Raise PostUndeliverable for a URL that is not allowed."""


@dataclass(frozen=True, kw_only=True)
class WebhookTest:
    """The result of a test delivery."""

    answer: WebhookResponse
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Webhooks:
    """Manages webhooks. A change takes effect with the next status change of a request."""

    engine: Engine
    vault: Vault
    outbound: WebhookPoster
    wake: Callable[[], bool]

    def set(self, client: str, url: str, *, events: Sequence[str], now: datetime) -> str | None:
        """Set the webhook URL and event types of a client.

        Without event types, the previous ones stay; a new webhook gets all.

        Returns the secret if it is new. It is not shown again. Raises InvalidRequest for an invalid URL or
        event type.
        """
        try:
            self.outbound.check_url(url)
        except PostUndeliverable as problem:
            raise InvalidRequest([FieldError("url", _WHY_REFUSED[problem.reason])]) from None
        wanted = domain.parse_events(events)
        client_id = self._client_id(client)
        self._give_up_leftovers(client_id, now)

        def work(conn: Connection) -> str | None:
            endpoint = endpoints.read(conn, client_id, vault=self.vault, now=now, lock=True)
            # Without the URL: its path or query may hold a secret.
            host = urlsplit(url).hostname
            details = {"events": list(wanted if events or not endpoint else endpoint.events)}
            record_action(conn, OperatorAction.WEBHOOK_SET, client_id=client_id, target=host, details=details)
            if endpoint:
                endpoints.change(conn, endpoint.id, url=url, events=wanted if events else endpoint.events)
                return None
            secret = domain.generate_secret()
            endpoints.add(
                conn, client_id=client_id, url=url, events=wanted, secret=secret, vault=self.vault, now=now
            )
            return secret

        secret = transaction(self.engine, work)
        log.info("webhook_set", client_id=str(client_id))
        return secret

    def every(self, *, now: datetime) -> list[WebhookEndpoint]:
        """Return all endpoints, sorted by client name."""
        with connection(self.engine) as conn:
            return endpoints.list_endpoints(conn, vault=self.vault, now=now)

    def show(self, client: str, *, now: datetime) -> tuple[WebhookEndpoint, Mapping[WebhookState, int]]:
        """Return a client's endpoint, and the counts of waiting and abandoned deliveries."""
        with connection(self.engine) as conn:
            endpoint = self._endpoint(conn, client, now)
            return endpoint, outbox.count_unfinished(conn, endpoint.client_id)

    def test(self, client: str, *, now: datetime) -> WebhookTest:
        """Post an `otpqueue.test` event to a client's endpoint, even a disabled one. Returns the result."""
        with connection(self.engine) as conn:
            endpoint = self._endpoint(conn, client, now)
        start = time.monotonic()
        answer = post_webhook(
            self.outbound.post,
            endpoint.url,
            secrets=endpoint.secrets,
            webhook_id=str(uuid7()),
            text=domain.build_body(domain.TEST, now, {"client": endpoint.client}),
            now=now,
        )
        record_alone(
            self.engine,
            OperatorAction.WEBHOOK_TESTED,
            outcome=AuditOutcome.DONE if answer.is_success else AuditOutcome.FAILED,
            client_id=endpoint.client_id,
            details={"answer": str(answer)},
        )
        return WebhookTest(answer=answer, seconds=time.monotonic() - start)

    def rotate_secret(self, client: str, *, overlap: timedelta, now: datetime) -> str:
        """Create a new secret for a client and return it. The previous one also signs for `overlap`."""
        secret = domain.generate_secret()

        def work(conn: Connection) -> UUID:
            endpoint = self._endpoint(conn, client, now, lock=True)
            previous = endpoint.secrets[:1] if overlap else ()
            endpoints.replace_secrets(
                conn,
                endpoint.id,
                (secret, *previous),
                previous_until=now + overlap if previous else None,
                vault=self.vault,
            )
            action, details = (
                OperatorAction.WEBHOOK_SECRET_ROTATED,
                {"overlap_s": int(overlap.total_seconds())},
            )
            record_action(conn, action, client_id=endpoint.client_id, details=details)
            return endpoint.client_id

        client_id = transaction(self.engine, work)
        log.info("webhook_secret_rotated", client_id=str(client_id))
        return secret

    def enable(self, client: str, *, now: datetime, reason: str | None = None) -> int:
        """Enable a client's webhook. Waiting deliveries are sent first; returns how many."""
        check_reason(reason)

        def work(conn: Connection) -> UUID:
            endpoint = self._endpoint(conn, client, now, lock=True)
            if not endpoint.secrets:
                raise InvalidRequest(
                    [
                        FieldError(
                            "client",
                            "has a secret that cannot be opened; use `otpqueue webhooks rotate-secret`",
                        )
                    ]
                )
            endpoints.enable(conn, endpoint.id)
            record_action(
                conn,
                OperatorAction.WEBHOOK_ENABLED,
                outcome=describe_change(endpoint.disabled_at is not None),
                client_id=endpoint.client_id,
                reason=reason,
            )
            return endpoint.client_id

        client_id = transaction(self.engine, work)
        log.info("webhook_enabled", client_id=str(client_id))
        return self._make_due(client_id, ids=None, states=(WebhookState.PENDING,), now=now)

    def remove(self, client: str, *, now: datetime) -> int:
        """Delete a client's webhook. Returns how many deliveries are abandoned."""

        def work(conn: Connection) -> UUID:
            endpoint = self._endpoint(conn, client, now, lock=True)
            endpoints.remove(conn, endpoint.id)
            record_action(conn, OperatorAction.WEBHOOK_REMOVED, client_id=endpoint.client_id)
            return endpoint.client_id

        client_id = transaction(self.engine, work)
        log.info("webhook_removed", client_id=str(client_id))
        return self._give_up_leftovers(client_id, now)

    def deliveries(
        self, client: str, *, failed: bool, request_id: UUID | None, limit: int
    ) -> list[StoredDelivery]:
        """Return a client's deliveries, newest first.

        Optionally only those with a last attempt that failed, or those of one request.
        """
        client_id = self._client_id(client)
        with connection(self.engine) as conn:
            return outbox.list_newest(conn, client_id, failed=failed, request_id=request_id, limit=limit)

    def retry(self, client: str, *, ids: Sequence[UUID], now: datetime) -> int:
        """Retry abandoned or waiting deliveries now, with a new retry schedule.

        Retries these `ids`, or all of the client. Returns how many. Raises InvalidRequest while the webhook
        is disabled.
        """
        with connection(self.engine) as conn:
            endpoint = self._endpoint(conn, client, now)
        if endpoint.disabled_at:
            raise InvalidRequest(
                [FieldError("client", "has a disabled webhook; use `otpqueue webhooks enable`")]
            )
        states = (WebhookState.PENDING, WebhookState.GIVEN_UP)
        client_id, action = endpoint.client_id, OperatorAction.WEBHOOK_RETRIED
        with recorded_run(self.engine, action, client_id=client_id) as details:
            count = self._make_due(client_id, ids=ids or None, states=states, now=now)
            details["deliveries"] = count
        return count

    def _make_due(
        self, client_id: UUID, *, ids: Sequence[UUID] | None, states: Sequence[WebhookState], now: datetime
    ) -> int:
        total, after = 0, 0
        while True:
            work = partial(
                outbox.make_due,
                client_id=client_id,
                ids=ids,
                states=states,
                after=after,
                now=now,
                limit=BATCH,
            )
            last = transaction(self.engine, work)
            if not last.count:
                break
            total, after = total + last.count, last.number
        if total:
            self.wake()
        return total

    def _give_up_leftovers(self, client_id: UUID, now: datetime) -> int:
        """Abandon waiting deliveries of a client that has no endpoint. Returns how many."""
        total = 0

        def work(conn: Connection) -> int:
            if endpoints.read(conn, client_id, vault=self.vault, now=now):
                return 0
            return outbox.give_up(conn, client_id, limit=BATCH)

        while given_up := transaction(self.engine, work):
            total += given_up
        return total

    def _client_id(self, client: str) -> UUID:
        with connection(self.engine) as conn:
            return _client_id(conn, client)

    def _endpoint(
        self, conn: Connection, client: str, now: datetime, *, lock: bool = False
    ) -> WebhookEndpoint:
        endpoint = endpoints.read(conn, _client_id(conn, client), vault=self.vault, now=now, lock=lock)
        if endpoint is None:
            raise InvalidRequest(
                [
                    FieldError(
                        "client", "has no webhook; create one with `otpqueue webhooks set`", missing=True
                    )
                ]
            )
        return endpoint


def _client_id(conn: Connection, client: str) -> UUID:
    found = clients.find_client(conn, client)
    if found is None:
        raise InvalidRequest([FieldError("client", "does not exist (`otpqueue clients list`)", missing=True)])
    return found
