"""GET /v1/otp-requests/{id}: how a request stands, and waiting for it to change."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from otpqueue import clock
from tests.api.conftest import Caller, MakeCaller, wrong
from tests.api.contract import TIME_TEXT

NIL = "00000000-0000-7000-8000-000000000000"
CLAIMED = (
    "send_state = 'claimed', next_attempt_at = NULL, lease_until = now() + interval '1 hour', attempt = 1"
)


def test_queued(caller: Caller) -> None:
    """A request that waits for a worker is queued, and may be asked about again in a second."""
    path = caller.ask(client_reference="order 7")

    answer = caller.get(path)

    assert answer.status_code == 200
    assert (answer.json["status"], answer.json["client_reference"]) == ("queued", "order 7")
    assert answer.headers["Retry-After"] == "1"


def test_sending(caller: Caller) -> None:
    """While a worker holds a request that is still queued it is shown as sending."""
    path = caller.ask()
    caller.become(path, CLAIMED)

    answer = caller.get(path)

    assert answer.json["status"] == "sending"
    assert answer.headers["Retry-After"] == "1"


def test_sent(caller: Caller) -> None:
    """A sent code has the time it was sent and the time it ends, five minutes on."""
    path, _code = caller.sent()

    answer = caller.get(path)

    body = answer.json
    assert (body["status"], body["reason"], body["provider_code"]) == ("sent", None, None)
    for name in ("created_at", "sent_at", "expires_at"):
        assert TIME_TEXT.fullmatch(body[name])
    life = datetime.fromisoformat(body["expires_at"]) - datetime.fromisoformat(body["created_at"])
    assert timedelta(minutes=5) <= life <= timedelta(minutes=6)
    assert body["checks_left"] == 5
    assert answer.headers["Retry-After"] == "5"


@pytest.mark.parametrize("status", ["delivered", "undelivered"])
def test_delivery_report_is_shown(caller: Caller, status: str) -> None:
    """A code that arrived, or is said not to have, is live and can be checked."""
    path, code = caller.sent()
    caller.become(path, f"status = '{status}'")

    shown = caller.get(path)

    assert (shown.json["status"], shown.json["checks_left"]) == (status, 5)
    assert shown.headers["Retry-After"] == "5"
    assert caller.verify(path, code).status_code == 200


def test_verified(caller: Caller) -> None:
    """A verified request is final and says when the right code came."""
    path, code = caller.sent()
    caller.verify(path, code)

    answer = caller.get(path)

    body = answer.json
    assert (body["status"], body["reason"], body["checks_left"]) == ("verified", "code_correct", 0)
    assert TIME_TEXT.fullmatch(body["verified_at"])
    assert "Retry-After" not in answer.headers


def test_failed(caller: Caller) -> None:
    """A request whose code the provider refuses for good is final, with the provider's word for it."""
    refusal = {"requestError": {"serviceException": {"messageId": "BAD_NUMBER", "text": "no"}}}
    caller.provider.fault(match={"to": caller.number}, status=400, body=refusal)
    path = caller.ask()
    caller.parts.pump.run()

    answer = caller.get(path)

    body = answer.json
    assert (body["status"], body["reason"]) == ("failed", "provider_refused")
    assert body["provider_code"] == "BAD_NUMBER"
    assert (body["sent_at"], body["expires_at"], body["checks_left"]) == (None, None, 0)


def test_expired(caller: Caller) -> None:
    """A code that nobody typed in time is final."""
    path, _code = caller.sent()
    caller.become(path, "expires_at = now() - interval '1 second'")
    caller.parts.expire(now=clock.now())

    body = caller.get(path).json

    assert (body["status"], body["reason"], body["checks_left"]) == ("expired", "code_lifetime", 0)


def test_locked(caller: Caller) -> None:
    """A request with no checks left is final."""
    path, code = caller.sent()
    for _ in range(5):
        caller.verify(path, wrong(code))

    body = caller.get(path).json

    assert (body["status"], body["reason"], body["checks_left"]) == ("locked", "checks_exhausted", 0)


def test_answer_is_the_same_in_both_calls(caller: Caller) -> None:
    """What the 202 showed is what a GET shows while nothing has changed."""
    accepted = caller.post("/v1/otp-requests", json={"phone_number": caller.number})

    answer = caller.get(accepted.headers["Location"])

    assert answer.json == accepted.json


def test_etag(caller: Caller) -> None:
    """A state that the caller knows is a 304 without a body; another one is answered."""
    path = caller.ask()
    first = caller.get(path).headers["ETag"]

    known = caller.get(path, headers={"If-None-Match": first})
    caller.parts.pump.run()
    changed = caller.get(path, headers={"If-None-Match": first})

    assert first.startswith('"')
    assert (known.status_code, known.text, known.headers["ETag"]) == (304, "", first)
    assert (changed.status_code, changed.json["status"]) == (200, "sent")
    assert changed.headers["ETag"] != first


@pytest.mark.parametrize("tags", ["{0}", "W/{0}", '"x", {0}', "*"])
def test_forms_of_if_none_match(caller: Caller, tags: str) -> None:
    """A list of tags, a weak one, and `*` mean what RFC 9110 says."""
    path = caller.ask()
    tag = caller.get(path).headers["ETag"]

    assert caller.get(path, headers={"If-None-Match": tags.format(tag)}).status_code == 304


@pytest.mark.parametrize("tags", ["", '"x"', "x", '"', ",,", "W/", "\xff", '"x' * 500])
def test_other_tags(caller: Caller, tags: str) -> None:
    """Tags that are not this state's, and what is no tag at all, lead to the whole answer."""
    path = caller.ask()

    assert caller.get(path, headers={"If-None-Match": tags}).status_code == 200


def test_wrong_code_changes_the_etag(caller: Caller) -> None:
    """A check that was counted is a new state: checks_left is part of it."""
    path, code = caller.sent()
    tag = caller.get(path).headers["ETag"]
    caller.verify(path, wrong(code))

    answer = caller.get(path, headers={"If-None-Match": tag})

    assert (answer.status_code, answer.json["checks_left"]) == (200, 4)


@pytest.mark.parametrize("with_tag", [False, True])
def test_wait_ends_with_the_change(caller: Caller, with_tag: bool) -> None:
    """With `wait` the answer comes when the status changes, long before the time is over."""
    path = caller.ask()
    headers = {"If-None-Match": caller.get(path).headers["ETag"]} if with_tag else {}
    pumping = threading.Timer(0.5, caller.parts.pump.run)
    pumping.start()

    started = time.monotonic()
    answer = caller.get(path, query_string="wait=30", headers=headers)
    took = time.monotonic() - started
    pumping.join()

    assert (answer.status_code, answer.json["status"]) == (200, "sent")
    assert 0.4 < took < 20


def test_wait_that_nothing_ends(caller: Caller) -> None:
    """When nothing changes the answer comes after the time that was asked for, as things stand."""
    path = caller.ask()
    tag = caller.get(path).headers["ETag"]

    started = time.monotonic()
    answer = caller.get(path, query_string="wait=0.4")
    unchanged = caller.get(path, query_string="wait=0.4", headers={"If-None-Match": tag})
    took = time.monotonic() - started

    assert (answer.status_code, answer.json["status"]) == (200, "queued")
    assert unchanged.status_code == 304
    assert 0.8 <= took < 20


def test_no_wait_for_a_final_request(caller: Caller) -> None:
    """A request that has ended cannot change: there is nothing to wait for."""
    path = caller.ask()
    caller.call("DELETE", path)

    started = time.monotonic()
    answer = caller.get(path, query_string="wait=30")
    took = time.monotonic() - started

    assert answer.json["status"] == "cancelled"
    assert took < 20


def test_no_wait_when_the_state_is_news(caller: Caller) -> None:
    """A caller whose If-None-Match is stale learns the present state at once."""
    path = caller.ask()
    tag = caller.get(path).headers["ETag"]
    caller.parts.pump.run()

    started = time.monotonic()
    answer = caller.get(path, query_string="wait=30", headers={"If-None-Match": tag})
    took = time.monotonic() - started

    assert (answer.status_code, answer.json["status"]) == (200, "sent")
    assert took < 20


def test_more_waiters_than_slots(make_caller: MakeCaller) -> None:
    """Waiting is a courtesy: past the number of places the answer comes at once."""
    caller = make_caller(OTPQUEUE_API_THREADS="2")  # four places to wait
    path = caller.ask()

    def wait(_: int) -> float:
        started = time.monotonic()
        answer = caller.get(path, query_string="wait=2")
        assert answer.json["status"] == "queued"
        return time.monotonic() - started

    with ThreadPoolExecutor(6) as pool:
        took = sorted(pool.map(wait, range(6)))

    assert sum(seconds >= 2 for seconds in took) == 4
    assert took[1] < 2


@pytest.mark.parametrize("wait", ["0", "00", "0.0", "0.001"])
def test_shortest_waits(caller: Caller, wait: str) -> None:
    """No time at all is a time to wait."""
    assert caller.get(caller.ask(), query_string=f"wait={wait}").status_code == 200


@pytest.mark.parametrize(
    "wait",
    [
        "",
        "-1",
        "31",
        "30.001",
        "99999",
        "1e1",
        "abc",
        "1s",
        "nan",
        "inf",
        "%201",
        "1%00",
        "٣",
        ".5",
        "5.",
        "+1",
    ],
)
def test_bad_waits(caller: Caller, wait: str) -> None:
    """What is no number of seconds from 0 to 30 is refused, naming the parameter."""
    path = caller.ask()

    answer = caller.get(path, query_string=f"wait={wait}")

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert [error["field"] for error in answer.json["errors"]] == ["wait"]


@pytest.mark.parametrize("query", ["wait=1&wait=2", "wait=1,2"])
def test_wait_given_twice(caller: Caller, query: str) -> None:
    """Two times to wait are none."""
    assert caller.get(caller.ask(), query_string=query).status_code == 400


@pytest.mark.parametrize(
    "query", ["timeout=5", "Wait=5", "wait=1&x=2", "x", "%F0%9F%92%A5=1", "%00=1", "%ff=1"]
)
def test_unknown_parameters(caller: Caller, query: str) -> None:
    """A parameter that the call has not is refused: it may be a misspelt one."""
    answer = caller.get(caller.ask(), query_string=query)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "text",
    [
        "1",
        "abc",
        "null",
        NIL[:-1],
        NIL + "0",
        NIL.replace("-", ""),
        "{" + NIL + "}",
        "urn:uuid:" + NIL,
        NIL.replace("7", "g"),
        "%20" + NIL,
        NIL + "%0a",
        NIL + "%00",
        "%ff%fe",
        "\N{ARABIC-INDIC DIGIT ZERO}" + NIL[1:],
        "x" * 4000,
        "..%2f..",
    ],
    ids=lambda text: text[:20],
)
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("DELETE", ""), ("POST", "/verify")])
def test_invalid_id(caller: Caller, text: str, method: str, suffix: str) -> None:
    """A path that holds no UUID is a request that is not found, or no path at all."""
    body = {"json": {"code": "123456"}} if method == "POST" else {}

    answer = caller.call(method, f"/v1/otp-requests/{text}{suffix}", **body)

    assert answer.status_code == 404
    assert answer.json["code"] == "not_found" if "%2f" in text else "request_not_found"


def test_unknown_id(caller: Caller) -> None:
    """A UUID that was never given out is not found."""
    answer = caller.get(f"/v1/otp-requests/{NIL}")

    assert (answer.status_code, answer.json["code"]) == (404, "request_not_found")


def test_upper_case_id(caller: Caller) -> None:
    """A UUID is the same in capital letters."""
    path = caller.ask()
    prefix, _, request_id = path.rpartition("/")

    answer = caller.get(f"{prefix}/{request_id.upper()}")

    assert (answer.status_code, answer.json["id"]) == (200, request_id)
