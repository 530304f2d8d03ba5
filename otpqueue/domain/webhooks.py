"""Webhooks: events, payloads, signatures and the retry schedule.

The format is Standard Webhooks (standardwebhooks.com): `type`, `timestamp` and `data`, signed with
HMAC-SHA256.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from standardwebhooks import Webhook

from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.request import Status


class WebhookEvent(StrEnum):
    """The events that a client can subscribe to: a request has reached this status."""

    SENT = "otp_request.sent"
    DELIVERED = "otp_request.delivered"
    UNDELIVERED = "otp_request.undelivered"
    VERIFIED = "otp_request.verified"
    FAILED = "otp_request.failed"
    EXPIRED = "otp_request.expired"
    LOCKED = "otp_request.locked"
    CANCELLED = "otp_request.cancelled"


TEST = "otpqueue.test"
"""The event type that `otpqueue webhooks test` sends."""


class WebhookState(StrEnum):
    """The state of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class DisabledReason(StrEnum):
    """Why an endpoint is disabled."""

    GONE = "gone"
    """It answered 410."""
    FAILING = "failing"
    """All its deliveries failed for a long time."""
    SECRET_LOST = "secret_lost"  # noqa: S105 - a word
    """Its secret was sealed with a key that is no longer configured."""


RETRIES = (
    timedelta(seconds=5),
    timedelta(seconds=30),
    timedelta(minutes=2),
    timedelta(minutes=10),
    timedelta(minutes=30),
    timedelta(hours=1),
    timedelta(hours=2),
    timedelta(hours=4),
    timedelta(hours=6),
    timedelta(hours=10),
)
"""The pauses after the first failed try, the second, and so on: about a day in total."""

JITTER = 0.2
"""Each pause is extended by a random share up to this one, so that failed deliveries do not retry at once."""

SECRET_BYTES = 32
_SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with

StatusCallback = Callable[[Iterable[tuple[UUID, Status]]], None]
"""Called with the clients and new statuses of requests, after the change is committed."""


def ignore_changes(_: Iterable[tuple[UUID, Status]]) -> None:
    """Ignore the changes."""


@dataclass(frozen=True, kw_only=True)
class WebhookResponse:
    """The result of one try: an HTTP status, or a reason."""

    status: int | None = None
    reason: str | None = None
    """A static identifier, e.g. `timeout`."""

    @property
    def is_success(self) -> bool:
        """Whether the receiver accepted the event."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """Whether the receiver asks for no further events."""
        return self.status == 410

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.status is not None else str(self.reason)


def find_event(status: Status) -> WebhookEvent | None:
    """Return the event of a status, or None if it has none."""
    name = f"otp_request.{status.value}"
    return WebhookEvent(name) if name in set(WebhookEvent) else None


def parse_events(names: Iterable[str]) -> tuple[WebhookEvent, ...]:
    """Return the named events, `otp_request.sent` or `sent`, in a fixed order. No name selects all events.

    Raises InvalidRequest for an unknown name.
    """
    wanted = {name if "." in name else f"otp_request.{name}" for name in names}
    if wanted - set(WebhookEvent):
        every = ", ".join(event.removeprefix("otp_request.") for event in WebhookEvent)
        raise InvalidRequest([FieldError("events", f"must be some of {every}")])
    return tuple(event for event in WebhookEvent if not wanted or event in wanted)


def compute_retry_at(tries: int, *, now: datetime, jitter: float) -> datetime | None:
    """Return when to retry after `tries` failed tries, or None to give up.

    `jitter` is a random number from 0 up to 1.
    """
    if tries > len(RETRIES):
        return None
    return now + RETRIES[tries - 1] * (1 + JITTER * jitter)


def build_body(kind: str, at: datetime, data: Mapping[str, Any]) -> str:
    """Return the request body. All tries of one event have the same body."""
    return json.dumps({"type": kind, "timestamp": format_time(at), "data": data}, separators=(",", ":"))


def format_time(at: datetime | None) -> str | None:
    """Return a time as the API formats it."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def generate_secret() -> str:
    """Return a new random signing secret."""
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def build_headers(signing: Sequence[str], *, webhook_id: str, now: datetime, text: str) -> dict[str, str]:
    """Return the headers of a body, signed with each of these secrets. The newest secret comes first."""
    signatures = [Webhook(secret).sign(webhook_id, now.astimezone(UTC), text) for secret in signing]
    return {
        "Content-Type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
