"""The sending policy: countries, line types, languages, caps and test numbers."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from otpqueue.domain import phone
from otpqueue.domain.caps import Caps, count_seconds_to_midnight, get_cap_day
from otpqueue.domain.circuit import CircuitSignal, classify_outcome
from otpqueue.domain.client_settings import ClientSettings, add_setting
from otpqueue.domain.errors import CountryNotAllowed, NumberNotAllowed
from otpqueue.domain.fixed_codes import FixedCode, FixedCodes
from otpqueue.domain.number_policy import NumberPolicy, find_language_refusal
from otpqueue.domain.sending import Outcome, OutcomeKind

LONDON, TORONTO, KINGSTON, NEW_YORK = "+447400123456", "+14165550123", "+18765550123", "+12125550123"
NO_COUNTRY = "+883510000000093"
NO_SETTINGS = ClientSettings()


def refused(policy: NumberPolicy, e164: str, client: ClientSettings = NO_SETTINGS) -> str | None:
    """Return the reason why no code is sent to a number, None if one is."""
    refusal = policy.find_refusal(phone.parse_number(e164, allow_documentation=True), client)
    return refusal.reason if refusal else None


def allowing(*countries: str) -> NumberPolicy:
    """Return a policy that allows these countries only."""
    return NumberPolicy(countries_allowed=frozenset(countries))


@pytest.mark.parametrize(
    ("policy", "client", "e164", "taken"),
    [
        (NumberPolicy(), NO_SETTINGS, LONDON, True),
        (NumberPolicy(), NO_SETTINGS, NO_COUNTRY, False),
        (allowing("001"), NO_SETTINGS, NO_COUNTRY, True),
        (allowing("GB"), NO_SETTINGS, LONDON, True),
        (allowing("GB"), NO_SETTINGS, "+33612345678", False),
        # One calling code, many countries.
        (allowing("US"), NO_SETTINGS, "+12125551234", True),
        (allowing("US"), NO_SETTINGS, "+14165551234", False),
        (allowing("US"), NO_SETTINGS, "+18765551234", False),
        (allowing("CA"), NO_SETTINGS, "+14165551234", True),
        (allowing("JM"), NO_SETTINGS, "+18765551234", True),
        (NumberPolicy(countries_blocked=frozenset({"GB"})), NO_SETTINGS, LONDON, False),
        # A client's own list replaces the deployment's; what the deployment blocks stays blocked.
        (allowing("GB"), ClientSettings(countries_allowed=("FR",)), "+33612345678", True),
        (allowing("GB"), ClientSettings(countries_allowed=("FR",)), LONDON, False),
        (allowing("GB"), ClientSettings(countries_allowed=()), LONDON, False),
        (
            NumberPolicy(countries_blocked=frozenset({"GB"})),
            ClientSettings(countries_allowed=("GB",)),
            LONDON,
            False,
        ),
        (NumberPolicy(), ClientSettings(countries_blocked=("GB",)), LONDON, False),
    ],
)
def test_countries(policy: NumberPolicy, client: ClientSettings, e164: str, taken: bool) -> None:
    """A number goes by its own country, and a number of none only where that is allowed by name."""
    assert refused(policy, e164, client) == (None if taken else "country_not_allowed")


def test_lines() -> None:
    """Kinds of line that are listed are refused; the answer is the same for all, the reason is not."""
    policy = NumberPolicy(lines_refused=frozenset({"premium_rate", "fixed_line"}))

    first = policy.find_refusal(phone.parse_number("+449012345678"), NO_SETTINGS)
    second = policy.find_refusal(phone.parse_number("+441212345678"), NO_SETTINGS)

    assert isinstance(first, NumberNotAllowed)
    assert isinstance(second, NumberNotAllowed)
    assert (first.reason, second.reason) == ("premium_rate_number", "fixed_line_number")
    assert str(first) == str(second)
    assert refused(policy, LONDON) is None


def test_country_goes_before_line() -> None:
    """A country that is not allowed has priority over the line type."""
    policy = NumberPolicy(countries_blocked=frozenset({"GB"}), lines_refused=frozenset({"premium_rate"}))

    assert isinstance(
        policy.find_refusal(phone.parse_number("+449012345678"), NO_SETTINGS), CountryNotAllowed
    )


@pytest.mark.parametrize("language", [None, "de", "DE", "de-AT", "de_AT", "pt-BR"])
def test_language_of_the_client(language: str | None) -> None:
    """A listed language stands for its regional forms, and none at all is right."""
    assert find_language_refusal(language, ClientSettings(languages=("de", "pt-br"))) is None
    assert find_language_refusal(language, NO_SETTINGS) is None


@pytest.mark.parametrize("language", ["en", "pt", "pt-PT", "d"])
def test_other_language(language: str) -> None:
    """Another language is an error of the caller, and the answer names those there are."""
    refusal = find_language_refusal(language, ClientSettings(languages=("de", "pt-br")))

    assert refusal is not None
    (error,) = refusal.errors
    assert (error.field, error.message) == ("language", "must be one of this client's languages: de, pt-br")


def test_which_cap() -> None:
    """A client's own cap goes before the deployment's; a named country before `*`; none is none."""
    caps = Caps(overall=100, per_client=10, by_country={"GB": 0, "001": 2, "*": 7})

    assert [
        caps.get_client_cap(NO_SETTINGS, clients=2),
        caps.get_client_cap(ClientSettings(daily_cap=0), clients=2),
    ] == [
        10,
        0,
    ]
    assert [caps.get_country_cap(one) for one in ("GB", None, "DE")] == [0, 2, 7]
    assert [Caps().get_client_cap(NO_SETTINGS, clients=2), Caps().get_country_cap("GB")] == [None, None]


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (datetime(2026, 3, 1, 0, 0, 0, tzinfo=UTC), 86_400),
        (datetime(2026, 3, 1, 23, 59, 59, 1, tzinfo=UTC), 1),
        (datetime(2026, 3, 2, 1, 0, 0, tzinfo=timezone(timedelta(hours=2))), 3600),
    ],
)
def test_midnight_is_utc(moment: datetime, seconds: int) -> None:
    """The day ends at midnight UTC."""
    assert count_seconds_to_midnight(moment) == seconds
    assert get_cap_day(moment) == date(2026, 3, 1)
    assert get_cap_day(moment + timedelta(seconds=seconds)) == date(2026, 3, 2)


def test_fixed_code_ends_with_its_day() -> None:
    """A number is a test number until the day begins, and prints no code."""
    code = FixedCode(code="123456", until=date(2026, 3, 2))
    codes = FixedCodes({LONDON: code})

    assert codes.find_code(LONDON, now=datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)) is code
    assert codes.find_code(LONDON, now=datetime(2026, 3, 2, tzinfo=UTC)) is None
    assert codes.find_code(TORONTO, now=datetime(2026, 3, 1, tzinfo=UTC)) is None
    assert (code.matches("123456"), code.matches("123457"), code.matches("")) == (True, False, False)
    assert "123456" not in repr(code) + repr(codes)


@pytest.mark.parametrize("kind", [OutcomeKind.ACCEPTED, OutcomeKind.REFUSED])
def test_skipped_call_does_not_count_for_the_circuit(kind: OutcomeKind) -> None:
    """An attempt for a test number does not affect the circuit."""
    assert classify_outcome(Outcome(kind=kind, code="test_number", asked=False)) is CircuitSignal.NONE


def test_client_settings_survive_json() -> None:
    """Stored client settings round-trip, and only set values are stored."""
    stored: dict[str, Any] = {}
    for path, given in {"daily_cap": "0", "countries_allowed": "gb, 001", "languages": "de,en-GB"}.items():
        stored = add_setting(stored, path, given)

    assert stored == {"daily_cap": 0, "countries_allowed": ["GB", "001"], "languages": ["de", "en-GB"]}
    assert ClientSettings.from_stored(json.loads(json.dumps(stored))) == ClientSettings(
        daily_cap=0, countries_allowed=("GB", "001"), languages=("de", "en-GB")
    )


@pytest.mark.parametrize(
    ("overall", "share", "cap"),
    [
        (10_000, 0.5, 5000),
        (5, 0.5, 2),
        (1, 0.5, 1),
        (100, 0.29, 29),
        (3, 1, 3),
        (None, 0.5, None),
        (9, None, None),
    ],
)
def test_share_of_the_overall_cap(overall: int | None, share: float | None, cap: int | None) -> None:
    """Rounded down, at least one code, and only once there are several clients."""
    caps = Caps(overall=overall, client_share=share)

    assert caps.get_client_cap(NO_SETTINGS, clients=2) == cap
    assert caps.get_client_cap(NO_SETTINGS, clients=1) is None
    assert caps.is_share(NO_SETTINGS, clients=2) is (cap is not None)
    assert caps.get_client_cap(ClientSettings(daily_cap=7), clients=2) == 7
    assert not caps.is_share(ClientSettings(daily_cap=7), clients=2)
