"""Reasons that operators type: kept beside what they are about, long after a number has been erased."""

from __future__ import annotations

from otpqueue.domain.alerts import contains_number
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.telemetry import masks

LONGEST = 500


def check_reason(reason: str | None) -> None:
    """Raise InvalidRequest for a reason that is too long, not printable, or may name a number or a secret."""
    if reason is None:
        return
    if len(reason) > LONGEST or not reason.isprintable():
        raise InvalidRequest([FieldError("reason", f"must be at most {LONGEST} printable characters")])
    if masks.mask_text(reason) != reason or contains_number(reason):
        raise InvalidRequest([FieldError("reason", "must not hold what may be a phone number or a secret")])
