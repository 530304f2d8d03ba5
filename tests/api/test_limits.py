"""Limits as callers see them: 429s, headers, what goes on without Redis, and rules against guessing."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from otpqueue import clock
from otpqueue.operations.request import RequestedCode
from tests.api.conftest import Caller, MakeCaller, MakeOtherParts, Result, wrong
from tests.conftest import NO_LIMITS

ASK = "/v1/otp-requests"
ITEM = re.compile(r'"([a-z0-9_]+)";(\w)=(\d+);(\w)=(\d+)')


def items(answer: Result, header: str) -> dict[str, dict[str, int]]:
    """Return a list of the draft's items by their names, each with its parameters."""
    text = answer.headers[header]
    found = [ITEM.fullmatch(item) for item in text.split(", ")]
    assert all(found), text
    return {one[1]: {one[2]: int(one[3]), one[4]: int(one[5])} for one in found if one}


def ask(caller: Caller, **fields: str) -> Result:
    """Ask for a code for the caller's number."""
    return caller.post(ASK, json={"phone_number": caller.number, **fields})


def test_headers_of_accepted_and_refused_answers(make_caller: MakeCaller) -> None:
    """Each answer tells the limits it was counted against and how they stand; the fourth is a 429."""
    caller = make_caller(OTPQUEUE_LIMIT_KEY_RATE="100/s")
    answers = [ask(caller) for _ in range(4)]

    assert [one.status_code for one in answers] == [202, 202, 202, 429]
    for answer in answers:
        assert items(answer, "RateLimit-Policy") == {
            "key_rate": {"q": 100, "w": 1},
            "number_15m": {"q": 3, "w": 900},
            "number_day": {"q": 10, "w": 86400},
        }
    assert [items(one, "RateLimit")["number_15m"]["r"] for one in answers] == [2, 1, 0, 0]
    assert [items(one, "RateLimit")["number_day"]["r"] for one in answers] == [9, 8, 7, 7]
    refused = answers[3]
    assert (refused.json["code"], refused.json["limit"]) == ("limit_exceeded", "number_15m")
    assert (
        int(refused.headers["Retry-After"])
        == items(refused, "RateLimit")["number_15m"]["t"]
        in range(800, 901)
    )
    assert [tuple(row) for row in caller.stored("refusals", "reason, count")] == [("limit_number_15m", 1)]


def test_shared_limits_are_not_shown(caller: Caller) -> None:
    """The count over all clients stands in no header: it would tell that others know the number."""
    answer = ask(caller)

    assert "number_day_all" not in answer.headers["RateLimit"] + answer.headers["RateLimit-Policy"]


def test_other_calls_show_the_rate(make_caller: MakeCaller) -> None:
    """A call that sends nothing is counted against its key's rate alone; one without a key, not at all."""
    caller = make_caller(OTPQUEUE_LIMIT_KEY_RATE="100/s")
    path = caller.ask()

    assert set(items(caller.get(path), "RateLimit")) == {"key_rate"}
    assert set(items(caller.get(f"{ASK}/nonsense"), "RateLimit")) == {"key_rate"}
    assert "RateLimit" not in caller.get("/health/live").headers
    caller.key = "oq_unknown"
    assert "RateLimit" not in caller.get(path).headers


def test_addresses(caller: Caller) -> None:
    """A `client_ip` is counted where it is given."""
    answer = ask(caller, client_ip="2001:db8::7")

    assert items(answer, "RateLimit")["client_ip_15m"]["r"] == 9


def test_rate_of_a_key(make_caller: MakeCaller) -> None:
    """A key's calls are counted by the second, whatever they are; another key is let in."""
    caller = make_caller(OTPQUEUE_LIMIT_KEY_RATE="5/m")
    path = caller.ask()
    answers = [caller.get(path) for _ in range(5)]

    assert [one.status_code for one in answers] == [200] * 4 + [429]
    assert (answers[4].json["code"], answers[4].json["limit"]) == ("limit_exceeded", "key_rate")
    assert 1 <= int(answers[4].headers["Retry-After"]) <= 60
    assert not caller.stored("refusals")
    caller.key = caller.new_key("send")
    assert caller.get(path).status_code == 200


def test_rate_of_keyless_calls(make_caller: MakeCaller) -> None:
    """Calls of the guide without a key are counted for the client that they count as."""
    caller = make_caller(OTPQUEUE_GUIDE_CLIENT="guide", OTPQUEUE_LIMIT_KEY_RATE="2/m")
    caller.key = None
    verify = {"phoneNumber": caller.number, "otp": "123456"}

    answers = [caller.post("/verify-otp", json=verify) for _ in range(3)]

    assert [one.status_code for one in answers] == [400, 400, 429]
    assert answers[2].json["errorCode"] == "TOO_MANY_REQUESTS"


def test_the_guides_words(make_caller: MakeCaller) -> None:
    """The guide's call answers a limit with its own words, and the same headers."""
    caller = make_caller(OTPQUEUE_LIMIT_NUMBER_15M="1/15m")
    asked = {"phoneNumber": caller.number}
    caller.post("/request-otp", json=asked)

    refused = caller.post("/request-otp", json=asked)

    assert (refused.status_code, refused.json["errorCode"]) == (429, "TOO_MANY_REQUESTS")
    assert refused.json["limit"] == "number_15m"
    assert refused.json["error"].startswith("At most 1 in 15 minutes: requests for one phone number.")
    assert int(refused.headers["Retry-After"]) in range(800, 901)


def test_a_clients_own_limit(caller: Caller) -> None:
    """What is set for a client is heeded and told by the next call."""
    caller.parts.clients.set(caller.client, "limits.number_15m", "1/30m")
    caller.parts.clients.set(caller.client, "limits.key_rate", "off")

    first, second = ask(caller), ask(caller)

    assert (first.status_code, second.status_code) == (202, 429)
    assert items(second, "RateLimit-Policy")["number_15m"] == {"q": 1, "w": 1800}
    assert "key_rate" not in items(second, "RateLimit-Policy")


def test_resends_are_limited_by_the_day(caller: Caller) -> None:
    """A resend past the day's codes is a 429, and the code in hand stays good."""
    caller.parts.clients.set(caller.client, "limits.number_day", "1/d")
    path, code = caller.sent()
    caller.become(path, "resend_after = now() - interval '1 s'")

    refused = caller.post(f"{path}/resend")

    assert (refused.status_code, refused.json["limit"]) == (429, "number_day")
    assert caller.verify(path, code).status_code == 200


def test_without_redis(caller: Caller, make_other_parts: MakeOtherParts, nowhere: str) -> None:
    """Without Redis no code is sent nor resent, and codes are checked as ever."""
    path, code = caller.sent()
    caller.become(path, "resend_after = now() - interval '1 s'")
    cut_off = caller.over(make_other_parts(REDIS_URL=f"redis://:hunter2@{nowhere}/0"))

    refused = [
        ask(cut_off),
        cut_off.post(f"{path}/resend"),
        cut_off.post("/request-otp", json={"phoneNumber": caller.number}),
    ]
    read, checked = cut_off.get(path), cut_off.verify(path, wrong(code))
    verified = cut_off.verify(path, code)

    assert [(one.status_code, one.json["code"]) for one in refused] == [(503, "limits_unavailable")] * 3
    assert {one.headers["Retry-After"] for one in refused} == {"1"}
    assert (read.status_code, checked.status_code, verified.status_code) == (200, 422, 200)
    assert "RateLimit" not in read.headers


def test_hung_redis(caller: Caller, make_other_parts: MakeOtherParts, hung: int) -> None:
    """A Redis that takes connections and never answers is as one that is away: nobody waits for it twice."""
    path, code = caller.sent()
    cut_off = caller.over(make_other_parts(REDIS_URL=f"redis://127.0.0.1:{hung}/0"))

    refused = ask(cut_off)

    assert (refused.status_code, refused.json["code"]) == (503, "limits_unavailable")
    assert cut_off.verify(path, code).status_code == 200


def test_three_of_two_hundred(caller: Caller) -> None:
    """Of 200 calls at once for one number three are accepted, in whichever order they come."""
    caller.parts.clients.set(caller.client, "limits.key_rate", "off")
    caller.parts.clients.set(caller.client, "limits.number_15m", "3/15m")

    def one(_: int) -> tuple[int, str | None]:
        answer = ask(caller)
        return answer.status_code, answer.json.get("code")

    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(one, range(200)))

    assert answers.count((202, None)) == len(caller.stored("otp_requests")) == 3
    assert {answer for answer in answers if answer[0] != 202} <= {
        (429, "limit_exceeded"),
        (503, "too_busy"),
        (503, "database_unavailable"),
    }


def guess(caller: Caller, times: int) -> None:
    """Type so many wrong codes for the caller's number."""
    while times > 0:
        path, code = caller.sent()
        for _ in range(min(5, times)):
            assert caller.verify(path, wrong(code)).status_code == 422
        times -= 5


def test_too_many_wrong_codes(make_caller: MakeCaller) -> None:
    """Ten wrong codes stop new requests for an hour, and no code in hand."""
    caller = make_caller(**NO_LIMITS)
    path, code = caller.ask(session_id="mine"), ""
    caller.parts.pump.run()
    code = caller.provider.code(caller.number)
    guess(caller, 10)

    refused = ask(caller)

    assert (refused.status_code, refused.json["code"]) == (429, "too_many_wrong_codes")
    assert int(refused.headers["Retry-After"]) in range(3500, 3601)
    guides = caller.post("/request-otp", json={"phoneNumber": caller.number})
    assert (guides.status_code, guides.json["errorCode"]) == (429, "TOO_MANY_REQUESTS")
    assert caller.verify(path, code, session_id="mine").status_code == 200


def test_locked_number(make_caller: MakeCaller) -> None:
    """A number that was guessed at too often is a 403 that no waiting mends, at this client alone."""
    caller = make_caller(**NO_LIMITS)
    guess(caller, 1)
    guessed = "UPDATE number_guesses SET wrong_in_a_row = 100 WHERE client_id = :id"
    caller.execute(guessed, id=caller.client_id)

    refused = ask(caller)

    assert (refused.status_code, refused.json["code"]) == (403, "number_locked")
    assert "Retry-After" not in refused.headers
    guides = caller.post("/request-otp", json={"phoneNumber": caller.number})
    assert (guides.status_code, guides.json["errorCode"]) == (403, "NUMBER_LOCKED")
    wanted = RequestedCode(phone_number=caller.number)
    other = caller.parts.keys.client_id("another", now=clock.now())
    assert caller.parts.request(wanted, client_id=other, now=clock.now())
    caller.parts.numbers.unlock(caller.number, client=caller.client, now=clock.now())
    assert ask(caller).status_code == 202
