"""What is logged of a call says which one it was, whose, and which request it was about."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from otpqueue.telemetry import logs
from tests.api.conftest import Caller, MakeCaller, wrong

ASK = "/v1/otp-requests"
Records = list[MutableMapping[str, Any]]


@pytest.fixture
def records() -> Iterator[Records]:
    """Yield what is logged, with what is bound."""
    before, captured = structlog.get_config(), structlog.testing.LogCapture()
    structlog.configure(processors=[logs.add_fields, captured])
    yield captured.entries
    structlog.configure(**before)


def bound(records: Records) -> set[tuple[Any, ...]]:
    """Return what the records since the last look have in common, and forget them."""
    found = {tuple(one.get(name) for name in ("request_id", "client", "otp_id")) for one in records}
    records.clear()
    return found


def test_records_of_a_call_say_what_it_is_about(caller: Caller, records: Records) -> None:
    """Every record of asking, checking, looking and cancelling names the call, the client and the request."""
    named = {"X-Request-Id": "call-1"}
    asked = caller.post(ASK, json={"phone_number": caller.number}, headers=named)
    path, known = asked.headers["Location"], asked.json["id"]
    last = records[-1]
    assert (last["event"], last["otp_id"], last["client"]) == ("http_request", known, caller.client)
    caller.parts.pump.run()
    records.clear()

    code = caller.provider.code(caller.number)
    caller.post(f"{path}/verify", json={"code": wrong(code)}, headers=named)
    caller.get(path, headers=named)
    caller.call("DELETE", path, headers=named)

    assert {one["event"] for one in records} == {"otp_check_failed", "http_request", "otp_cancelled"}
    assert bound(records) == {("call-1", caller.client, known)}


def test_replaced_request_is_logged_with_its_own_id(caller: Caller, records: Records) -> None:
    """The call that replaces a request is about the new one; the end of the old one is told, too."""
    old, new = caller.ask(), caller.ask()

    (ended,) = [one for one in records if one["event"] == "otp_cancelled"]
    assert (ended["otp_id"], ended["reason"]) == (old.rpartition("/")[2], "replaced")
    assert records[-1]["otp_id"] == new.rpartition("/")[2]


def test_replayed_call_names_the_request_of_the_first(caller: Caller, records: Records) -> None:
    """A repetition accepts nothing, and yet is about a request."""
    body, headers = {"phone_number": caller.number}, {"Idempotency-Key": "k"}
    first = caller.post(ASK, json=body, headers=headers)
    records.clear()

    caller.post(ASK, json=body, headers=headers | {"X-Request-Id": "again"})

    assert [one["event"] for one in records] == ["answer_replayed", "http_request"]
    assert {one["otp_id"] for one in records} == {first.json["id"]}


def test_guides_check_names_the_request_it_found(make_caller: MakeCaller, records: Records) -> None:
    """The guide's calls carry no id; their records do, also where the code is refused."""
    caller = make_caller()
    asked = caller.post("/request-otp", json={"phoneNumber": caller.number})
    caller.parts.pump.run()
    code = caller.provider.code(caller.number)
    (sent,) = [
        one for one in records if one["event"] == "otp_sent" and one["client_id"] == str(caller.client_id)
    ]
    assert sent["otp_id"] == asked.json["requestId"]
    records.clear()

    caller.post("/verify-otp", json={"phoneNumber": caller.number, "otp": wrong(code)})

    assert {one["event"] for one in records} == {"otp_check_failed", "http_request"}
    assert {one["otp_id"] for one in records} == {asked.json["requestId"]}


def test_thread_goes_on_to_others(caller: Caller, records: Records) -> None:
    """What a call was about is forgotten with it, and without a call nothing is bound at all."""
    caller.ask()
    logs.bind_fields(otp_id="left over")

    assert logs.add_fields(None, "info", {}) == {}
    caller.get("/health/live")
    assert logs.add_fields(None, "info", {}) == {}
