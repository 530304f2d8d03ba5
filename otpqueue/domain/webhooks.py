"""Webhooks: what a client is told of its requests, how it is written and signed, and when it is tried again.

As Standard Webhooks (standardwebhooks.com) has it: `type`, `timestamp` and `data`, signed with HMAC-SHA256.
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
    """What a client may be told: that a request of its has this status now."""

    SENT = "otp_request.sent"
    DELIVERED = "otp_request.delivered"
    UNDELIVERED = "otp_request.undelivered"
    VERIFIED = "otp_request.verified"
    FAILED = "otp_request.failed"
    EXPIRED = "otp_request.expired"
    LOCKED = "otp_request.locked"
    CANCELLED = "otp_request.cancelled"


TEST = "otpqueue.test"
"""The type of what `otpqueue webhooks test` sends."""


class WebhookState(StrEnum):
    """How a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class DisabledReason(StrEnum):
    """Why nothing is sent to an endpoint."""

    GONE = "gone"
    """It answered 410."""
    FAILING = "failing"
    """For a long time nothing but failures."""
    SECRET_LOST = "secret_lost"  # noqa: S105 - a word
    """Its secret was sealed with a key that is lost."""


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
"""How long is waited after the first try that failed, the second, ...: about a day in all."""

JITTER = 0.2
"""Each wait is longer by up to this share of it, so that what failed together does not come back together."""

SECRET_BYTES = 32
_SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with

Tell = Callable[[Iterable[tuple[UUID, Status]]], None]
"""Is told of clients whose requests have just got a status, after that is committed."""


def tell_nobody(_: Iterable[tuple[UUID, Status]]) -> None:
    """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class WebhookResponse:
    """What came of one try: an HTTP status, or why there is none."""

    status: int | None = None
    reason: str | None = None
    """A static word, e.g. `timeout`."""

    @property
    def is_success(self) -> bool:
        """Whether the receiver has taken it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants nothing any more."""
        return self.status == 410

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.status is not None else str(self.reason)


def event_of(status: Status) -> WebhookEvent | None:
    """Return what a client is told of a status, None for one that it is not told of."""
    name = f"otp_request.{status.value}"
    return WebhookEvent(name) if name in set(WebhookEvent) else None


def events(names: Iterable[str]) -> tuple[WebhookEvent, ...]:
    """Return the events that are named, `otp_request.sent` or `sent`, in their order; all for no name.

    Raises InvalidRequest for what is no event.
    """
    wanted = {name if "." in name else f"otp_request.{name}" for name in names}
    if wanted - set(WebhookEvent):
        every = ", ".join(event.removeprefix("otp_request.") for event in WebhookEvent)
        raise InvalidRequest([FieldError("events", f"must be some of {every}")])
    return tuple(event for event in WebhookEvent if not wanted or event in wanted)


def retry_at(tries: int, *, now: datetime, jitter: float) -> datetime | None:
    """Return when to try again after so many tries that failed; None when it is given up.

    `jitter` is a random number from 0 up to 1.
    """
    if tries > len(RETRIES):
        return None
    return now + RETRIES[tries - 1] * (1 + JITTER * jitter)


def body(kind: str, at: datetime, data: Mapping[str, Any]) -> str:
    """Return what is posted. The same of the same event at each try."""
    return json.dumps({"type": kind, "timestamp": moment(at), "data": data}, separators=(",", ":"))


def moment(at: datetime | None) -> str | None:
    """Return a time as the API writes it."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_secret() -> str:
    """Return a fresh secret to sign with."""
    return _SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def headers(signing: Sequence[str], *, webhook_id: str, now: datetime, text: str) -> dict[str, str]:
    """Return the headers of a body: signed with each of these secrets, the newest first."""
    signatures = [Webhook(secret).sign(webhook_id, now.astimezone(UTC), text) for secret in signing]
    return {
        "Content-Type": "application/json",
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
