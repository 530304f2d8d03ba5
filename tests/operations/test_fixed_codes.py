"""Test numbers: the same states as other requests, a fixed code, and no call to the provider."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from otpqueue import clock
from otpqueue.domain.errors import CodeExpired, CodeIncorrect, NumberNotAllowed, RequestLocked, SendingStopped
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.settings import SettingsError
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, MakeParts, Provider
from tests.operations.looking import Rows

REVIEWER, CODE = "+447700900001", "271828"


def listed(days: int = 30) -> str:
    """Return the setting that makes REVIEWER a test number for this many days."""
    until = clock.now().date() + timedelta(days=days)
    return json.dumps({REVIEWER: {"code": CODE, "until": str(until)}})


@pytest.fixture
def testing(parts: Parts, make_parts: MakeParts) -> Parts:
    """Return parts with a test number and a policy that sends to no other number."""
    return make_parts(
        OTPQUEUE_TEST_NUMBERS=listed(),
        OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS="false",
        OTPQUEUE_DAILY_CAP="0",
        OTPQUEUE_COUNTRIES_BLOCKED="GB",
    )


def ask(parts: Parts, client_id: UUID, number: str = REVIEWER) -> OtpRequest:
    """Request a code."""
    return parts.request(RequestedCode(phone_number=number), client_id=client_id, now=clock.now())


def check(parts: Parts, request: OtpRequest, code: str) -> OtpRequest:
    """Verify a code."""
    return parts.verify(request.id, TypedCode(code=code), client_id=request.client_id, now=clock.now())


def test_life_of_a_test_request(testing: Parts, client_id: UUID, provider: Provider, rows: Rows) -> None:
    """Queued, sent locally, wrong, right. No cap, country or count is affected."""
    request = ask(testing, client_id)
    testing.pump.run()

    sent = testing.status(request.id, client_id=client_id)
    assert (request.status, sent.status) == (Status.QUEUED, Status.SENT)
    (attempt,) = rows.attempts(request.id)
    assert (attempt["outcome"], attempt["code"], attempt["http_status"]) == ("accepted", "test_number", None)
    assert attempt["pin_id"].startswith("test-number:")
    with pytest.raises(CodeIncorrect):
        check(testing, request, "000000")
    assert check(testing, request, CODE).status is Status.VERIFIED
    assert rows.request(request.id)["is_test"]
    assert provider.messages() == []
    with connection(testing.engine) as conn:
        assert conn.execute(text("SELECT count(*) FROM send_counts WHERE taken > 0")).scalar_one() == 0


def test_checks_are_bounded(testing: Parts, client_id: UUID) -> None:
    """Five wrong codes lock a test request like any other."""
    request = ask(testing, client_id)
    testing.pump.run()

    for _ in range(5):
        with pytest.raises(CodeIncorrect):
            check(testing, request, "000000")

    with pytest.raises(RequestLocked):
        check(testing, request, CODE)


def test_no_cool_down(testing: Parts, client_id: UUID, rows: Rows, provider: Provider) -> None:
    """A resend has no cool-down, and creates its own attempt."""
    request = ask(testing, client_id)
    testing.pump.run()

    testing.resend(request.id, client_id=client_id, channel=None, now=clock.now())
    testing.pump.run()

    assert rows.outcomes(request.id) == ["accepted", "accepted"]
    assert check(testing, request, CODE).status is Status.VERIFIED
    assert provider.messages() == []


def test_stop_holds_for_test_numbers(testing: Parts, client_id: UUID) -> None:
    """While sending is stopped test numbers are refused like others."""
    testing.switch.stop(country=None, client=None, reason=None, by="ann", now=clock.now())

    with pytest.raises(SendingStopped):
        ask(testing, client_id)


def test_others_are_not_test_numbers(testing: Parts, client_id: UUID) -> None:
    """All rules apply to a number that is not listed."""
    with pytest.raises(NumberNotAllowed):
        ask(testing, client_id, NUMBER)


def test_code_is_worth_nothing_once_the_number_is_listed_no_more(
    testing: Parts, parts: Parts, client_id: UUID, rows: Rows, provider: Provider
) -> None:
    """An accepted request is neither sent to the provider nor verified after its number is removed."""
    sent = ask(testing, client_id)
    testing.pump.run()
    with pytest.raises(CodeExpired):
        check(parts, sent, CODE)

    late = ask(testing, client_id)
    parts.pump.run()

    assert (rows.request(late.id)["status"], rows.request(late.id)["reason"]) == (
        "failed",
        "provider_refused",
    )
    assert rows.attempts(late.id)[0]["code"] == "test_number_ended"
    assert provider.messages() == []


def test_code_is_stored_nowhere(testing: Parts, client_id: UUID) -> None:
    """No table has the fixed code, in any column."""
    request = ask(testing, client_id)
    testing.pump.run()
    check(testing, request, CODE)

    with connection(testing.engine) as conn:
        tables = conn.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars()
        for table in tables.all():
            rows = conn.execute(text(f"SELECT t::text FROM {table} AS t")).scalars().all()
            # Microseconds and random hexadecimal digits may contain any six digits, so match whole words
            # only.
            assert not [row for row in rows if f",{CODE}," in row or f'"{CODE}"' in row]


def test_end_is_at_most_ninety_days_off(make_parts: MakeParts) -> None:
    """A test number must have an end. An expired one does not prevent a start."""
    assert make_parts(OTPQUEUE_TEST_NUMBERS=listed(90)).fixed_codes.find_code(REVIEWER, now=clock.now())
    assert (
        make_parts(OTPQUEUE_TEST_NUMBERS=listed(-1)).fixed_codes.find_code(REVIEWER, now=clock.now()) is None
    )
    with pytest.raises(SettingsError, match="must end by") as caught:
        make_parts(OTPQUEUE_TEST_NUMBERS=listed(91))

    assert REVIEWER not in str(caught.value)


def test_real_provider_needs_a_word(make_parts: MakeParts) -> None:
    """Test numbers with a real provider are a back door, so they need a second setting."""
    real = {"INFOBIP_BASE_URL": "https://x.api.infobip.com", "OTPQUEUE_TEST_NUMBERS": listed()}

    with pytest.raises(SettingsError, match="OTPQUEUE_ALLOW_TEST_NUMBERS"):
        make_parts(**real)

    assert make_parts(**real, OTPQUEUE_ALLOW_TEST_NUMBERS="true").fixed_codes.by_number
