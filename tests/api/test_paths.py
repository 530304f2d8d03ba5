"""What every path has in common: cancelling aside, unknown paths and methods, request ids, headers."""

from __future__ import annotations

import pytest

from tests.api.conftest import Caller
from tests.api.contract import UUID_TEXT

NIL = "00000000-0000-7000-8000-000000000000"


def test_cancel(caller: Caller) -> None:
    """A live request is cancelled; doing it again changes nothing and answers the same."""
    path = caller.ask()

    first, second = caller.call("DELETE", path), caller.call("DELETE", path)

    assert first.status_code == second.status_code == 200
    assert (first.json["status"], first.json["reason"]) == ("cancelled", "cancelled_by_client")
    assert first.json == second.json == caller.get(path).json
    caller.parts.pump.run()
    assert caller.provider.messages(caller.number) == []


def test_cancel_after_sending(caller: Caller) -> None:
    """A code that has left is worth nothing once its request is cancelled."""
    path, code = caller.sent()

    answer = caller.call("DELETE", path)

    assert (answer.json["status"], answer.json["checks_left"]) == ("cancelled", 0)
    assert caller.verify(path, code).json["code"] == "cancelled"


def test_cancel_after_the_end(caller: Caller) -> None:
    """A request that has ended is answered as it is."""
    path, code = caller.sent()
    caller.verify(path, code)

    answer = caller.call("DELETE", path)

    assert (answer.status_code, answer.json["status"]) == (200, "verified")


def test_request_after_a_cancelled_one(caller: Caller) -> None:
    """After a cancellation the number may be asked for again; the old request keeps its reason."""
    path = caller.ask()
    caller.call("DELETE", path)

    newer = caller.ask()

    assert caller.get(path).json["reason"] == "cancelled_by_client"
    assert caller.get(newer).json["status"] == "queued"


@pytest.mark.parametrize("with_key", [True, False])
@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        f"/v1/otp-requests/{NIL}/",
        f"/v1/otp-requests/{NIL}/resend/",
        f"/v1/otp-requests/{NIL}/resend/voice",
        "/v1/infobip",
        "/v1/infobip/receipts/",
        "/v2/otp-requests",
        "/V1/otp-requests",
        "/assets/",
        "/assets/app.py",
        "/assets/..%2fapp.py",
        "/assets/%2e%2e%2fapp.py",
        "/try",
        "/consoles",
        "/favicon.ico",
        "/.env",
        "/%00",
        "/%ff",
        "/" + "x" * 5000,
    ],
    ids=lambda path: str(path)[:30],
)
def test_paths_that_are_not_there(caller: Caller, path: str, with_key: bool) -> None:
    """An unknown path is a 404 problem, with and without a key."""
    if not with_key:
        caller.key = None

    answer = caller.get(path)

    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/otp-requests/search", {"POST"}),
        ("DELETE", "/v1/otp-requests", {"GET", "POST"}),
        ("PATCH", "/v1/otp-requests", {"GET", "POST"}),
        ("POST", f"/v1/otp-requests/{NIL}", {"GET", "DELETE"}),
        ("PUT", f"/v1/otp-requests/{NIL}", {"GET", "DELETE"}),
        ("GET", f"/v1/otp-requests/{NIL}/verify", {"POST"}),
        ("GET", f"/v1/otp-requests/{NIL}/resend", {"POST"}),
        ("DELETE", f"/v1/otp-requests/{NIL}/resend", {"POST"}),
        ("GET", "/v1/infobip/receipts", {"POST"}),
        ("GET", "/request-otp", {"POST"}),
        ("GET", "/verify-otp", {"POST"}),
        ("POST", "/health", {"GET", "HEAD"}),
        ("POST", "/docs", {"GET", "HEAD"}),
        ("DELETE", "/openapi.json", {"GET"}),
    ],
)
def test_methods_that_are_not_there(caller: Caller, method: str, path: str, allowed: set[str]) -> None:
    """A method that a path does not take is a 405 problem that says which it takes."""
    answer = caller.call(method, path)

    assert (answer.status_code, answer.json["code"]) == (405, "method_not_allowed")
    assert {name.strip() for name in answer.headers["Allow"].split(",")} == allowed | {"OPTIONS"}


def test_options(caller: Caller) -> None:
    """OPTIONS tells what a path takes, and opens nothing to other origins."""
    answer = caller.call("OPTIONS", "/v1/otp-requests", headers={"Origin": "https://example.com"})

    assert answer.status_code == 200
    assert answer.headers["Allow"] == "GET, POST"
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("given", ["a", "req-1", "A.b_c-9", "f" * 64])
def test_request_id_is_kept(caller: Caller, given: str) -> None:
    """A caller's X-Request-Id comes back."""
    answer = caller.get("/health/live", headers={"X-Request-Id": given})

    assert answer.headers["X-Request-Id"] == given


@pytest.mark.parametrize(
    "given", [None, "", "f" * 65, "a b", "a\tb", "<script>", "a\u00e9", "1,2", "a;b", '"']
)
def test_request_id_is_made(caller: Caller, given: str | None) -> None:
    """Where none is given, or one that does not belong in a log, one is made."""
    headers = {} if given is None else {"X-Request-Id": given}

    answer = caller.get("/health/live", headers=headers)

    assert UUID_TEXT.fullmatch(answer.headers["X-Request-Id"])


def test_request_ids_differ(caller: Caller) -> None:
    """Each call without an id gets one of its own, on refusals too."""
    answers = [caller.get(path) for path in ("/health/live", "/health/live", "/nowhere", "/v1/otp-requests")]

    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 4
