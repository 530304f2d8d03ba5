"""The `Idempotency-Key` header: what is replayed, what is refused, and two hundred callers at once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from otpqueue import clock
from tests.api.conftest import Caller, MakeCaller, Result, wrong
from tests.api.serving import Served
from tests.operations.looking import until

ASK = "/v1/otp-requests"
ONE = f"{ASK}/00000000-0000-7000-8000-000000000000"


def ask(caller: Caller, key: str, **fields: object) -> Result:
    """Ask for a code with a key."""
    body = {"phone_number": caller.number, **fields}
    return caller.post(ASK, json=body, headers={"Idempotency-Key": key})


def check(caller: Caller, path: str, code: str, key: str, **fields: object) -> Result:
    """Check a code with a key."""
    return caller.post(f"{path}/verify", json={"code": code, **fields}, headers={"Idempotency-Key": key})


def same(first: Result, again: Result) -> bool:
    """Return whether an answer is the first one, replayed."""
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    names = ("Location", "Retry-After", "Content-Type")
    return (first.status_code, first.text, [first.headers.get(name) for name in names]) == (
        again.status_code,
        again.text,
        [again.headers.get(name) for name in names],
    )


def test_request_is_replayed(caller: Caller) -> None:
    """Word for word, with its headers, also after the code was sent and checked."""
    first = ask(caller, "k1", client_reference="r")
    caller.parts.pump.run()
    caller.verify(first.headers["Location"], caller.provider.code(caller.number))

    again = ask(caller, "k1", client_reference="r")

    assert first.status_code == 202
    assert same(first, again)
    assert caller.number not in again.text
    assert len(caller.stored("otp_requests")) == 1


def test_body_counts_by_its_meaning(caller: Caller) -> None:
    """White space, the order of fields and defaults that are given make no other body."""
    headers = {"Idempotency-Key": "k"}
    first = caller.send_bytes(ASK, f'{{"phone_number": "{caller.number}", "country": "GB"}}', **headers)
    other = f'{{ "channel":"sms", "country":"gb", "session_id":null, "phone_number":"{caller.number}" }}'

    assert same(first, caller.send_bytes(ASK, other, **headers))


def test_other_body(caller: Caller) -> None:
    """The same key with another wish is refused, and nothing is done."""
    ask(caller, "k")

    answer = ask(caller, "k", session_id="other")

    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_key_reused")
    assert len(caller.stored("otp_requests")) == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "kéy", "a\tb", "\x7f", "\u00a0"])
@pytest.mark.parametrize("path", [ASK, f"{ONE}/verify", f"{ONE}/resend"])
def test_bad_keys(caller: Caller, path: str, key: str) -> None:
    """A key is 1 to 255 printable ASCII characters."""
    body = {"code": "123456"} if path.endswith("verify") else {"phone_number": caller.number}
    answer = caller.post(path, json={} if path.endswith("resend") else body, headers={"Idempotency-Key": key})

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert [error["field"] for error in answer.json["errors"]] == ["Idempotency-Key"]


@pytest.mark.parametrize("key", ["x", "~" * 255, 'a "quoted", key: {1}'])
def test_good_keys(caller: Caller, key: str) -> None:
    """Any other is good."""
    assert same(ask(caller, key), ask(caller, key))


def test_refused_request_frees_its_key(caller: Caller) -> None:
    """What was refused is not remembered, so it can be mended under the same key."""
    refused = caller.post(ASK, json={"phone_number": "+44"}, headers={"Idempotency-Key": "k"})

    assert refused.status_code == 400
    assert ask(caller, "k").status_code == 202


def test_keys_of_another_client(caller: Caller) -> None:
    """Another client's key of the same name shows nothing of this one's."""
    mine = ask(caller, "k")
    other = Caller(caller.parts, caller.provider)
    other.number = caller.number

    theirs = ask(other, "k")

    assert theirs.status_code == 202
    assert "Idempotent-Replayed" not in theirs.headers
    assert theirs.json["id"] != mine.json["id"]


def test_verification_is_replayed(caller: Caller) -> None:
    """A 200 that got lost comes again; any other call is told that the code was used."""
    path, code = caller.sent(session_id="a")

    first = check(caller, path, code, "k", session_id="a")
    again = check(caller, path, code, "k", session_id="a")

    assert (first.status_code, first.json["verified"]) == (200, True)
    assert same(first, again)
    assert caller.verify(path, code, session_id="a").json["code"] == "already_verified"
    assert check(caller, path, code, "k2", session_id="a").json["code"] == "already_verified"
    assert check(caller, path, wrong(code), "k", session_id="a").json["code"] == "idempotency_key_reused"
    assert check(caller, path, code, "k", session_id="b").json["code"] == "idempotency_key_reused"


def test_wrong_code_is_checked_each_time(caller: Caller) -> None:
    """A wrong code costs a check however it is repeated, and its key is free for the right one."""
    path, code = caller.sent()

    answers = [check(caller, path, wrong(code), "k") for _ in range(2)]

    assert [answer.json["checks_left"] for answer in answers] == [4, 3]
    assert check(caller, path, code, "k").status_code == 200


def test_one_key_on_several_calls(caller: Caller) -> None:
    """A key belongs to its path: the same may come with the request, its resend and its check."""
    path = ask(caller, "k").headers["Location"]
    caller.parts.pump.run()
    code = caller.provider.code(caller.number)
    caller.become(path, "resend_after = now()")

    resent = caller.post(f"{path}/resend", headers={"Idempotency-Key": "k"})
    again = caller.post(f"{path}/resend", headers={"Idempotency-Key": "k"})
    other = caller.post(f"{path}/resend", json={"channel": "voice"}, headers={"Idempotency-Key": "k"})

    assert resent.status_code == 202
    assert same(resent, again)
    assert other.json["code"] == "idempotency_key_reused"
    assert caller.get(path).json["sends_left"] == 3
    assert check(caller, path, code, "k").status_code == 200


def test_foreign_id_with_a_key(caller: Caller) -> None:
    """Another client's request is not found with a key either, and the key stays free."""
    path, code = caller.sent()
    stranger = Caller(caller.parts, caller.provider)

    for suffix, body in (("/verify", {"code": code}), ("/resend", {})):
        for _ in range(2):
            answer = stranger.post(path + suffix, json=body, headers={"Idempotency-Key": "k"})
            assert (answer.status_code, answer.json["code"]) == (404, "request_not_found")
    assert stranger.stored("idempotency_keys") == []


def test_twin_of_a_check_that_runs(make_caller: MakeCaller) -> None:
    """While the provider is asked, the same call is told to come again, at once and not by waiting."""
    caller = make_caller()
    path, code = caller.sent()
    caller.provider.fault(match={"path": "/verify"}, latency_ms=2000, times=1)
    begun = "SELECT 1 FROM checks WHERE request_id = :id"

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(check, caller, path, code, "k")
        until(lambda: caller.execute(begun, id=path.rpartition("/")[2]))
        twin = check(caller, path, code, "k")
        assert not first.done()
        answer = first.result()

    assert (twin.status_code, twin.json["code"]) == (409, "idempotency_in_progress")
    assert twin.headers["Retry-After"] == "1"
    assert answer.status_code == 200
    assert same(answer, check(caller, path, code, "k"))


def test_erased_request_is_not_replayed(caller: Caller) -> None:
    """After its request was deleted a replay is a 404, and shows and makes nothing."""
    path = ask(caller, "k").headers["Location"]
    caller.execute("DELETE FROM otp_requests WHERE id = :id", id=path.rpartition("/")[2])

    answer = ask(caller, "k")

    assert (answer.status_code, answer.json["code"]) == (404, "request_not_found")
    assert caller.stored("otp_requests") == []


def test_two_hundred_callers_with_one_key(served: Served) -> None:
    """Over real HTTP, all at once: one request is made, and who gets a 202 gets the same."""
    headers = {"Idempotency-Key": str(uuid4())}
    body = {"phone_number": "+447700900777"}

    def call(_: int) -> tuple[int, str]:
        answer = served.call("POST", ASK, json=body, headers=headers)
        return answer.status_code, answer.json().get("code") or answer.json()["id"]

    with ThreadPoolExecutor(200) as pool:
        answers = Counter(pool.map(call, range(200)))
    last = served.call("POST", ASK, json=body, headers=headers)

    made = last.json()["id"]
    assert last.headers["Idempotent-Replayed"] == "true"
    assert {word for status, word in answers if status == 202} == {made}
    assert {one for one in answers if one[0] != 202} <= {
        (409, "idempotency_in_progress"),
        (503, "too_busy"),
        (503, "database_unavailable"),
    }
    admin = served.parts.keys.create(client="operator", scopes=frozenset({"admin"}), now=clock.now())
    found = served.call(
        "POST", f"{ASK}/search", json=body, headers={"Authorization": f"Bearer {admin}"}
    ).json()
    assert [one["id"] for one in found["requests"]] == [made]
