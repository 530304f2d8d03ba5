"""Read the 2FA application and its templates back, and compare them with the policy for codes.

NIST SP 800-63B allows a code to live for up to 10 minutes and requires at least six digits. More than ten
attempts would let a code be guessed too often. Limits that are too low let Infobip reject sends that our own
policy admits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from otpqueue.domain.templates import ProviderIds
from otpqueue.infobip import wire
from otpqueue.infobip.provisioning import parse_provider_duration
from otpqueue.infobip.transport import ProviderResponse, Transport

LONGEST_CODE_LIFE = timedelta(minutes=10)
FEWEST_DIGITS = 6
MOST_ATTEMPTS = 10

_APPLICATION = "/2fa/2/applications"
_DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class PolicyProblem:
    """A value at Infobip that violates the policy, or may cost money or codes."""

    what: str
    refused: bool
    """Whether it violates the policy. Otherwise it is a warning."""


class InspectionFailed(Exception):
    """Infobip did not return what was asked for. `status` is None without an answer."""

    def __init__(self, what: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(what)


@dataclass(frozen=True, kw_only=True)
class ExpectedVolume:
    """How many codes the deployment's own policy admits a day; None for no limit."""

    total: int | None
    per_number: float | None


def fetch_application(transport: Transport, ids: ProviderIds, *, timeout_s: float) -> Mapping[str, Any]:
    """Return the application in use. Raises InspectionFailed."""
    return _fetch(transport, f"{_APPLICATION}/{quote(ids.application_id, safe='')}", timeout_s)


def fetch_templates(
    transport: Transport, ids: ProviderIds, *, timeout_s: float
) -> Mapping[str, Mapping[str, Any]]:
    """Return the templates in use by key. Raises InspectionFailed."""
    path = f"{_APPLICATION}/{quote(ids.application_id, safe='')}/messages"
    return {
        key: _fetch(transport, f"{path}/{quote(message_id, safe='')}", timeout_s)
        for key, message_id in sorted(ids.message_ids.items())
    }


def _fetch(transport: Transport, path: str, timeout_s: float) -> Mapping[str, Any]:
    reply = transport.call("GET", path, timeout_s=timeout_s)
    if not isinstance(reply, ProviderResponse):
        raise InspectionFailed(f"no answer ({reply.code})")
    if not (200 <= reply.status < 300 and isinstance(reply.body, dict)):
        code = wire.get_error_code(reply.body)
        raise InspectionFailed(f"HTTP {reply.status}" + (f", {code}" if code else ""), status=reply.status)
    return reply.body


def inspect_application(application: Mapping[str, Any], expected: ExpectedVolume) -> Iterator[PolicyProblem]:
    """Yield what is wrong with an application."""
    configuration = application.get("configuration")
    values = configuration if isinstance(configuration, Mapping) else {}
    if application.get("enabled") is False:
        yield PolicyProblem(what="the application is disabled", refused=True)
    life = parse_provider_duration(values.get("pinTimeToLive"))
    if life is None or life > LONGEST_CODE_LIFE:
        given = values.get("pinTimeToLive", "not set, which means 15m")
        yield PolicyProblem(what=f"codes live longer than 10 minutes (pinTimeToLive: {given})", refused=True)
    attempts = values.get("pinAttempts")
    if not isinstance(attempts, int) or attempts > MOST_ATTEMPTS:
        yield PolicyProblem(
            what=f"a code can be tried more than 10 times (pinAttempts: {attempts or 'not set'})",
            refused=True,
        )
    if values.get("allowMultiplePinVerifications") is False:
        yield PolicyProblem(
            what="a check cannot be repeated after a lost answer (allowMultiplePinVerifications: false)",
            refused=True,
        )
    yield from _inspect_ceiling(values, "sendPinPerApplicationLimit", expected.total, "OTPQUEUE_DAILY_CAP")
    yield from _inspect_ceiling(
        values, "sendPinPerPhoneNumberLimit", expected.per_number, "OTPQUEUE_LIMIT_NUMBER_DAY_ALL"
    )


def _inspect_ceiling(
    values: Mapping[str, Any], name: str, expected: float | None, setting: str
) -> Iterator[PolicyProblem]:
    given = values.get(name)
    per_day = _parse_limit_per_day(given)
    if per_day is None:
        yield PolicyProblem(
            what=f"{name} is {given or 'not set'}: Infobip limits sends by its own default", refused=False
        )
    elif expected is not None and per_day < expected:
        yield PolicyProblem(
            what=f"{name} ({given}) is lower than {setting} ({expected:g} a day): Infobip rejects the rest",
            refused=False,
        )


def _parse_limit_per_day(text: object) -> float | None:
    count, _, duration = str(text).partition("/")
    interval = parse_provider_duration(duration)
    return int(count) * (_DAY / interval) if count.isdecimal() and interval else None


def inspect_template(key: str, template: Mapping[str, Any]) -> Iterator[PolicyProblem]:
    """Yield what is wrong with a message template."""
    digits = template.get("pinLength")
    if not isinstance(digits, int) or digits < FEWEST_DIGITS:
        yield PolicyProblem(
            what=f"template {key}: codes have fewer than 6 digits (pinLength: {digits or 'not set'})",
            refused=True,
        )
    if template.get("pinType") != "NUMERIC":
        yield PolicyProblem(
            what=f"template {key}: codes are not numeric (pinType: {template.get('pinType')})", refused=True
        )
    if "{{pin}}" not in str(template.get("messageText")):
        yield PolicyProblem(what=f"template {key}: the text has no {{{{pin}}}}", refused=True)
