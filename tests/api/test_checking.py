"""POST /v1/otp-requests/{id}/verify: only a 200 means that the code is right, and it comes once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.conftest import Caller, MakeCaller, MakeOtherParts, wrong
from tests.api.contract import TIME_TEXT
from tests.conftest import NO_LIMITS

EXPIRED = "expires_at = now() - interval '1 second'"


def checks(caller: Caller, path: str) -> list[str | None]:
    """Return what was recorded of each check of a request."""
    statement = "SELECT verdict FROM checks WHERE request_id = :id ORDER BY number"
    return [row[0] for row in caller.execute(statement, id=path.rpartition("/")[2])]


def until_checking(caller: Caller, many: int) -> None:
    """Wait until so many checks of this caller's requests are in flight."""
    deadline = time.monotonic() + 20
    while sum(row[0] for row in caller.stored("otp_requests", "check_lease_until IS NOT NULL")) < many:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_right_code(caller: Caller) -> None:
    """The right code is a 200 that says so, with the request as it now stands."""
    path, code = caller.sent(client_reference="order 7")

    answer = caller.verify(path, code)

    body = answer.json
    assert answer.status_code == 200
    assert body["verified"] is True
    assert (body["status"], body["reason"], body["checks_left"]) == ("verified", "code_correct", 0)
    assert body["phone_number"] == f"+44********{caller.number[-2:]}"
    assert body["client_reference"] == "order 7"
    assert TIME_TEXT.fullmatch(body["verified_at"])
    assert code not in str({**body, "id": ""})
    assert checks(caller, path) == ["correct"]


def test_right_code_once(caller: Caller) -> None:
    """A code is accepted once: the second time it is a 409, and the provider is not asked."""
    path, code = caller.sent()
    caller.verify(path, code)

    answer = caller.verify(path, code)

    assert (answer.status_code, answer.json["code"]) == (409, "already_verified")
    assert checks(caller, path) == ["correct"]


def test_wrong_codes(caller: Caller) -> None:
    """Each wrong code costs a check and says how many are left; the last one locks the request."""
    path, code = caller.sent()

    answers = [caller.verify(path, wrong(code)) for _ in range(5)]
    after = caller.verify(path, code)

    assert [answer.status_code for answer in answers] == [422] * 5
    assert {answer.json["code"] for answer in answers} == {"code_incorrect"}
    assert [answer.json["checks_left"] for answer in answers] == [4, 3, 2, 1, 0]
    assert (after.status_code, after.json["code"]) == (410, "locked")
    assert checks(caller, path) == ["wrong"] * 5


def test_right_code_with_the_last_check(caller: Caller) -> None:
    """Four wrong codes leave one check, and the right code may use it."""
    path, code = caller.sent()
    for _ in range(4):
        caller.verify(path, wrong(code))

    assert caller.verify(path, code).status_code == 200


def test_not_sent_yet(caller: Caller) -> None:
    """Before a code has left there is nothing to check: come back in a second."""
    path = caller.ask()

    answer = caller.verify(path, "123456")

    assert (answer.status_code, answer.json["code"]) == (409, "not_sent_yet")
    assert answer.headers["Retry-After"] == "1"
    assert caller.get(path).json["checks_left"] == 5


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        (EXPIRED, "expired"),
        ("status = 'expired', reason = 'code_lifetime'", "expired"),
        ("status = 'cancelled', reason = 'cancelled_by_client'", "cancelled"),
        ("status = 'failed', reason = 'provider_refused'", "failed"),
        ("status = 'locked', reason = 'checks_exhausted'", "locked"),
    ],
)
def test_right_code_too_late(caller: Caller, columns: str, code: str) -> None:
    """The right code of a request that has ended is a 410 that says how it ended, and no check."""
    path, right = caller.sent()
    caller.become(path, columns)

    answer = caller.verify(path, right)

    assert (answer.status_code, answer.json["code"]) == (410, code)
    assert checks(caller, path) == []


def test_code_of_a_replaced_request(caller: Caller) -> None:
    """The code of an older request is worth nothing, neither for it nor for the newer one."""
    older, old_code = caller.sent()
    newer, new_code = caller.sent()

    assert caller.verify(older, old_code).json["code"] == "cancelled"
    if old_code != new_code:
        assert caller.verify(newer, old_code).status_code == 422
    assert caller.verify(newer, new_code).status_code == 200


@pytest.mark.parametrize(
    "code",
    [
        "",
        "12345",
        "1234567",
        " 12345",
        "12345\n",
        "123456\n",
        "12 456",
        "123.456",
        "-123456",
        "+12345",
        "-12345",
        "1e5000",
        "0x1234",
        "12345²",
        "abcdef",
        "12345\x00",
        "1" * 5000,
        123456,
        123456.0,
        None,
        True,
        ["123456"],
        {"code": "123456"},
    ],
    ids=lambda code: ascii(code)[:20],
)
def test_invalid_code(caller: Caller, code: object) -> None:
    """What is not six digits in a string is refused before it counts as a check."""
    path = caller.ask()

    answer = caller.verify(path, code)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert [error["field"] for error in answer.json["errors"]] == ["code"]
    assert caller.get(path).json["checks_left"] == 5
    assert checks(caller, path) == []


@pytest.mark.parametrize(
    "typed", ["{} {}", "{}-{}", " {}{} ", "{}\u00a0{}", "\u202a{}\u2011{}\u202c"], ids=ascii
)
def test_code_as_people_type_it(caller: Caller, typed: str) -> None:
    """Blanks and hyphens between the digits make no code wrong, and no wrong code right."""
    path, code = caller.sent()
    wrong_code = wrong(code)

    assert caller.verify(path, typed.format(wrong_code[:3], wrong_code[3:])).json["code"] == "code_incorrect"
    assert caller.verify(path, typed.format(code[:3], code[3:])).status_code == 200
    assert len(checks(caller, path)) == 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_json"),
        (b"[]", "malformed_json"),
        (b'"123456"', "malformed_json"),
        (rb'{"code": "\ud800"}', "malformed_json"),
        (b'{"code": "123456"', "malformed_json"),
        (b"{}", "invalid_request"),
        (b'{"otp": "123456"}', "invalid_request"),
        (b'{"code": "123456", "x": 1}', "invalid_request"),
        (b'{"code": "123456", "session_id": ""}', "invalid_request"),
        (rb'{"code": "123456", "session_id": "a\u0000"}', "invalid_request"),
        (b'{"code": "123456", "client_ip": "1"}', "invalid_request"),
        (b'{"code": "123456", "phone_number": "+1"}', "invalid_phone_number"),
        (b'{"code": "123456", "phone_number": "07911123456"}', "invalid_phone_number"),
    ],
    ids=lambda value: value.decode()[:30] if isinstance(value, bytes) else value,
)
def test_bad_bodies(caller: Caller, body: bytes, code: str) -> None:
    """A body that breaks a rule costs no check."""
    path, right = caller.sent()

    answer = caller.send_bytes(f"{path}/verify", body)

    assert (answer.status_code, answer.json["code"]) == (400, code)
    assert checks(caller, path) == []
    assert caller.verify(path, right).status_code == 200


def test_content_type_of_a_check(caller: Caller) -> None:
    """A check must say that it is JSON, and be of bearable size."""
    path = caller.ask()

    plain = caller.post(f"{path}/verify", body=b'{"code": "123456"}')
    huge = caller.send_bytes(f"{path}/verify", b'{"code": "123456"}'.ljust(20_000))

    assert (plain.status_code, plain.json["code"]) == (415, "unsupported_media_type")
    assert (huge.status_code, huge.json["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("session", [None, "b", "A", "a ", "aa"])
def test_wrong_session(caller: Caller, session: str | None) -> None:
    """The right code from another session, or from none, is answered as a wrong one, and costs no check."""
    path, code = caller.sent(session_id="a")
    fields = {} if session is None else {"session_id": session}

    answer = caller.verify(path, code, **fields)

    assert (answer.status_code, answer.json["code"]) == (422, "code_incorrect")
    assert checks(caller, path) == []
    assert caller.get(path).json["checks_left"] == 5
    assert caller.verify(path, code, session_id="a").status_code == 200


def test_session_where_none_was_given(caller: Caller) -> None:
    """A request made without a session is not opened with one."""
    path, code = caller.sent()

    assert caller.verify(path, code, session_id="a").status_code == 422
    assert caller.verify(path, code, session_id=None).status_code == 200


def test_wrong_session_reads_like_a_wrong_code(caller: Caller) -> None:
    """Nothing in an answer tells a wrong session from a wrong code, whatever code came with it."""
    path, code = caller.sent(session_id="a")

    sessions = [
        caller.verify(path, tried, **fields)
        for tried in (code, wrong(code))
        for fields in ({"session_id": "b"}, {})
    ]
    guess = caller.verify(path, wrong(code), session_id="a")

    for answer in sessions:
        assert answer.status_code == guess.status_code == 422
        assert answer.json == guess.json
        assert sorted(answer.headers) == sorted(guess.headers)


def test_wrong_sessions_never_reach_the_provider_nor_lock(caller: Caller) -> None:
    """However often: nothing is judged, nothing counted, and the owner's code stays good."""
    path, code = caller.sent(session_id="a")
    caller.provider.fault(match={"path": "/verify"}, status=500)

    answers = [caller.verify(path, code, session_id=f"b{n}") for n in range(20)]
    caller.provider.clear_faults()

    assert {(one.status_code, one.json["code"], one.json["checks_left"]) for one in answers} == {
        (422, "code_incorrect", 4)
    }
    assert checks(caller, path) == []
    assert caller.verify(path, code, session_id="a").status_code == 200


def test_wrong_session_on_the_last_check(caller: Caller) -> None:
    """It reads like the wrong code that locks, and does not lock."""
    path, code = caller.sent(session_id="a")
    for _ in range(4):
        caller.verify(path, wrong(code), session_id="a")

    answer = caller.verify(path, code, session_id="b")

    assert (answer.status_code, answer.json["checks_left"]) == (422, 0)
    assert caller.verify(path, code, session_id="a").status_code == 200


def test_number_that_is_given(caller: Caller) -> None:
    """If a number is given it must be the one the code went to; another one costs no check."""
    path, code = caller.sent()

    answer = caller.verify(path, code, phone_number="+447911123456")

    assert (answer.status_code, answer.json["code"]) == (422, "code_incorrect")
    assert caller.get(path).json["checks_left"] == 5
    spaced = f"{caller.number[:3]} {caller.number[3:]}"
    assert caller.verify(path, code, phone_number=spaced, client_ip="192.0.2.1").status_code == 200


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503, "body": "<html>"},
        {"status": 429},
        {"status": 401},
        {"status": 404, "body": "<html>no such host</html>"},
        {"status": 404, "envelope": "empty"},
        {"status": 410, "envelope": "html"},
    ],
    ids=str,
)
def test_provider_does_not_judge(caller: Caller, fault: dict[str, object]) -> None:
    """When the provider cannot judge, the answer is 503, and the check is given back."""
    path, code = caller.sent()
    caller.provider.fault(match={"path": "/verify"}, times=1, **fault)

    answer = caller.verify(path, code)

    assert (answer.status_code, answer.json["code"]) == (503, "provider_unavailable")
    assert int(answer.headers["Retry-After"]) >= 1
    assert caller.get(path).json["checks_left"] == 5
    assert caller.verify(path, code).status_code == 200


@pytest.mark.parametrize(
    "fault",
    [
        {"drop": "after"},
        {"latency_ms": 3000},
        {"status": 200, "body": "OK"},
        {"status": 200, "body": {"verified": "true"}},
        {"status": 200, "body": [True]},
    ],
    ids=str,
)
def test_verdict_of_the_provider_is_unknown(make_caller: MakeCaller, fault: dict[str, object]) -> None:
    """When the provider may have looked at the code, the answer is 503, and the check counts."""
    caller = make_caller(
        OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S="0.5", OTPQUEUE_TUNING_PROVIDER_CONNECT_TIMEOUT_S="0.5"
    )
    path, code = caller.sent()
    caller.provider.fault(match={"path": "/verify"}, times=1, **fault)

    answer = caller.verify(path, code)

    assert (answer.status_code, answer.json["code"]) == (503, "provider_unavailable")
    assert caller.get(path).json["checks_left"] == 4
    assert caller.verify(path, code).status_code == 200


def test_provider_not_reached(caller: Caller, make_other_parts: MakeOtherParts, nowhere: str) -> None:
    """With no connection to the provider the answer is 503; a check is given back, three times at most."""
    path, code = caller.sent()
    cut_off = caller.over(make_other_parts(INFOBIP_BASE_URL=f"http://{nowhere}"))

    answers = [cut_off.verify(path, code) for _ in range(4)]

    assert {answer.json["code"] for answer in answers} == {"provider_unavailable"}
    assert caller.get(path).json["checks_left"] == 4
    assert caller.verify(path, code).status_code == 200


def test_provider_does_not_know_the_code(caller: Caller) -> None:
    """A code that the provider does not know any more has expired."""
    path, code = caller.sent()
    caller.provider.fault(match={"path": "/verify"}, times=1, status=404)

    answer = caller.verify(path, code)

    assert (answer.status_code, answer.json["code"]) == (410, "expired")
    assert caller.get(path).json["reason"] == "provider_expired"


def test_check_in_progress(caller: Caller) -> None:
    """One check at a time: another one waits a moment for it, and is then told to come again."""
    path, code = caller.sent()
    caller.provider.fault(match={"path": "/verify"}, times=1, latency_ms=2500)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(caller.verify, path, wrong(code))
        until_checking(caller, 1)

        answer = caller.verify(path, code)

        assert (answer.status_code, answer.json["code"]) == (409, "check_in_progress")
        assert answer.headers["Retry-After"] == "1"
        assert slow.result().json["checks_left"] == 4
    assert caller.verify(path, code).status_code == 200


def test_room_is_full(make_caller: MakeCaller) -> None:
    """Four times as many codes are checked at a time as other calls; past that a check costs nothing."""
    caller = make_caller(**NO_LIMITS, OTPQUEUE_API_THREADS="2")
    paths = [caller.ask(session_id=f"s{number}") for number in range(9)]
    caller.parts.pump.run()
    caller.provider.fault(match={"path": "/verify"}, times=8, latency_ms=2000)
    with ThreadPoolExecutor(8) as pool:
        slow = [
            pool.submit(caller.verify, path, "000000", session_id=f"s{number}")
            for number, path in enumerate(paths[:8])
        ]
        until_checking(caller, 8)

        answer = caller.verify(paths[8], "000000", session_id="s8")
        accepted = caller.post("/v1/otp-requests", json={"phone_number": caller.number})

        assert (answer.status_code, answer.json["code"]) == (503, "too_busy")
        assert answer.headers["Retry-After"] == "1"
        assert accepted.status_code == 202
        assert all(check.result().status_code in {200, 422} for check in slow)
    assert caller.get(paths[8]).json["checks_left"] == 5
    assert caller.verify(paths[8], "000000", session_id="s8").status_code in {200, 422}


def test_cancelled_while_being_checked(caller: Caller) -> None:
    """A request that its client cancels while its code is being checked is not verified afterwards."""
    path, code = caller.sent()
    caller.provider.fault(match={"path": "/verify"}, times=1, latency_ms=800)
    answers = []
    checking = threading.Thread(target=lambda: answers.append(caller.verify(path, code)))
    checking.start()
    until_checking(caller, 1)

    cancelled = caller.call("DELETE", path)
    checking.join()

    assert cancelled.json["status"] == "cancelled"
    assert (answers[0].status_code, answers[0].json["code"]) == (410, "cancelled")
    assert caller.get(path).json["status"] == "cancelled"
