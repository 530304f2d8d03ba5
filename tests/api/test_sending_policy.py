"""The sending policy as callers meet it: status, code, Retry-After, and the guide's words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from otpqueue import clock
from otpqueue.domain.errors import NumberNotAllowed
from tests.api.conftest import Caller, MakeOtherParts

ASK = "/v1/otp-requests"


@pytest.fixture
def stopped(caller: Caller) -> Iterator[Caller]:
    """Yield a caller while sending is stopped for his client."""
    switch = caller.parts.switch
    switch.stop(country=None, client=caller.client, reason="test", by="ann", now=clock.now())
    yield caller
    switch.resume(country=None, client=caller.client, by="ann", now=clock.now())


def test_stopped_sending(stopped: Caller) -> None:
    """503 with a word when to ask again; health says so without becoming unwell."""
    answer = stopped.post(ASK, json={"phone_number": stopped.number})
    guide = stopped.post("/request-otp", json={"phoneNumber": stopped.number})
    health = stopped.get("/health")

    assert (answer.status_code, answer.json["code"]) == (503, "sending_stopped")
    assert answer.headers["Retry-After"] == guide.headers["Retry-After"] == "60"
    assert (guide.status_code, guide.json["errorCode"]) == (503, "SERVICE_UNAVAILABLE")
    assert (health.status_code, health.json["sending"]) == (200, "stopped in part")
    assert stopped.stored("refusals", "min(reason), sum(count)") == [("sending_stopped", 2)]
    assert not stopped.stored("otp_requests")


def test_stopped_for_all(caller: Caller) -> None:
    """Health says that nothing is sent at all; it is as well as before."""
    before = caller.get("/health")
    caller.parts.switch.stop(country=None, client=None, reason="test", by="ann", now=clock.now())
    try:
        stopped = caller.get("/health")
    finally:
        caller.parts.switch.resume(country=None, client=None, by="ann", now=clock.now())

    assert (before.json["sending"], stopped.json["sending"]) == ("on", "stopped")
    assert (before.status_code, before.json["status"]) == (stopped.status_code, stopped.json["status"])


def test_resend_while_stopped(caller: Caller) -> None:
    """A resend is refused like a request, and the code in hand is good all the same."""
    path, code = caller.sent()
    caller.become(path, "resend_after = now()")
    caller.parts.switch.stop(country=None, client=caller.client, reason=None, by="ann", now=clock.now())

    answer = caller.post(f"{path}/resend")

    assert (answer.status_code, answer.json["code"]) == (503, "sending_stopped")
    assert caller.verify(path, code).status_code == 200


def test_daily_cap(caller: Caller, make_other_parts: MakeOtherParts) -> None:
    """503 until midnight UTC; what was accepted before and is over the cap says so itself."""
    capped = caller.over(make_other_parts(OTPQUEUE_DAILY_CAP="none", OTPQUEUE_DAILY_CAP_PER_CLIENT="1"))
    first, second = capped.ask(session_id="a"), capped.ask(session_id="b")
    capped.parts.pump.run()

    answer = capped.post(ASK, json={"phone_number": capped.number})
    failed = capped.get(second)

    assert capped.get(first).json["status"] == "sent"
    assert (failed.json["status"], failed.json["reason"]) == ("failed", "daily_cap")
    assert (answer.status_code, answer.json["code"]) == (503, "daily_cap_reached")
    assert 0 < int(answer.headers["Retry-After"]) <= 86_400
    assert capped.stored("refusals", "reason") == [("daily_cap_of_client",)]


def test_country_not_allowed(caller: Caller, make_other_parts: MakeOtherParts) -> None:
    """422 with a code of its own; the guide has no other word than for a bad number."""
    narrow = caller.over(make_other_parts(OTPQUEUE_COUNTRIES_ALLOWED="FR"))

    answer = narrow.post(ASK, json={"phone_number": narrow.number})
    guide = narrow.post("/request-otp", json={"phoneNumber": narrow.number})

    assert (answer.status_code, answer.json["code"]) == (422, "country_not_allowed")
    assert (guide.status_code, guide.json["errorCode"]) == (400, "INVALID_PHONE_NUMBER")
    assert narrow.number not in answer.text + guide.text


def test_blocked_number_is_answered_like_any_refused_one(caller: Caller) -> None:
    """Nobody can tell a number on the do-not-send list from a kind of line that is refused."""
    caller.parts.blocklist.block(caller.number, reason="asked us to", until=None, now=clock.now())

    blocked = caller.post(ASK, json={"phone_number": caller.number})
    premium = caller.post(ASK, json={"phone_number": "+449012345678"})
    caller.parts.blocklist.unblock(caller.number)

    assert blocked.status_code == 422
    assert blocked.json == premium.json
    assert blocked.json["detail"] == NumberNotAllowed.message()
    assert caller.stored("refusals", "reason") == [("do_not_send",), ("premium_rate_number",)]


def test_language_of_another_client(caller: Caller) -> None:
    """400 that names the field and the languages there are; no refusal is counted for a slip."""
    caller.execute(
        'UPDATE clients SET settings = \'{"languages": ["de"]}\' WHERE id = :id', id=caller.client_id
    )

    answer = caller.post(ASK, json={"phone_number": caller.number, "language": "en"})

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    (error,) = answer.json["errors"]
    assert error == {"field": "language", "message": "must be one of this client's languages: de"}
    assert not caller.stored("refusals")
