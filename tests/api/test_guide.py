"""The public guide's two calls, for front ends that were written after it."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest

from tests.api.conftest import Caller, MakeCaller, MakeOtherParts, Result, wrong

ASK, CHECK = "/request-otp", "/verify-otp"


@pytest.fixture
def guest(make_caller: MakeCaller) -> Caller:
    """Return a caller without a key, where keyless calls count as a client."""
    name = f"guide-{uuid4().hex}"
    guest = make_caller(OTPQUEUE_GUIDE_CLIENT=name)
    guest.client, guest.key = name, guest.new_key("send", "verify", client=name)
    return guest


def ask(caller: Caller, **fields: object) -> Result:
    """Ask for a code without a key, as the guide's front end does."""
    return keyless(caller, ASK, {"phoneNumber": caller.number, **fields})


def check(caller: Caller, otp: object, **fields: object) -> Result:
    """Check a code without a key, as the guide's front end does."""
    return keyless(caller, CHECK, {"phoneNumber": caller.number, "otp": otp, **fields})


def keyless(caller: Caller, path: str, body: object) -> Result:
    """Post without a key."""
    key, caller.key = caller.key, None
    try:
        return caller.post(path, json=body)
    finally:
        caller.key = key


def sent(caller: Caller, **fields: object) -> str:
    """Ask for a code, send it and return it."""
    assert ask(caller, **fields).status_code == 202
    caller.parts.pump.run()
    return caller.provider.code(caller.number)


def refused(answer: Result, status: int, word: str) -> bool:
    """Return whether an answer is this refusal, in the guide's words and as a problem."""
    body = answer.json
    assert body["success"] is False
    assert body["error"]
    assert body["status"] == answer.status_code
    return (answer.status_code, body["errorCode"]) == (status, word)


def test_asking(guest: Caller) -> None:
    """A request is accepted with the guide's fields, and where to see how it stands."""
    answer = ask(guest, sessionId="login-1")

    body = answer.json
    assert answer.status_code == 202
    assert set(body) == {"success", "message", "requestId", "statusUrl"}
    assert body["success"] is True
    assert body["statusUrl"] == f"/v1/otp-requests/{body['requestId']}"
    assert guest.get(body["statusUrl"]).json["status"] == "queued"


def test_checking(guest: Caller) -> None:
    """The right code is a 200 with success true."""
    code = sent(guest, sessionId="login-1")

    answer = check(guest, code, sessionId="login-1")

    assert answer.status_code == 200
    assert set(answer.json) == {"success", "message"}
    assert answer.json["success"] is True


def test_newest_request_is_checked(guest: Caller) -> None:
    """Of several requests for a number the newest one's code counts."""
    old = sent(guest)
    new = sent(guest)

    if old != new:
        assert refused(check(guest, old), 400, "WRONG_PIN")
    assert check(guest, new).status_code == 200


def test_live_request_is_checked_before_an_ended_one(guest: Caller) -> None:
    """Sessions of one number are apart: each checks its own request."""
    first, second = sent(guest, sessionId="a"), sent(guest, sessionId="b")

    assert check(guest, second, sessionId="b").status_code == 200
    assert check(guest, first, sessionId="a").status_code == 200


def test_wrong_code(guest: Caller) -> None:
    """A wrong code is the guide's 400 WRONG_PIN, with how many checks are left."""
    code = sent(guest)

    answer = check(guest, wrong(code))

    assert refused(answer, 400, "WRONG_PIN")
    assert (answer.json["code"], answer.json["checks_left"]) == ("code_incorrect", 4)


def test_too_many_wrong_codes(guest: Caller) -> None:
    """When no checks are left it is MAX_ATTEMPTS_EXCEEDED."""
    code = sent(guest, sessionId="a")
    for _ in range(5):
        check(guest, wrong(code), sessionId="a")

    assert refused(check(guest, code, sessionId="a"), 400, "MAX_ATTEMPTS_EXCEEDED")


def test_second_time(guest: Caller) -> None:
    """A code that was accepted is not there any more."""
    code = sent(guest)
    check(guest, code)

    assert refused(check(guest, code), 400, "PIN_NOT_FOUND")


def test_nothing_asked_for(guest: Caller) -> None:
    """A number without a request has no code."""
    assert refused(check(guest, "123456"), 400, "PIN_NOT_FOUND")


def test_other_session_of_a_caller_with_a_key(guest: Caller) -> None:
    """A right code from another session, or from none, is answered as a wrong one, and costs no check."""
    code = sent(guest, sessionId="a")

    def check_with_key(otp: str, **fields: str) -> Result:
        return guest.post(CHECK, json={"phoneNumber": guest.number, "otp": otp, **fields})

    foreign = [check_with_key(code, sessionId="b"), check_with_key(code)]
    guess = check_with_key(wrong(code), sessionId="a")

    for answer in (*foreign, guess):
        assert refused(answer, 400, "WRONG_PIN")
    assert foreign[0].json == foreign[1].json == guess.json
    assert check_with_key(code, sessionId="a").status_code == 200


def test_session_without_a_request_beside_ended_ones(guest: Caller) -> None:
    """Only a live request of another session makes a code wrong: of ended ones nothing is told."""
    code = sent(guest, sessionId="a")
    check(guest, code, sessionId="a")

    body = {"phoneNumber": guest.number, "otp": code, "sessionId": "b"}
    assert refused(guest.post(CHECK, json=body), 400, "PIN_NOT_FOUND")


ENDED = [
    "expires_at = now() - interval '1 second'",
    "status = 'expired', reason = 'code_lifetime', finished_at = now()",
    "status = 'locked', reason = 'checks_exhausted', finished_at = now()",
    "status = 'cancelled', reason = 'cancelled_by_client', finished_at = now()",
    "status = 'failed', reason = 'provider_refused', finished_at = now()",
    "status = 'verified', reason = 'code_correct', finished_at = now()",
]


@pytest.mark.parametrize(
    ("session", "columns"),
    # Without a session everybody who knows the number is the owner of a live request.
    [("of the owner", "status = status"), *((session, ended) for session in (None, "x") for ended in ENDED)],
)
def test_keyless_callers_learn_nothing_about_a_number(
    guest: Caller, session: str | None, columns: str
) -> None:
    """Without a key, a number that was never used, one of another session and an ended one are the same."""
    path = ask(guest, **{"sessionId": session} if session else {}).json["statusUrl"]
    guest.parts.pump.run()
    guest.become(path, columns)
    code = guest.provider.code(guest.number)
    unused = keyless(guest, CHECK, {"phoneNumber": "+447700900998", "otp": code})

    tries = [check(guest, code), check(guest, wrong(code)), check(guest, code, sessionId="a stranger's")]

    for answer in tries:
        assert refused(answer, 400, "PIN_NOT_FOUND")
        assert answer.json == unused.json
        assert set(answer.headers) == set(unused.headers)
    assert guest.execute("SELECT count(*) FROM checks WHERE request_id = :id", id=path[-36:])[0][0] == 0


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        ("expires_at = now() - interval '1 second'", "PIN_EXPIRED"),
        ("status = 'expired', reason = 'code_lifetime'", "PIN_EXPIRED"),
        ("status = 'cancelled', reason = 'cancelled_by_client'", "PIN_NOT_FOUND"),
        ("status = 'failed', reason = 'provider_refused'", "PIN_NOT_SENT"),
    ],
)
def test_ended_requests(guest: Caller, columns: str, word: str) -> None:
    """A request that has ended is a 400 that says how, to the caller who knows its session."""
    path = ask(guest, sessionId="a").json["statusUrl"]
    guest.parts.pump.run()
    guest.become(path, columns)

    assert refused(check(guest, guest.provider.code(guest.number), sessionId="a"), 400, word)


def test_not_sent_yet(guest: Caller) -> None:
    """Before the code has left there is none to check."""
    ask(guest)

    answer = check(guest, "123456")

    assert refused(answer, 400, "PIN_NOT_SENT")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("number", ["07911123456", "+441", "hello", "+44791112345678901"])
def test_bad_numbers(guest: Caller, number: str) -> None:
    """A number that cannot be one is INVALID_PHONE_NUMBER in both calls, under the guide's field name."""
    answers = [
        keyless(guest, ASK, {"phoneNumber": number}),
        keyless(guest, CHECK, {"phoneNumber": number, "otp": "123456"}),
    ]

    for answer in answers:
        assert refused(answer, 400, "INVALID_PHONE_NUMBER")
        assert [error["field"] for error in answer.json["errors"]] == ["phoneNumber"]
        assert answer.json["error"].startswith("phoneNumber ")


def test_refused_kind_of_number(guest: Caller) -> None:
    """A number that is not sent to is INVALID_PHONE_NUMBER, too; the guide knows no other word."""
    answer = keyless(guest, ASK, {"phoneNumber": "+18002530000"})

    assert refused(answer, 422, "INVALID_PHONE_NUMBER") or refused(answer, 400, "INVALID_PHONE_NUMBER")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (ASK, {}),
        (ASK, {"phone_number": "+447911123456"}),
        (ASK, {"phoneNumber": 447911123456}),
        (ASK, {"phoneNumber": "+447911123456", "country": "GB"}),
        (ASK, {"phoneNumber": "+447911123456", "sessionId": ""}),
        (ASK, []),
        (CHECK, {"phoneNumber": "+447911123456"}),
        (CHECK, {"phoneNumber": "+447911123456", "code": "123456"}),
        (CHECK, {"phoneNumber": "+447911123456", "otp": 123456}),
        (CHECK, {"phoneNumber": "+447911123456", "otp": "12345"}),
        (CHECK, {"phoneNumber": "+447911123456", "otp": "123.456"}),
        (CHECK, "123456"),
    ],
)
def test_bad_bodies(guest: Caller, path: str, body: object) -> None:
    """What breaks a rule is BAD_REQUEST, and the fields have the guide's names."""
    answer = keyless(guest, path, body)

    assert refused(answer, 400, "BAD_REQUEST")
    named = {error["field"] for error in answer.json.get("errors", [])}
    assert not named & {"session_id"}
    assert not guest.stored("otp_requests")


@pytest.mark.parametrize("path", [ASK, CHECK])
def test_bodies_that_are_not_read(guest: Caller, path: str) -> None:
    """Another media type and a body too large keep their status, in the guide's words."""
    plain = guest.post(path, body=b"{}", headers={"Content-Type": "text/plain"})
    huge = guest.send_bytes(path, b" " * 20_000)
    broken = guest.send_bytes(path, b"{")

    assert refused(plain, 415, "BAD_REQUEST")
    assert refused(huge, 413, "BAD_REQUEST")
    assert refused(broken, 400, "BAD_REQUEST")


def test_check_in_progress_is_too_many(guest: Caller) -> None:
    """One check at a time: another one is told to come again with 429."""
    code = sent(guest)
    statement = (
        "UPDATE otp_requests SET check_lease_until = now() + interval '1 hour' WHERE number_hash = :hash"
    )
    guest.execute(statement, hash=guest.parts.vault.number_hash(guest.number))

    answer = check(guest, code)

    assert refused(answer, 429, "TOO_MANY_REQUESTS")
    assert answer.headers["Retry-After"] == "1"


def test_provider_down(guest: Caller) -> None:
    """When the provider does not judge it is 503 SERVICE_UNAVAILABLE, to be tried again."""
    code = sent(guest)
    guest.provider.fault(match={"path": "/verify"}, times=1, status=503)

    answer = check(guest, code)

    assert refused(answer, 503, "SERVICE_UNAVAILABLE")
    assert int(answer.headers["Retry-After"]) >= 1
    assert check(guest, code).status_code == 200


def test_database_down(guest: Caller, make_other_parts: MakeOtherParts, nowhere: str) -> None:
    """When the database is down it is 503 SERVICE_UNAVAILABLE."""
    parts = make_other_parts(DATABASE_URL=f"postgresql://x@{nowhere}/x", OTPQUEUE_GUIDE_CLIENT="guide")
    cut_off = guest.over(parts)

    assert refused(ask(cut_off), 503, "SERVICE_UNAVAILABLE")
    assert refused(check(cut_off, "123456"), 503, "SERVICE_UNAVAILABLE")


def test_a_key_still_counts(guest: Caller) -> None:
    """A call with a key counts as the key's client also where keyless ones are taken."""
    guest.key = guest.new_key("send", "verify", client=f"other-{uuid4().hex}")

    answer = guest.post(ASK, json={"phoneNumber": guest.number})

    assert answer.status_code == 202
    guest.parts.pump.run()
    code = guest.provider.code(guest.number)
    assert refused(check(guest, code), 400, "PIN_NOT_FOUND")
    assert guest.post(CHECK, json={"phoneNumber": guest.number, "otp": code}).status_code == 200


@pytest.mark.parametrize("path", [ASK, CHECK])
@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer nonsense", "Basic eDp5", "x"])
def test_wrong_key_is_no_keyless_call(guest: Caller, path: str, authorization: str) -> None:
    """A wrong key is refused, not taken for none."""
    answer = guest.post(path, json={"phoneNumber": guest.number}, headers={"Authorization": authorization})

    assert refused(answer, 401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(("path", "scope", "needed"), [(ASK, "verify", "send"), (CHECK, "send", "verify")])
def test_scopes_of_the_guide(guest: Caller, path: str, scope: str, needed: str) -> None:
    """A key needs the scope here as everywhere."""
    guest.key = guest.new_key(scope)

    answer = guest.post(path, json={"phoneNumber": guest.number, "otp": "123456"})

    assert refused(answer, 403, "FORBIDDEN")
    assert re.search(rf"\b{needed}\b", answer.json["detail"])


@pytest.mark.parametrize("path", [ASK, CHECK])
def test_keyless_is_off_by_default(caller: Caller, path: str) -> None:
    """Without the setting a call without a key is refused, and one with a key is served."""
    answer = keyless(caller, path, {"phoneNumber": caller.number, "otp": "123456"})

    assert refused(answer, 401, "UNAUTHORIZED")
    assert caller.post(ASK, json={"phoneNumber": caller.number}).status_code == 202


def test_keyless_is_for_the_guides_calls_only(guest: Caller) -> None:
    """The other calls need a key all the same."""
    guest.key = None

    assert guest.post("/v1/otp-requests", json={"phone_number": guest.number}).status_code == 401


def repeated(caller: Caller, path: str, body: object, *, key: str = "one") -> Result:
    """Post with an idempotency key, and without an API key if the caller has none."""
    return caller.post(path, json=body, headers={"Idempotency-Key": key})


@pytest.fixture(params=["with a key", "without a key"])
def either(request: pytest.FixtureRequest, guest: Caller) -> Caller:
    """Return a caller with an API key, and one without."""
    if request.param == "without a key":
        guest.key = None
    return guest


def test_repeated_request(either: Caller) -> None:
    """A repetition of a request gets its answer again, and no second code is sent."""
    body = {"phoneNumber": either.number, "sessionId": "a"}

    first, again = repeated(either, ASK, body), repeated(either, ASK, body)
    either.parts.pump.run()

    assert (first.status_code, first.json) == (again.status_code, again.json)
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert len(either.provider.messages(either.number)) == 1
    other = repeated(either, ASK, body, key="two")
    assert other.json["requestId"] != first.json["requestId"]


def test_repeated_check(either: Caller) -> None:
    """A 200 that got lost comes again for the same key; any other call finds no code."""
    either.post(ASK, json={"phoneNumber": either.number, "sessionId": "a"})
    either.parts.pump.run()
    body = {"phoneNumber": either.number, "sessionId": "a", "otp": either.provider.code(either.number)}

    first, again = repeated(either, CHECK, body), repeated(either, CHECK, body)

    assert (first.status_code, first.json["success"]) == (200, True)
    assert (again.status_code, again.text) == (200, first.text)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert refused(repeated(either, CHECK, body, key="two"), 400, "PIN_NOT_FOUND")
    assert refused(repeated(either, CHECK, body | {"otp": "000000"}), 400, "BAD_REQUEST")


def test_refused_check_frees_its_key(either: Caller) -> None:
    """A wrong code is not remembered: the next one is checked under the same key."""
    either.post(ASK, json={"phoneNumber": either.number, "sessionId": "a"})
    either.parts.pump.run()
    code = either.provider.code(either.number)
    body = {"phoneNumber": either.number, "sessionId": "a"}

    assert refused(repeated(either, CHECK, body | {"otp": wrong(code)}), 400, "WRONG_PIN")
    assert repeated(either, CHECK, body | {"otp": code}).status_code == 200


def test_key_with_another_body(guest: Caller) -> None:
    """A back end that uses a key for another number has made a mistake, and is told so."""
    repeated(guest, ASK, {"phoneNumber": guest.number})

    answer = repeated(guest, ASK, {"phoneNumber": "+447700900998"})

    assert refused(answer, 400, "BAD_REQUEST")
    assert answer.json["code"] == "idempotency_key_reused"


def test_idempotency_keys_of_keyless_callers_are_separate(guest: Caller) -> None:
    """Strangers who hit upon the same key neither get each other's answers nor stand in each other's way."""
    guest.key = None
    bodies = [
        {"phoneNumber": guest.number, "sessionId": "a"},
        {"phoneNumber": guest.number, "sessionId": "b"},
        {"phoneNumber": guest.number},
        {"phoneNumber": "+447700900998", "sessionId": "a"},
    ]

    answers = [repeated(guest, ASK, body) for body in bodies]

    assert {one.status_code for one in answers[:3]} == {202}
    assert len({one.json["requestId"] for one in answers}) == 4
    assert not any("Idempotent-Replayed" in one.headers for one in answers)


@pytest.mark.parametrize("path", [ASK, CHECK])
def test_bad_idempotency_key(guest: Caller, path: str) -> None:
    """A key that cannot be one is refused in the guide's words."""
    body = {"phoneNumber": guest.number, "otp": "123456"} if path == CHECK else {"phoneNumber": guest.number}

    answer = repeated(guest, path, body, key="")

    assert refused(answer, 400, "BAD_REQUEST")
    assert [error["field"] for error in answer.json["errors"]] == ["Idempotency-Key"]
