"""What the API answers, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

Channel = Literal["sms", "voice"]

FINAL_STATUSES = frozenset({"verified", "failed", "expired", "locked", "cancelled"})
"""The statuses that do not change any more."""


@dataclass(frozen=True, kw_only=True)
class PasscodeResend:
    """The newest resend of a request."""

    status: str
    """`pending`, `sent` or `failed`."""
    channel: str | None
    reason: str | None
    """Why it failed."""


@dataclass(frozen=True, kw_only=True)
class PasscodeRequest:
    """A request for a code, at the moment of the response. Times are in UTC."""

    id: str
    status: str
    """`queued`, `sending`, `sent`, `delivered`, `undelivered` or one of `FINAL_STATUSES`."""
    reason: str | None
    """Why the request ended."""
    provider_code: str | None
    """Infobip's code for the last failure."""
    phone_number: str | None
    """Masked."""
    channel: str
    client_reference: str | None
    created_at: datetime
    send_by: datetime
    """Deadline for sending the code."""
    sent_at: datetime | None
    expires_at: datetime | None
    """When the code expires; None until it is sent."""
    verified_at: datetime | None
    checks_left: int
    """How many more codes can be checked."""
    sends_left: int
    """How many more times the code can be resent."""
    resend_after: datetime | None
    """Earliest time of the next resend."""
    resend: PasscodeResend | None
    """The newest resend."""

    @property
    def is_final(self) -> bool:
        """Whether the status does not change any more."""
        return self.status in FINAL_STATUSES

    @property
    def is_being_sent(self) -> bool:
        """Whether a worker has still to send the code, for the first time or again."""
        is_resent = self.resend is not None and self.resend.status == "pending"
        return not self.is_final and (self.status in {"queued", "sending"} or is_resent)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Return the request that a response describes. Raises KeyError, TypeError, ValueError."""
        resend = body["resend"]
        return cls(
            id=str(body["id"]),
            status=str(body["status"]),
            reason=body["reason"],
            provider_code=body["provider_code"],
            phone_number=body["phone_number"],
            channel=str(body["channel"]),
            client_reference=body["client_reference"],
            created_at=datetime.fromisoformat(body["created_at"]),
            send_by=datetime.fromisoformat(body["send_by"]),
            sent_at=_read_time(body["sent_at"]),
            expires_at=_read_time(body["expires_at"]),
            verified_at=_read_time(body["verified_at"]),
            checks_left=int(body["checks_left"]),
            sends_left=int(body["sends_left"]),
            resend_after=_read_time(body["resend_after"]),
            resend=resend
            and PasscodeResend(status=resend["status"], channel=resend["channel"], reason=resend["reason"]),
        )


def is_settled(request: PasscodeRequest) -> bool:
    """Return whether no worker has to send the code: it was sent, or the request ended."""
    return not request.is_being_sent


def _read_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
