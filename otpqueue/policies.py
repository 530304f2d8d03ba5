"""What the settings say, in the domain's words. What no setting may say is a SettingsError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from otpqueue.domain import alert_rules as rules_of_alerts
from otpqueue.domain import phone
from otpqueue.domain.alerts import Rule
from otpqueue.domain.caps import OTHERS, Caps
from otpqueue.domain.circuit import CircuitPolicy
from otpqueue.domain.errors import InvalidPhoneNumber
from otpqueue.domain.fixed_codes import LONGEST_DAYS, FixedCode, FixedCodes
from otpqueue.domain.guard import Policy
from otpqueue.domain.limits import LIMITS, GuessPolicy, Quota, Quotas, WrongShare
from otpqueue.domain.number_policy import NumberPolicy
from otpqueue.domain.sending import SendingPolicy
from otpqueue.domain.templates import Senders, sender_problem
from otpqueue.settings import Settings, SettingsError

_NO_COUNTRY = "is not a country (ISO 3166 alpha-2)"


def sending(settings: Settings) -> SendingPolicy:
    """Return how stubbornly a code is sent."""
    return SendingPolicy(
        max_attempts=settings.max_attempts,
        unknown_resends=settings.unknown_resends,
        backoff_base_s=settings.backoff_base_s,
        backoff_max_s=settings.backoff_max_s,
    )


def circuit(settings: Settings) -> CircuitPolicy:
    """Return when all workers pause."""
    return CircuitPolicy(
        failures=settings.circuit_failures,
        pause_s=settings.circuit_pause_s,
        pause_max_s=settings.circuit_pause_max_s,
        # As long as the claim of the request that probes may be held.
        probe_s=settings.send_lease_s,
    )


def senders(settings: Settings) -> Senders:
    """Return whom messages come from. Raises SettingsError."""
    common = {"*": settings.infobip_sender_id} if settings.infobip_sender_id else {}
    by_country = common | settings.senders
    problems = filter(None, (sender_problem(*pair) for pair in by_country.items()))
    if found := [f"OTPQUEUE_SENDERS: {problem}" for problem in problems]:
        raise SettingsError(found)
    return Senders(by_country)


def caps(settings: Settings) -> Caps:
    """Return how many codes may be sent a day. Raises SettingsError."""
    unknown = settings.daily_caps_by_country.keys() - phone.COUNTRIES - {OTHERS}
    _refuse("OTPQUEUE_DAILY_CAPS_BY_COUNTRY", unknown, _NO_COUNTRY)
    return Caps(
        overall=settings.daily_cap,
        per_client=settings.daily_cap_per_client,
        by_country=settings.daily_caps_by_country,
    )


def numbers(settings: Settings) -> NumberPolicy:
    """Return which numbers codes are sent to. Raises SettingsError."""
    allowed, blocked = set(settings.countries_allowed), set(settings.countries_blocked)
    lines = set(settings.refused_lines) - {"none"}
    _refuse("OTPQUEUE_COUNTRIES_ALLOWED", allowed - phone.COUNTRIES, _NO_COUNTRY)
    _refuse("OTPQUEUE_COUNTRIES_BLOCKED", blocked - phone.COUNTRIES, _NO_COUNTRY)
    _refuse("OTPQUEUE_REFUSED_LINES", lines - phone.KINDS, "is not a kind of line")
    return NumberPolicy(
        countries_allowed=frozenset(allowed) if allowed else None,
        countries_blocked=frozenset(blocked),
        lines_refused=frozenset(lines),
    )


def fixed_codes(settings: Settings, *, today: date) -> FixedCodes:
    """Return the test numbers. Raises SettingsError.

    Those that have ended are let be: a restart must not fail over them.
    """
    last, codes = today + timedelta(days=LONGEST_DAYS), {}
    for place, (number, one) in enumerate(settings.test_numbers.items(), 1):
        try:
            e164 = phone.parse(number, allow_documentation=True).e164
        except InvalidPhoneNumber as error:
            problem = f"number {place} {error.errors[0].message}"
            raise SettingsError([f"OTPQUEUE_TEST_NUMBERS: {problem}"]) from None
        if one.until > last:
            problem = f"number {place} must end by {last}, {LONGEST_DAYS} days from now"
            raise SettingsError([f"OTPQUEUE_TEST_NUMBERS: {problem}"])
        codes[e164] = FixedCode(code=one.code.get_secret_value(), until=one.until)
    return FixedCodes(codes)


def quotas(settings: Settings) -> Quotas:
    """Return what the deployment admits, by limit. Raises SettingsError for a quota that cannot be."""
    return {name: _quota(settings, f"limit_{name}") for name in LIMITS}


def guesses(settings: Settings) -> GuessPolicy:
    """Return how many wrong codes there may be. Raises SettingsError for a quota that cannot be."""
    return GuessPolicy(
        number=_quota(settings, "wrong_codes_number"),
        client_ip=_quota(settings, "wrong_codes_client_ip"),
        in_a_row=settings.wrong_codes_in_a_row,
        max_checks=settings.max_checks,
        share=WrongShare(
            ceiling=settings.wrong_share,
            window_s=settings.wrong_share_window_s,
            min_checks=settings.wrong_share_min_checks,
        ),
    )


def guard(settings: Settings) -> Policy:
    """Return the budgets of the pumping guard."""
    return Policy(
        share=settings.guard_share,
        block_floor=settings.guard_block_floor,
        country_floor_hour=settings.guard_country_floor_hour,
        country_floor_day=settings.guard_country_floor_day,
        total_floor_hour=settings.guard_total_floor_hour,
        total_floor_day=settings.guard_total_floor_day,
        address_floor=settings.guard_address_floor,
    )


def alert_rules(settings: Settings) -> Mapping[str, Rule]:
    """Return the rules of alerts, by name. Raises SettingsError."""
    given = {
        name: one.model_dump(exclude_none=True, exclude_unset=True)
        for name, one in settings.alert_rules.items()
    }
    try:
        return rules_of_alerts.as_set(given, wrong_share=guesses(settings).share)
    except ValueError as problem:
        raise SettingsError([f"OTPQUEUE_ALERT_RULES: {problem}"]) from None


def _quota(settings: Settings, field: str) -> Quota | None:
    try:
        return Quota.parse(getattr(settings, field))
    except ValueError as problem:
        raise SettingsError([f"{Settings.model_fields[field].alias} {problem}"]) from None


def _refuse(name: str, unknown: Iterable[str], because: str) -> None:
    if problems := [f"{name}: {one!r} {because}" for one in sorted(unknown)]:
        raise SettingsError(problems)
