"""What a caller is told when the pumping guard refuses: little, always the same, and when to come back."""

from __future__ import annotations

import pytest

from otpqueue import clock
from tests.api.conftest import Caller, MakeCaller

FIRST, SECOND = "+447400200001", "+447400200002"
PROBLEM = {
    "type": "/docs/problems#destination_paused",
    "title": "Destination paused",
    "status": 429,
    "detail": "Sending to this range of numbers is paused. Retry later, or verify the person another way.",
    "code": "destination_paused",
}


@pytest.fixture
def guarded(make_caller: MakeCaller) -> Caller:
    """Return a caller of an API with the guard in force."""
    caller = make_caller(OTPQUEUE_GUARD="enforce")
    caller.execute("TRUNCATE guard_tallies, guard_addresses")
    return caller


def test_refused_request(guarded: Caller) -> None:
    """A new block's second number is a 429 with Retry-After, without a figure or a reason."""
    guarded.ask(phone_number=FIRST)

    answer = guarded.post("/v1/otp-requests", json={"phone_number": SECOND})

    assert answer.status_code == 429
    assert answer.json == PROBLEM
    assert answer.headers["Retry-After"] == "3600"
    assert guarded.stored("refusals", "reason") == [("pumping_guard",)]


def test_every_reason_looks_the_same(guarded: Caller) -> None:
    """Which budget is used up cannot be told from the answer."""
    guarded.ask(phone_number=FIRST)
    guarded.execute(
        "INSERT INTO guard_tallies (subject, hour, country, sent) "
        "VALUES ('GB', date_trunc('hour', CAST(:now AS timestamptz), 'UTC'), 'GB', 50) "
        "ON CONFLICT (subject, hour) DO UPDATE SET sent = 50",
        now=clock.now(),
    )

    block = guarded.post("/v1/otp-requests", json={"phone_number": SECOND})
    country = guarded.post("/v1/otp-requests", json={"phone_number": "+447400300001"})

    assert (block.status_code, block.json, block.headers["Retry-After"]) == (
        country.status_code,
        country.json,
        country.headers["Retry-After"],
    )
    reasons = guarded.stored("guard_decisions", "reason")
    assert sorted(reasons) == [("chance_used",), ("country_hour",)]


def test_refused_resend(make_caller: MakeCaller) -> None:
    """A resend is refused in the same way, and the code in hand stays good."""
    caller = make_caller(OTPQUEUE_GUARD="enforce", OTPQUEUE_TUNING_GUARD_COUNTRY_FLOOR_HOUR="1")
    caller.execute("TRUNCATE guard_tallies, guard_addresses")
    path, code = caller.sent()
    caller.become(path, "resend_after = now()")

    answer = caller.post(f"{path}/resend")

    assert (answer.status_code, answer.json) == (429, PROBLEM)
    assert caller.verify(path, code).status_code == 200


def test_guides_call(guarded: Caller) -> None:
    """The guide's call answers in the guide's shape."""
    assert guarded.post("/request-otp", json={"phoneNumber": FIRST}).status_code == 202

    answer = guarded.post("/request-otp", json={"phoneNumber": SECOND})

    assert answer.status_code == 429
    assert (answer.json["success"], answer.json["errorCode"]) == (False, "TOO_MANY_REQUESTS")


def test_shadow_is_unseen(make_caller: MakeCaller) -> None:
    """In shadow mode, the default, every request is accepted."""
    caller = make_caller()
    for last in range(5):
        caller.ask(phone_number=f"+44740040000{last}")
    caller.parts.pump.run()

    assert {row.mode for row in caller.stored("guard_decisions")} == {"shadow"}
