"""Who may call: keys, their scopes, and other people's requests."""

from __future__ import annotations

from uuid import uuid4

import pytest

from otpqueue import clock
from otpqueue.domain.errors import FAULT_DETAILS, CredentialFault
from otpqueue.operations.access.keys import prefix_of
from tests.api.conftest import Caller, Result, wrong

ASK = "/v1/otp-requests"
NIL = "00000000-0000-7000-8000-000000000000"


def knock(caller: Caller, authorization: str | None) -> Result:
    """Ask for a code with this header."""
    caller.key = None
    headers = {} if authorization is None else {"Authorization": authorization}
    return caller.post(ASK, json={"phone_number": caller.number}, headers=headers)


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        (None, "no_credentials"),
        ("", "no_credentials"),
        ("Bearer", "malformed_key"),
        ("Bearer ", "malformed_key"),
        ("Bearer \t ", "malformed_key"),
        ("Bearer oq_abcdefgh_unknown", "unknown_key"),
        ("Bearer " + "x" * 10_000, "malformed_key"),
        ("Bearer oq_kéy_\u00ff", "malformed_key"),
        ("Bearer \x80\xff", "malformed_key"),
        ("Basic dXNlcjpwYXNz", "wrong_scheme"),
        ("App test-infobip-key", "wrong_scheme"),
        ("Token oq_abcdefgh_unknown", "wrong_scheme"),
        ("oq_abcdefgh_unknown", "wrong_scheme"),
        ("Bearer,oq_abcdefgh_unknown", "wrong_scheme"),
        ('Digest username="x"', "wrong_scheme"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_no_good_key(caller: Caller, authorization: str | None, reason: str) -> None:
    """Whatever is not a key in force is a 401 that names the cause, and nothing is stored."""
    answer = knock(caller, authorization)

    assert (answer.status_code, answer.json["code"]) == (401, "unauthenticated")
    assert answer.json["reason"] == reason
    assert answer.json["detail"] == FAULT_DETAILS[CredentialFault(reason)]
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert not caller.stored("otp_requests")


@pytest.mark.parametrize("form", ["Bearer {0}", "bearer {0}", "BEARER {0}", "bEaReR   {0}"])
def test_good_key(caller: Caller, form: str) -> None:
    """The scheme's name is case-insensitive (RFC 9110, 11.1), and spaces after it do not matter."""
    answer = knock(caller, form.format(caller.key))

    assert answer.status_code == 202


@pytest.mark.parametrize(
    "form", ["Bearer {0}x", "Bearer x{0}", "Bearer {0} {0}", "Basic {0}", "{0}", "Bearer {1}"]
)
def test_nearly_good_key(caller: Caller, form: str) -> None:
    """A key counts whole or not at all: with anything more, or by its prefix, it opens nothing."""
    key = str(caller.key)

    answer = knock(caller, form.format(key, prefix_of(key)))

    assert answer.status_code == 401


def test_revoked_key(caller: Caller) -> None:
    """A key stops working when it is revoked; other keys of the client go on."""
    path, other = caller.ask(), caller.new_key("send")

    caller.parts.keys.revoke(prefix_of(str(caller.key)), now=clock.now())

    refused = caller.get(path)
    assert (refused.status_code, refused.json["reason"]) == (401, "revoked_key")
    caller.key = other
    assert caller.get(path).status_code == 200


def test_expired_key(caller: Caller) -> None:
    """A key that has expired is named as such, whether it ended before or after the keys were read."""
    path, key = caller.ask(), str(caller.key)
    ending = "UPDATE api_keys SET expires_at = now() - interval '{}' WHERE prefix = :prefix"

    for ended_ago in ("1 millisecond", "89 days"):
        caller.execute(ending.format(ended_ago), prefix=prefix_of(key))
        assert caller.get(path).json["reason"] == "expired_key"

    caller.execute(ending.format("91 days"), prefix=prefix_of(key))
    assert caller.get(path).json["reason"] == "unknown_key"


@pytest.mark.parametrize("change", ["prefix", "last", "longer"])
def test_only_the_whole_key_learns_that_it_ended(caller: Caller, change: str) -> None:
    """A guess that shares all but a character with a revoked key is an unknown key."""
    key = str(caller.key)
    caller.parts.keys.revoke(prefix_of(key), now=clock.now())
    last = "a" if key[-1] != "a" else "b"
    guess = {"prefix": prefix_of(key), "last": key[:-1] + last, "longer": key + "a"}[change]

    assert knock(caller, f"Bearer {guess}").json["reason"] == "unknown_key"


@pytest.mark.parametrize(
    ("scopes", "method", "suffix", "needed"),
    [
        (["verify"], "POST", None, "send"),
        (["admin"], "POST", None, "send"),
        (["send"], "POST", "/verify", "verify"),
        (["admin"], "POST", "/verify", "verify"),
        (["admin"], "GET", "", "send or verify"),
        (["admin"], "DELETE", "", "send or verify"),
    ],
)
def test_missing_scope(
    caller: Caller, scopes: list[str], method: str, suffix: str | None, needed: str
) -> None:
    """A key without the scope gets a 403 that names it, before its request is looked at."""
    path = ASK if suffix is None else f"{caller.ask()}{suffix}"
    before = len(caller.stored("otp_requests"))
    caller.key = caller.new_key(*scopes)

    body = {"json": {"phone_number": caller.number, "code": "123456"}} if method == "POST" else {}
    answer = caller.call(method, path, **body)

    assert (answer.status_code, answer.json["code"]) == (403, "missing_scope")
    assert f"scope {needed}." in answer.json["detail"]
    assert len(caller.stored("otp_requests")) == before


@pytest.mark.parametrize("scope", ["send", "verify"])
def test_reading_and_cancelling_need_either_scope(caller: Caller, scope: str) -> None:
    """A key that may send, or verify, may read and cancel."""
    path = caller.ask()
    caller.key = caller.new_key(scope)

    assert caller.get(path).status_code == 200
    assert caller.call("DELETE", path).json["status"] == "cancelled"


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_requests_of_another_client(caller: Caller, method: str) -> None:
    """Another client's id is answered as one that does not exist, and nothing happens to it."""
    path, code = caller.sent()
    own, caller.key = caller.key, caller.new_key("send", "verify", client=f"other-{uuid4().hex}")
    suffix = "/verify" if method == "POST" else ""

    body = {"json": {"code": code}} if method == "POST" else {}

    theirs = caller.call(method, path + suffix, **body)
    unknown = caller.call(method, f"{ASK}/{NIL}{suffix}", **body)

    assert theirs.status_code == unknown.status_code == 404
    assert theirs.json == unknown.json
    assert theirs.json["code"] == "request_not_found"
    caller.key = own
    assert caller.get(path).json["checks_left"] == 5
    assert caller.verify(path, code).status_code == 200


def test_two_keys_of_one_client(caller: Caller) -> None:
    """Requests belong to the client, not to the key: what one key asked for another one checks."""
    path, code = caller.sent()

    caller.key = caller.new_key("verify")

    assert caller.verify(path, wrong(code)).status_code == 422
    assert caller.verify(path, code).status_code == 200


def test_one_number_of_two_clients(caller: Caller) -> None:
    """Two clients may ask for one number; neither replaces the other's request."""
    mine, own = caller.ask(), caller.key
    caller.key = caller.new_key("send", client=f"other-{uuid4().hex}")

    theirs = caller.ask()

    assert caller.get(theirs).json["status"] == "queued"
    caller.key = own
    assert caller.get(mine).json["status"] == "queued"
