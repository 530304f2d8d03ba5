"""Verifies PINs and lists verifications.

`pinError` values are from the 2015 API pages; the current OpenAPI document leaves them open.
"""

import hmac
from typing import Annotated, Any

from pydantic import Field

from otpqueue.simulator.applications import Configuration
from otpqueue.simulator.durations import parse_duration, parse_limit
from otpqueue.simulator.errors import ApiError, make_field_error
from otpqueue.simulator.pins import Pin
from otpqueue.simulator.state import SimulatorState
from otpqueue.simulator.wire import RequestBody, parse_recipient


class VerifyBody(RequestBody):
    """The PIN that the user entered."""

    pin: Annotated[str, Field(min_length=1)]


def known_pin(state: SimulatorState, pin_id: str) -> Pin:
    """Return a PIN by id; raises `ApiError` 404 when unknown, or dropped after it expired."""
    pin = state.pins.get(pin_id)
    if pin is not None:
        keep_s = state.options.forget_expired_after_s
        expires_at = _expires_at(pin, state.application(pin.application_id).body.configuration)
        if keep_s is None or state.clock.now() < expires_at + keep_s:
            return pin
    raise ApiError(404, state.options.pin_not_found_message_id)


def verify_pin(state: SimulatorState, pin_id: str, code: str) -> dict[str, Any]:
    """Verify a PIN and return the reply, which is 200 also for a wrong, expired or exhausted PIN.

    In this order, which is INFERRED: unknown (`ApiError` 404), verifyPinLimit (429), attempts, time to
    live, comparison.
    """
    options = state.options
    with state.lock:
        pin = known_pin(state, pin_id)
        configuration = state.application(pin.application_id).body.configuration
        _throttle(state, pin, configuration)
        now = state.clock.now()
        if pin.verified_at is not None and not configuration.allow_multiple_pin_verifications:
            if options.second_verification == "404":
                raise ApiError(404, options.pin_not_found_message_id)
            return _refusal(pin, "NO_MORE_PIN_ATTEMPTS", 0)
        remaining = max(0, configuration.pin_attempts - pin.attempts_used)
        if remaining == 0:
            return _refusal(pin, "NO_MORE_PIN_ATTEMPTS", 0)
        if now >= _expires_at(pin, configuration):
            return _refusal(pin, "TTL_EXPIRED", remaining)
        if not hmac.compare_digest(pin.code.encode(), code.encode()):
            pin.attempts_used += 1
            last = remaining == 1
            return _refusal(pin, options.last_wrong_attempt if last else "WRONG_PIN", remaining - 1)
        return _success(state, pin, remaining, now)


def list_verifications(
    state: SimulatorState, application_id: str, msisdn: str, *, verified: bool | None, sent: bool | None
) -> dict[str, Any]:
    """Return one record per PIN sent to a number or address, oldest first; raises `ApiError` 404 and 400.

    An unverified record shows `verifiedAt: 0`, by the 2015 API pages.
    """
    to = parse_recipient(msisdn)
    if to is None:
        raise make_field_error(
            "msisdn", "must be a phone number in international format, digits only, or an address"
        )
    unit = 1000 if state.options.verification_times == "ms" else 1
    with state.lock:
        application = state.application(application_id)
        # Every PIN known here was sent, so `sent=false` leaves none.
        pins = state.pins.of_number(application.id, to) if sent is not False else []
        return {
            "verifications": [
                {
                    "msisdn": pin.to,
                    "verified": pin.verified_at is not None,
                    "verifiedAt": int((pin.verified_at or 0) * unit),
                    "sentAt": int(pin.sent_at * unit),
                }
                for pin in pins
                if verified is None or verified == (pin.verified_at is not None)
            ]
        }


def _expires_at(pin: Pin, configuration: Configuration) -> float:
    return pin.issued_at + parse_duration(configuration.pin_time_to_live)


def _throttle(state: SimulatorState, pin: Pin, configuration: Configuration) -> None:
    key = f"{pin.application_id}/{pin.to}"
    now = state.clock.now()
    wait_s = state.verifications.wait(key, parse_limit(configuration.verify_pin_limit), now)
    if wait_s > 0:
        if state.options.throttled_verify_uses_attempt:
            pin.attempts_used += 1
        raise state.throttled(wait_s)
    state.verifications.hit(key, now)


def _refusal(pin: Pin, error: str, remaining: int) -> dict[str, Any]:
    return {
        "pinId": pin.id,
        "msisdn": pin.to,
        "verified": False,
        "attemptsRemaining": remaining,
        "pinError": error,
    }


def _success(state: SimulatorState, pin: Pin, remaining: int, now: float) -> dict[str, Any]:
    options = state.options
    if options.success_uses_attempt:
        pin.attempts_used += 1
        remaining -= 1
    if pin.verified_at is None:
        pin.verified_at = now
    reply: dict[str, Any] = {
        "pinId": pin.id,
        "msisdn": pin.to,
        "verified": True,
        "attemptsRemaining": 0 if options.success_attempts_remaining == "zero" else remaining,
    }
    if options.success_pin_error == "NO_ERROR":
        reply["pinError"] = "NO_ERROR"
    return reply
