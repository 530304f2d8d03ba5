"""`GET /v1/otp-requests` and `POST /v1/otp-requests/search`: what operators find."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from otpqueue import clock
from tests.api.conftest import Caller, MakeCaller, Result

LIST = "/v1/otp-requests"
SEARCH = "/v1/otp-requests/search"


@pytest.fixture
def operator(make_caller: MakeCaller) -> Caller:
    """Return a caller with all scopes."""
    caller = make_caller(OTPQUEUE_LIMIT_NUMBER_15M="off")
    caller.key = caller.new_key("send", "verify", "admin")
    return caller


def ids(answer: Result) -> list[str]:
    """Return the ids that an answer lists."""
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json["requests"]]


def asked(caller: Caller, count: int) -> list[str]:
    """Ask for codes and return the requests' ids, newest first."""
    made = [caller.ask(session_id=f"s{n}").rpartition("/")[2] for n in range(count)]
    return made[::-1]


def wrong_field(answer: Result) -> str:
    """Return the field that a refusal names."""
    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request"), answer.text
    (error,) = answer.json["errors"]
    return str(error["field"])


def test_pages(operator: Caller) -> None:
    """Newest first, as callers see them, with whose they are; a cursor leads on until there is none."""
    made = asked(operator, 5)
    query = {"client": operator.client, "limit": "2"}

    first = operator.get(LIST, params=query)
    second = operator.get(LIST, params=query | {"cursor": first.json["next_cursor"]})
    third = operator.get(LIST, params=query | {"cursor": second.json["next_cursor"]})

    assert [*ids(first), *ids(second), *ids(third)] == made
    assert third.json["next_cursor"] is None
    shown = operator.get(f"{LIST}/{made[0]}").json
    assert first.json["requests"][0] == {**shown, "client": operator.client}


def test_search_by_number(operator: Caller) -> None:
    """All requests for a number, of every client, however it is written; it stands in no answer whole."""
    made = asked(operator, 3)
    other = Caller(operator.parts, operator.provider)
    other.number = operator.number
    made.insert(0, other.ask().rpartition("/")[2])
    spaced = f"{operator.number[:3]} {operator.number[3:]}"

    first = operator.post(SEARCH, json={"phone_number": spaced, "limit": 3})
    body = {"phone_number": operator.number, "limit": 3, "cursor": first.json["next_cursor"]}
    # The cursor belongs to the number as it was given.
    second = operator.post(SEARCH, json=body | {"phone_number": spaced})
    of_other = operator.post(SEARCH, json={"phone_number": operator.number, "client": other.client})

    found = [*ids(first), *ids(second)]
    assert [one for one in found if one in made] == made
    assert ids(of_other) == made[:1]
    assert operator.number not in first.text + second.text


def test_filters(operator: Caller) -> None:
    """Status and time are filters of both."""
    failed, kept = asked(operator, 2)
    operator.become(f"{LIST}/{failed}", "status = 'failed', send_state = 'idle', next_attempt_at = NULL")
    made_at = operator.get(f"{LIST}/{kept}").json["created_at"]
    query: dict[str, Any] = {"client": operator.client}
    body = {"phone_number": operator.number, "client": operator.client}

    assert ids(operator.get(LIST, params=query | {"status": "failed"})) == [failed]
    assert ids(operator.post(SEARCH, json=body | {"status": "failed"})) == [failed]
    assert ids(operator.get(LIST, params=query | {"status": "verified"})) == []
    assert ids(operator.get(LIST, params=query | {"created_after": made_at})) == [failed, kept]
    assert ids(operator.get(LIST, params=query | {"created_before": made_at})) == []
    assert ids(operator.post(SEARCH, json=body | {"created_before": made_at})) == []


def test_several_ways_to_write_a_moment(operator: Caller) -> None:
    """Any time zone; and a plus that a client forgot to encode is understood."""
    made = asked(operator, 1)
    query = f"client={operator.client}&created_after="

    for moment in ("2020-01-01T00:00:00Z", "2020-01-01T02:00:00%2B02:00", "2020-01-01T02:00:00+02:00"):
        assert ids(operator.get(LIST, query_string=query + moment)) == made


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("limit=", "limit"),
        ("limit=5&limit=6", "limit"),
        ("status=", "status"),
        ("status=Sent", "status"),
        ("status=sent,failed", "status"),
        ("status=sent&status=failed", "status"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-03-01", "created_after"),
        ("created_after=2026-03-01T12:00:00", "created_after"),
        ("created_before=0001-01-01T00:00:00%2B23:59", "created_before"),
        ("created_before=9999-12-31T23:59:59-23:59", "created_before"),
        ("created_before=1767225600", "created_before"),
        ("client=", "client"),
        ("client=%00", "client"),
        ("client=no-such-client", "client"),
        ("cursor=", "cursor"),
        ("cursor=x", "cursor"),
        ("cursor=" + "A" * 56, "cursor"),
        ("cursor=" + "_" * 56, "cursor"),
        ("phone_number=%2B447700900123", "phone_number"),
        ("surprise=1", "surprise"),
    ],
)
def test_bad_queries(operator: Caller, query: str, field: str) -> None:
    """Each is a 400 that names the parameter; a number is none."""
    assert wrong_field(operator.get(LIST, query_string=query)) == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "phone_number"),
        ({"phone_number": "+44", "limit": 5}, "phone_number"),
        ({"phone_number": "+447700900123", "limit": "5"}, "limit"),
        ({"phone_number": "+447700900123", "limit": True}, "limit"),
        ({"phone_number": "+447700900123", "created_after": 1767225600}, "created_after"),
        ({"phone_number": "+447700900123", "cursor": "x"}, "cursor"),
        ({"phone_number": "+447700900123", "surprise": 1}, "surprise"),
    ],
)
def test_bad_bodies(operator: Caller, body: dict[str, Any], field: str) -> None:
    """Each is a 400 that names the field."""
    answer = operator.post(SEARCH, json=body)

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json["errors"]] == [field]


def test_cursors_of_others(operator: Caller) -> None:
    """A cursor that was changed, or given for other filters, another call or another client, is a 400."""
    asked(operator, 3)
    query = {"client": operator.client, "limit": "1"}
    cursor = operator.get(LIST, params=query).json["next_cursor"]
    stranger = Caller(operator.parts, operator.provider)
    stranger.key = stranger.new_key("admin")
    flipped = cursor[:5] + ("A" if cursor[5] != "A" else "B") + cursor[6:]

    refused = [
        operator.get(LIST, params=query | {"cursor": flipped}),
        operator.get(LIST, params=query | {"cursor": cursor[:-1] + ("A" if cursor[-1] != "A" else "B")}),
        operator.get(LIST, params={"cursor": cursor}),
        operator.get(LIST, params=query | {"cursor": cursor, "status": "queued"}),
        operator.post(SEARCH, json={"phone_number": operator.number, "cursor": cursor}),
        stranger.get(LIST, params=query | {"cursor": cursor}),
    ]

    assert [wrong_field(answer) for answer in refused] == ["cursor"] * 6
    assert operator.get(LIST, params=query | {"cursor": cursor, "limit": "2"}).status_code == 200


@pytest.mark.parametrize("scopes", [["send", "verify"], ["send"], ["verify"]])
def test_scope(caller: Caller, scopes: list[str]) -> None:
    """Both need the scope `admin`."""
    caller.key = caller.new_key(*scopes)

    for answer in (caller.get(LIST), caller.post(SEARCH, json={"phone_number": caller.number})):
        assert (answer.status_code, answer.json["code"]) == (403, "missing_scope")
        assert "scope admin." in answer.json["detail"]


def test_operator_sees_all_and_touches_nothing(operator: Caller) -> None:
    """What an operator finds of another client he can neither read by its id, check, resend nor cancel."""
    other = Caller(operator.parts, operator.provider)
    path, code = other.sent()

    assert ids(operator.get(LIST, params={"client": other.client})) == [path.rpartition("/")[2]]
    answers = [
        operator.get(path),
        operator.verify(path, code),
        operator.post(f"{path}/resend"),
        operator.call("DELETE", path),
    ]

    assert {(answer.status_code, answer.json["code"]) for answer in answers} == {(404, "request_not_found")}
    assert other.verify(path, code).status_code == 200


def test_no_key(caller: Caller) -> None:
    """Without a key there is nothing to find, and a path that is nearly one is another call."""
    caller.key = None

    assert caller.get(LIST).status_code == 401
    assert caller.post(SEARCH, json={"phone_number": caller.number}).status_code == 401
    assert caller.get(SEARCH).status_code == 405
    assert caller.get(f"{LIST}/{uuid4()}").status_code == 401


def test_key_that_has_expired(operator: Caller) -> None:
    """An expired key opens the search no more than an unknown one, and the answer says which it is."""
    operator.execute(
        "UPDATE api_keys SET expires_at = :now WHERE client_id = :client",
        now=clock.now(),
        client=operator.client_id,
    )
    expired = operator.get(LIST)
    operator.key = "oq_abcdefgh_unknown"
    unknown = operator.get(LIST)

    assert expired.status_code == unknown.status_code == 401
    assert [answer.json["reason"] for answer in (expired, unknown)] == ["expired_key", "unknown_key"]
