"""Verification of webhooks: Standard Webhooks (standardwebhooks.com), HMAC-SHA256."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from otpqueue.client.errors import InvalidWebhookError

TOLERANCE_S = 300
"""How far `webhook-timestamp` may be from this machine's time, in seconds."""

_PREFIX = "whsec_"
_VERSION = "v1,"


@dataclass(frozen=True, kw_only=True)
class ReceivedWebhook:
    """A genuine event. It can arrive twice: process each `id` once."""

    id: str
    """`webhook-id`: the same for every delivery of the event."""
    type: str
    """For example `otp_request.delivered`."""
    timestamp: datetime
    """When the event happened."""
    data: Mapping[str, Any]
    """The request as docs/webhooks.md describes it; later versions may add members."""


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes | str,
    secrets: str | Iterable[str],
    *,
    tolerance: float = TOLERANCE_S,
    now: float | None = None,
) -> ReceivedWebhook:
    """Return the event of a webhook, if it was signed with one of the secrets.

    `headers` are those of the HTTP request in any case, `body` is its body before any JSON parser. Give the
    old and the new secret while a secret is rotated. `tolerance` is in seconds, `now` a Unix time.
    Raises InvalidWebhookError, and ValueError for a secret that is not one.
    """
    keys = [_decode_secret(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
    if not keys:
        raise ValueError("Give at least one webhook secret.")
    given = {name.lower(): value for name, value in headers.items()}
    webhook_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not (webhook_id and timestamp.isascii() and timestamp.isdigit()):
        raise InvalidWebhookError("The headers webhook-id and webhook-timestamp are missing or not valid.")
    if abs((time.time() if now is None else now) - int(timestamp)) > tolerance:
        raise InvalidWebhookError("The webhook-timestamp is too far from this machine's time.")
    raw = body.encode() if isinstance(body, str) else body
    signed = f"{webhook_id}.{timestamp}.".encode() + raw
    signatures = given.get("webhook-signature", "").split()
    # Every pair is compared, in constant time each.
    matches = [_matches(key, signed, signature) for key in keys for signature in signatures]
    if not any(matches):
        raise InvalidWebhookError("No webhook-signature matches. Check the secret and the raw body.")
    try:
        event = json.loads(raw)
        return ReceivedWebhook(
            id=webhook_id,
            type=str(event["type"]),
            timestamp=datetime.fromisoformat(event["timestamp"]),
            data=event["data"],
        )
    except (ValueError, KeyError, TypeError):
        raise InvalidWebhookError("The body is not an event of otpqueue.") from None


def _decode_secret(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        # Without the secret: errors are logged.
        raise ValueError(f"A webhook secret is {_PREFIX} and Base64.")
    return key


def _matches(key: bytes, signed: bytes, signature: str) -> bool:
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return hmac.compare_digest(f"{_VERSION}{expected}".encode(), signature.encode())
