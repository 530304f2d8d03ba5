"""Validation of the reasons that operators enter. They are kept after a number is erased."""

from __future__ import annotations

from otpqueue.domain.alerts import contains_number
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.telemetry import masks

LONGEST = 500


def check_reason(reason: str | None) -> None:
    """Raise InvalidRequest for a reason that is too long, not printable, or seems to contain a secret."""
    if reason is None:
        return
    if len(reason) > LONGEST or not reason.isprintable():
        raise InvalidRequest([FieldError("reason", f"must be at most {LONGEST} printable characters")])
    if masks.mask_text(reason) != reason or contains_number(reason):
        raise InvalidRequest(
            [FieldError("reason", "must not contain what may be a phone number or a secret")]
        )
