"""Builds the domain's policies from the settings. A value that the domain rejects is a SettingsError."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta

from otpqueue.domain import alert_rules as rules_of_alerts
from otpqueue.domain import phone
from otpqueue.domain.alerts import AlertRule
from otpqueue.domain.caps import OTHERS, Caps
from otpqueue.domain.circuit import CircuitPolicy
from otpqueue.domain.errors import InvalidPhoneNumber
from otpqueue.domain.fixed_codes import LONGEST_DAYS, FixedCode, FixedCodes
from otpqueue.domain.guard import GuardPolicy
from otpqueue.domain.limits import LIMITS, GuessPolicy, Quota, Quotas, WrongShare
from otpqueue.domain.number_policy import NumberPolicy
from otpqueue.domain.sending import SendingPolicy
from otpqueue.domain.templates import Senders, find_sender_problem
from otpqueue.settings import Settings, SettingsError

_NO_COUNTRY = "is not a country (ISO 3166 alpha-2)"


def check(settings: Settings, *, today: date) -> None:
    """Build every policy, also those that this process does not need.

    Every process thus rejects an invalid setting with the same message. Raises SettingsError with every
    problem.
    """
    builders: tuple[Callable[[], object], ...] = (
        lambda: senders(settings),
        lambda: caps(settings),
        lambda: numbers(settings),
        lambda: fixed_codes(settings, today=today),
        lambda: quotas(settings),
        lambda: guesses(settings),
        lambda: alert_rules(settings),
    )
    problems: list[str] = []
    for build in builders:
        try:
            build()
        except SettingsError as error:
            problems += error.problems
    _refuse(problems)


def sending(settings: Settings) -> SendingPolicy:
    """Return how often, and how soon, a send is retried."""
    return SendingPolicy(
        max_attempts=settings.max_attempts,
        unknown_resends=settings.unknown_resends,
        backoff_base_s=settings.backoff_base_s,
        backoff_max_s=settings.backoff_max_s,
    )


def circuit(settings: Settings) -> CircuitPolicy:
    """Return when the circuit breaker opens."""
    return CircuitPolicy(
        failures=settings.circuit_failures,
        pause_s=settings.circuit_pause_s,
        pause_max_s=settings.circuit_pause_max_s,
        # The probe is a request, which a worker holds for its lease.
        probe_s=settings.send_lease_s,
    )


def senders(settings: Settings) -> Senders:
    """Return the senders by country. Raises SettingsError."""
    common = {"*": settings.infobip_sender_id} if settings.infobip_sender_id else {}
    named = (("INFOBIP_SENDER_ID", common), ("OTPQUEUE_SENDERS", settings.senders))
    _refuse(
        [
            f"{name}: {problem}"
            for name, given in named
            for problem in filter(None, (find_sender_problem(*pair) for pair in given.items()))
        ]
    )
    return Senders(common | settings.senders)


def caps(settings: Settings) -> Caps:
    """Return how many codes may be sent a day. Raises SettingsError."""
    unknown = settings.daily_caps_by_country.keys() - phone.COUNTRIES - {OTHERS}
    _refuse(_problems("OTPQUEUE_DAILY_CAPS_BY_COUNTRY", unknown, _NO_COUNTRY))
    return Caps(
        overall=settings.daily_cap,
        per_client=settings.daily_cap_per_client,
        client_share=settings.daily_cap_client_share,
        by_country=settings.daily_caps_by_country,
    )


def numbers(settings: Settings) -> NumberPolicy:
    """Return the countries and number types that codes are sent to. Raises SettingsError."""
    allowed, blocked = set(settings.countries_allowed), set(settings.countries_blocked)
    lines = set(settings.refused_lines) - {"none"}
    _refuse(
        _problems("OTPQUEUE_COUNTRIES_ALLOWED", allowed - phone.COUNTRIES, _NO_COUNTRY)
        + _problems("OTPQUEUE_COUNTRIES_BLOCKED", blocked - phone.COUNTRIES, _NO_COUNTRY)
        + _problems("OTPQUEUE_REFUSED_LINES", lines - phone.KINDS, "is not a line type")
    )
    return NumberPolicy(
        countries_allowed=frozenset(allowed) if allowed else None,
        countries_blocked=frozenset(blocked),
        lines_refused=frozenset(lines),
    )


def fixed_codes(settings: Settings, *, today: date) -> FixedCodes:
    """Return the test numbers. Raises SettingsError.

    Expired test numbers are accepted: a restart must not fail because of them.
    """
    last, codes, problems = today + timedelta(days=LONGEST_DAYS), {}, []
    for place, (number, one) in enumerate(settings.test_numbers.items(), 1):
        try:
            e164 = phone.parse_number(number, allow_documentation=True).e164
        except InvalidPhoneNumber as error:
            problems.append(f"number {place} {error.errors[0].message}")
            continue
        if one.until > last:
            problems.append(f"number {place} must end by {last}, {LONGEST_DAYS} days from now")
        codes[e164] = FixedCode(code=one.code.get_secret_value(), until=one.until)
    _refuse([f"OTPQUEUE_TEST_NUMBERS: {problem}" for problem in problems])
    return FixedCodes(codes)


def quotas(settings: Settings) -> Quotas:
    """Return the deployment's quotas by limit. Raises SettingsError for an invalid quota."""
    found = _quotas(settings, *(f"limit_{name}" for name in LIMITS))
    return {name: found[f"limit_{name}"] for name in LIMITS}


def guesses(settings: Settings) -> GuessPolicy:
    """Return the limits of wrong codes. Raises SettingsError for an invalid quota."""
    found = _quotas(settings, "wrong_codes_number", "wrong_codes_client_ip")
    return GuessPolicy(
        number=found["wrong_codes_number"],
        client_ip=found["wrong_codes_client_ip"],
        in_a_row=settings.wrong_codes_in_a_row,
        max_checks=settings.max_checks,
        share=_wrong_share(settings),
    )


def _wrong_share(settings: Settings) -> WrongShare:
    return WrongShare(
        ceiling=settings.wrong_share,
        window_s=settings.wrong_share_window_s,
        min_checks=settings.wrong_share_min_checks,
    )


def guard(settings: Settings) -> GuardPolicy:
    """Return the budgets of the pumping guard."""
    return GuardPolicy(
        share=settings.guard_share,
        block_floor=settings.guard_block_floor,
        country_floor_hour=settings.guard_country_floor_hour,
        country_floor_day=settings.guard_country_floor_day,
        total_floor_hour=settings.guard_total_floor_hour,
        total_floor_day=settings.guard_total_floor_day,
        address_floor=settings.guard_address_floor,
    )


def alert_rules(settings: Settings) -> Mapping[str, AlertRule]:
    """Return the rules of alerts, by name. Raises SettingsError."""
    given = {
        name: one.model_dump(exclude_none=True, exclude_unset=True)
        for name, one in settings.alert_rules.items()
    }
    try:
        return rules_of_alerts.apply_overrides(given, wrong_share=_wrong_share(settings))
    except ValueError as problem:
        raise SettingsError([f"OTPQUEUE_ALERT_RULES: {problem}"]) from None


def _quotas(settings: Settings, *fields: str) -> dict[str, Quota | None]:
    found, problems = {}, []
    for field in fields:
        try:
            found[field] = Quota.parse(getattr(settings, field))
        except ValueError as problem:
            problems.append(f"{Settings.model_fields[field].alias} {problem}")
    _refuse(problems)
    return found


def _problems(name: str, unknown: Iterable[str], because: str) -> list[str]:
    return [f"{name}: {one!r} {because}" for one in sorted(unknown)]


def _refuse(problems: list[str]) -> None:
    if problems:
        raise SettingsError(problems)
