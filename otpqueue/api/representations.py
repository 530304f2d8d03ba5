"""Requests as callers see them, in plain JSON values."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from otpqueue.domain.request import MAX_SENDS, OtpRequest, SendState, Status


def representation(request: OtpRequest) -> dict[str, Any]:
    """Return a request as callers see it."""
    return {
        "id": str(request.id),
        "status": request.shown_status,
        "reason": request.reason,
        "provider_code": request.provider_code,
        "phone_number": request.phone_number,
        "channel": request.channel,
        "client_reference": request.client_reference,
        "created_at": _text(request.created_at),
        "send_by": _text(request.send_by),
        "sent_at": _text(request.sent_at),
        "expires_at": _text(request.expires_at),
        "verified_at": _text(request.verified_at),
        "checks_left": request.checks_left,
        "sends_left": 0 if request.is_final else MAX_SENDS - request.sends,
        "resend_after": None if request.is_final else _text(request.resend_after),
        "resend": _resend(request),
    }


def path_of(request: OtpRequest) -> str:
    """Return where a request is found."""
    return f"/v1/otp-requests/{request.id}"


def retry_after_s(request: OtpRequest) -> int:
    """Return when to look at a live request again."""
    return 1 if request.status is Status.QUEUED or request.send_state is not SendState.IDLE else 5


def _resend(request: OtpRequest) -> dict[str, Any] | None:
    if request.resend is None:
        return None
    return {
        "status": request.resend,
        "channel": request.resend_channel,
        "reason": request.resend_reason,
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
