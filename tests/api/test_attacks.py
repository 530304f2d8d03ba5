"""Named attacks, each with its expected answer. The limits are the default ones."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from otpqueue import clock
from tests.api.conftest import Caller, MakeCaller, Result, wrong

ASK = "/v1/otp-requests"
STRANGER = "192.0.2.66"


def another_client(caller: Caller) -> Caller:
    """Return a caller of another client, at the same number."""
    other = Caller(caller.parts, caller.provider)
    other.number = caller.number
    return other


def codes(answers: list[Result]) -> Counter[str]:
    """Count answers by what they say: the problem's code, or the HTTP status."""
    return Counter(answer.json.get("code", str(answer.status_code)) for answer in answers)


def judged(caller: Caller) -> int:
    """Return how many codes of this caller's client were compared."""
    statement = (
        "SELECT count(*) FROM checks JOIN otp_requests ON id = request_id WHERE client_id = :client_id"
    )
    return int(caller.execute(statement, client_id=caller.client_id)[0][0])


def at_once(count: int, call: Any) -> list[Result]:
    """Make the same call from many threads."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: call(), range(count)))


# Guessing


@pytest.fixture
def unlimited(make_caller: MakeCaller) -> Caller:
    """Return a caller whom only the rules against guessing hold back."""
    return make_caller(
        OTPQUEUE_LIMIT_NUMBER_15M="off",
        OTPQUEUE_LIMIT_NUMBER_DAY="off",
        OTPQUEUE_LIMIT_NUMBER_DAY_ALL="off",
        OTPQUEUE_LIMIT_CLIENT_IP_15M="off",
        OTPQUEUE_LIMIT_KEY_RATE="off",
    )


def test_guess_all_codes_over_many_requests(unlimited: Caller) -> None:
    """New requests bring new guesses only until ten were wrong within the hour."""
    answers: list[Result] = []
    for session in range(20):
        asked = unlimited.post(ASK, json={"phone_number": unlimited.number, "session_id": str(session)})
        answers.append(asked)
        if asked.status_code != 202:
            continue
        unlimited.parts.pump.run()
        path, right = asked.headers["Location"], unlimited.provider.code(unlimited.number)
        for _ in range(8):
            unlimited.verify(path, wrong(right), session_id=str(session))

    assert codes(answers) == {"202": 2, "too_many_wrong_codes": 18}
    assert judged(unlimited) == 10
    assert int(answers[-1].headers["Retry-After"]) > 0


def test_guess_all_codes_over_resends(unlimited: Caller) -> None:
    """A resend brings no guess: five checks are all that a request has."""
    path, right = unlimited.sent()
    answers = []
    for _ in range(4):
        answers += [unlimited.verify(path, wrong(right)) for _ in range(3)]
        unlimited.become(path, "resend_after = now()")
        unlimited.post(f"{path}/resend")
        unlimited.parts.pump.run()

    assert codes(answers) == {"code_incorrect": 5, "locked": 7}
    assert judged(unlimited) == 5


def test_guess_with_many_threads(caller: Caller) -> None:
    """Two hundred guesses at once: no more than five are compared."""
    path, right = caller.sent()

    answers = at_once(200, lambda: caller.verify(path, wrong(right)))

    assert judged(caller) <= 5
    assert {answer.status_code for answer in answers} <= {422, 409, 410, 503}, codes(answers)


# Locking a stranger out


def owner_gets_in(owner: Caller, path: str, code: str, **fields: Any) -> bool:
    """Return whether the code in the owner's hand still opens."""
    return owner.verify(path, code, **fields).status_code == 200


def test_lock_another_person_out_by_requests(caller: Caller) -> None:
    """Asking for his number from another session and another client leaves his code alone."""
    path, code = caller.sent(session_id="the owner's")
    attacker = another_client(caller)

    for _ in range(6):
        attacker.post(ASK, json={"phone_number": caller.number})
        caller.post(ASK, json={"phone_number": caller.number, "session_id": "the attacker's"})

    assert owner_gets_in(caller, path, code, session_id="the owner's")


def test_lock_another_person_out_by_wrong_codes(unlimited: Caller) -> None:
    """Guesses at codes of the attacker's own asking stop new requests, not the code in the owner's hand."""
    path, code = unlimited.sent(session_id="the owner's")
    for session in range(3):
        asked = unlimited.post(ASK, json={"phone_number": unlimited.number, "session_id": f"a{session}"})
        unlimited.parts.pump.run()
        for _ in range(5):
            unlimited.verify(asked.headers.get("Location", path), "000000", session_id=f"a{session}")

    assert owner_gets_in(unlimited, path, code, session_id="the owner's")


def test_lock_another_person_out_by_wrong_sessions(caller: Caller) -> None:
    """A wrong session is a wrong code that costs nothing."""
    path, code = caller.sent(session_id="the owner's")

    answers = [caller.verify(path, code, session_id=guess) for guess in ("", "x", "the owner", "THE OWNER'S")]
    answers += [caller.verify(path, code) for _ in range(8)]

    assert codes(answers[1:]) == {"code_incorrect": 11}
    assert judged(caller) == 0
    assert owner_gets_in(caller, path, code, session_id="the owner's")


def test_lock_another_person_out_from_another_client(unlimited: Caller) -> None:
    """What one client guesses at a number stops no other client's requests for it."""
    attacker = another_client(unlimited)
    for session in range(2):
        path, right = attacker.sent(session_id=str(session))
        for _ in range(5):
            attacker.verify(path, wrong(right), session_id=str(session))

    assert attacker.post(ASK, json={"phone_number": attacker.number}).json["code"] == "too_many_wrong_codes"
    path, code = unlimited.sent()
    assert owner_gets_in(unlimited, path, code)


# Other people's requests


@pytest.mark.parametrize("scopes", [("send", "verify"), ("send", "verify", "admin")])
def test_verify_with_another_clients_key(caller: Caller, scopes: tuple[str, ...]) -> None:
    """The right code with another client's key is a 404, and the code stays good."""
    path, code = caller.sent()
    thief = another_client(caller)
    thief.key = thief.new_key(*scopes)

    assert thief.verify(path, code).json["code"] == "request_not_found"
    assert owner_gets_in(caller, path, code)


def test_steal_an_id(caller: Caller) -> None:
    """Another client's id is a 404 to every call, the same as an id that nobody has."""
    path, _code = caller.sent()
    thief, unknown = another_client(caller), f"{ASK}/{uuid4()}"

    def tell(place: str) -> list[tuple[int, dict[str, Any]]]:
        answers = [
            thief.get(place),
            thief.call("DELETE", place),
            thief.post(f"{place}/resend"),
            thief.verify(place, "123456"),
        ]
        return [(answer.status_code, answer.json) for answer in answers]

    assert tell(path) == tell(unknown)
    assert {status for status, _ in tell(path)} == {404}
    assert caller.get(path).json["status"] == "sent"


def test_replay_an_idempotency_key_across_clients(caller: Caller) -> None:
    """The same key from another client is another key."""
    thief, key = another_client(caller), {"Idempotency-Key": uuid4().hex}
    body = {"phone_number": caller.number}

    mine = caller.post(ASK, json=body, headers=key)
    again = caller.post(ASK, json=body, headers=key)
    theirs = thief.post(ASK, json=body, headers=key)

    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json["id"] == mine.json["id"]
    assert theirs.status_code == 202
    assert theirs.json["id"] != mine.json["id"]
    assert "Idempotent-Replayed" not in theirs.headers


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP"])
def test_spoof_the_address(caller: Caller, header: str) -> None:
    """No header of the caller's says who the end user is: the limit of an address holds."""
    answers = []
    for last in range(14):
        body = {"phone_number": f"+44770090{last:04}", "client_ip": STRANGER}
        answers.append(caller.post(ASK, json=body, headers={header: f"203.0.113.{last}"}))

    assert codes(answers)["limit_exceeded"] >= 4


def test_forwarded_proto_from_an_untrusted_peer(make_caller: MakeCaller) -> None:
    """`X-Forwarded-Proto` from a peer that is no trusted proxy makes no call a secure one."""
    caller = make_caller(OTPQUEUE_REQUIRE_HTTPS="true", OTPQUEUE_TRUSTED_PROXIES="198.51.100.0/24")

    answer = caller.post(ASK, json={"phone_number": caller.number}, headers={"X-Forwarded-Proto": "https"})

    assert answer.json["code"] == "https_required"


# Races


@pytest.fixture
def patient(make_caller: MakeCaller) -> Caller:
    """Return a caller of an API with a place for each of two hundred, and time for all of them."""
    return make_caller(
        OTPQUEUE_API_THREADS="256",
        OTPQUEUE_TUNING_DATABASE_WAIT_S="30",
        OTPQUEUE_TUNING_DATABASE_LOCK_TIMEOUT_S="15",
        OTPQUEUE_TUNING_DATABASE_STATEMENT_TIMEOUT_S="15",
    )


def test_race_the_limit_of_a_number(patient: Caller) -> None:
    """Of two hundred requests for one number at once exactly three are accepted."""
    answers = at_once(200, lambda: patient.post(ASK, json={"phone_number": patient.number}))

    assert codes(answers) == {"202": 3, "limit_exceeded": 197}
    assert len(patient.stored("otp_requests")) == 3


def test_race_a_right_code(patient: Caller) -> None:
    """A right code from fifty threads opens once."""
    path, code = patient.sent()

    answers = at_once(50, lambda: patient.verify(path, code))

    assert [answer.status_code for answer in answers].count(200) == 1


def test_race_one_idempotency_key(patient: Caller) -> None:
    """Two hundred calls at once with one key make one request."""
    key = {"Idempotency-Key": uuid4().hex}

    answers = at_once(200, lambda: patient.post(ASK, json={"phone_number": patient.number}, headers=key))

    assert len(patient.stored("otp_requests")) == 1
    assert set(codes(answers)) <= {"202", "idempotency_in_progress"}


# Input


@pytest.mark.parametrize(
    ("number", "code"),
    [
        ("+0447700900123", "invalid_phone_number"),
        ("+", "invalid_phone_number"),
        ("   ", "invalid_phone_number"),
        ("+447700900123\x00", "invalid_request"),
        ("+447700900123\r\nX-Evil: 1", "invalid_request"),
        ("+44770090012" + "3" * 30, "invalid_phone_number"),
        ("+447700900123;ext=5", "invalid_phone_number"),
        ("+447700900123 or 1=1", "invalid_phone_number"),
    ],
    ids=ascii,
)
def test_odd_numbers(caller: Caller, number: str, code: str) -> None:
    """What only looks like a number is refused by name."""
    answer = caller.post(ASK, json={"phone_number": number})

    assert (answer.status_code, answer.json["code"]) == (400, code)
    assert not caller.stored("otp_requests")


def test_spaces_make_no_other_number(caller: Caller) -> None:
    """One number in ten spellings has one limit."""
    spellings = [
        caller.number,
        f" {caller.number} ",
        f"{caller.number[:3]} {caller.number[3:]}",
        f"{caller.number[:3]}-{caller.number[3:]}",
        f"{caller.number[:3]} (0) {caller.number[3:]}",
    ]

    answers = [caller.post(ASK, json={"phone_number": spelling}) for spelling in spellings]

    assert codes(answers)["202"] == 3


@pytest.mark.parametrize("code", ["+12345", "12345\n", "1e5", "12345", "1234567", "123.456"])
def test_odd_codes(caller: Caller, code: str) -> None:
    """Six digits are a code, and nothing else: what is none costs no check."""
    path, _right = caller.sent()

    answer = caller.verify(path, code)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert caller.get(path).json["checks_left"] == 5


@pytest.mark.parametrize("size", [17 * 1024, 1_000_000])
def test_huge_bodies(caller: Caller, size: int) -> None:
    """More than 16 KiB is not read."""
    answer = caller.send_bytes(ASK, json.dumps({"phone_number": caller.number, "session_id": "x" * size}))

    assert (answer.status_code, answer.json["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "body",
    [
        '{"phone_number": "NUMBER", "phone_number": "+14155550100"}',
        '{"phone_number": "NUMBER", "session_id": NaN}',
        '{"phone_number": "NUMBER", "session_id": {"a": {"b": {"c": [[[[[[[[[[[[1]]]]]]]]]]]]}}}}',
        '{"phone_number": "NUMBER", "__proto__": {"admin": true}}',
    ],
)
def test_json_tricks(caller: Caller, body: str) -> None:
    """Two meanings of one body are no meaning."""
    answer = caller.send_bytes(ASK, body.replace("NUMBER", caller.number))

    assert answer.status_code == 400
    assert answer.json["code"] in {"malformed_json", "invalid_request"}
    assert not caller.stored("otp_requests")


INJECTIONS = [
    "' OR '1'='1",
    "'; DROP TABLE otp_requests; --",
    "\\'; SELECT pg_sleep(5); --",
    "%s%s%n",
    "${7*7}",
]


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("field", ["session_id", "client_reference"])
def test_sql_in_free_texts(caller: Caller, field: str, text: str) -> None:
    """A free text is kept as it is, and means nothing to Postgres."""
    path = caller.ask(**{field: text})

    assert caller.get(path).status_code == 200
    if field == "client_reference":
        assert caller.get(path).json["client_reference"] == text


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize("field", ["phone_number", "country", "channel", "language", "client_ip"])
def test_sql_in_fields_with_a_form(caller: Caller, field: str, text: str) -> None:
    """In a field with a form it is refused."""
    answer = caller.post(ASK, json={"phone_number": caller.number, field: text})

    assert answer.status_code == 400


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_in_path_and_headers(caller: Caller, text: str) -> None:
    """In an id it is a 404; in a key, a 401; in an idempotency key, a name like any other."""
    assert caller.get(f"{ASK}/{text.replace('/', '')}").status_code == 404
    assert caller.get(ASK, headers={"Authorization": f"Bearer {text}"}).status_code == 401
    body = {"phone_number": caller.number}
    assert caller.post(ASK, json=body, headers={"Idempotency-Key": text}).status_code == 202


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "TRACE", "OPTIONS"])
def test_verbs(caller: Caller, method: str) -> None:
    """Other verbs do nothing."""
    path, _code = caller.sent()

    for place in (f"{path}/resend", f"{path}/verify"):
        answer = caller.call(method, place)
        assert answer.status_code == (200 if method == "OPTIONS" else 405)
        assert answer.headers["Allow"] == "POST" if method == "OPTIONS" else "POST, OPTIONS"
    assert caller.get(path).json["status"] == "sent"
    assert len(caller.stored("otp_requests")) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../v1/otp-requests",
        "/v1/./otp-requests",
        "/V1/OTP-REQUESTS",
        "/v1/otp-requests/..%2f..%2fmetrics",
        "/assets/..%2f..%2fsettings.py",
        "/assets/../auth.py",
        "/assets/%2e%2e/auth.py",
        "/assets/%00",
        "/docs;jsessionid=1",
    ],
)
def test_path_tricks(caller: Caller, path: str) -> None:
    """A path is what it is: nothing is resolved, decoded twice or served from elsewhere."""
    answer = caller.get(path)

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_response_time_reveals_no_number(unlimited: Caller) -> None:
    """A request for a number with a past takes as long as one for a number without: medians, alternating."""
    caller = unlimited
    known = caller.number
    for session in range(5):
        caller.ask(session_id=str(session))
    took: dict[bool, list[float]] = {True: [], False: []}

    for turn in range(120):
        fresh = turn % 2 == 0
        number = f"+1415555{100 + turn % 100:04}" if fresh else known
        started = time.perf_counter()
        caller.post(ASK, json={"phone_number": number, "session_id": f"t{turn}"})
        took[fresh].append(time.perf_counter() - started)

    ratio = statistics.median(took[True]) / statistics.median(took[False])
    assert 0.5 < ratio < 2


def test_response_time_reveals_no_foreign_id(caller: Caller) -> None:
    """Another client's id takes as long as one that nobody has."""
    path, _code = caller.sent()
    thief = another_client(caller)
    took: dict[bool, list[float]] = {True: [], False: []}

    for turn in range(120):
        exists = turn % 2 == 0
        place = path if exists else f"{ASK}/{uuid4()}"
        started = time.perf_counter()
        thief.get(place)
        took[exists].append(time.perf_counter() - started)

    ratio = statistics.median(took[True]) / statistics.median(took[False])
    assert 0.5 < ratio < 2


def test_a_key_that_was_revoked(caller: Caller) -> None:
    """A revoked key is out at the next call."""
    path, code = caller.sent()
    prefix = "_".join(str(caller.key).split("_")[:2])
    caller.parts.keys.revoke(prefix, now=clock.now())

    assert caller.verify(path, code).json["code"] == "unauthenticated"
