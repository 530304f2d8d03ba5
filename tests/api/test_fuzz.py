"""Whatever comes in, the answer is a documented one: never a 5xx, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.api.conftest import Caller
from tests.conftest import NO_LIMITS

ID = "/v1/otp-requests/00000000-0000-7000-8000-000000000000"
PATHS = ("/v1/otp-requests", f"{ID}/verify", f"{ID}/resend", "/request-otp", "/verify-otp")
NAMES = (
    "phone_number",
    "phoneNumber",
    "country",
    "channel",
    "language",
    "session_id",
    "sessionId",
    "client_ip",
    "client_reference",
    "code",
    "otp",
)
TEXTS = st.text(st.characters(exclude_categories=()), max_size=40)
LIKELY = st.sampled_from(
    [
        "+447911123456",
        "+447700900123",
        "07911123456",
        "GB",
        "US",
        "sms",
        "voice",
        "en",
        "123456",
        "::1",
        "+1",
        "+",
        "x",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | LIKELY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
BODIES = st.dictionaries(st.sampled_from(NAMES), LIKELY | TEXTS | VALUES, max_size=6) | VALUES
NEARLY_JSON = st.binary(max_size=200) | BODIES.map(json.dumps).map(str.encode).flatmap(
    lambda body: st.integers(0, len(body)).map(lambda cut: body[:cut] + b"\xff" + body[cut:])
)

CHECKS = st.fixed_dictionaries(
    {"code": st.from_regex(r"[0-9]{6}", fullmatch=True)},
    optional={
        "session_id": LIKELY | TEXTS,
        "phone_number": LIKELY | TEXTS,
        "client_ip": LIKELY | TEXTS,
    },
)
FILTERS = st.dictionaries(
    st.sampled_from(["status", "created_after", "created_before", "client", "cursor", "limit", "x"]),
    st.sampled_from(["sent", "sending", "5", "100", "2026-03-01T12:00:00Z", "2026-03-01 12:00", "A" * 56])
    | TEXTS.map(lambda text: text.encode("utf-8", "replace").decode()),
    max_size=4,
)
SEARCHES = st.fixed_dictionaries({"phone_number": LIKELY}, optional={"limit": VALUES, "cursor": VALUES})
JSON = {"Content-Type": "application/json"}


def latin_1(length: int) -> st.SearchStrategy[str]:
    """Return texts of the characters that a header may contain, up to a length."""
    return st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=length)


Fuzz = Callable[..., None]
EXAMPLES = [pytest.param(25, id="small"), pytest.param(500, id="full", marks=pytest.mark.full)]


@pytest.fixture(params=EXAMPLES)
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    """Return a function that calls another with examples of the strategies that are its keyword arguments."""

    def fuzz(call: Callable[..., None], **strategies: st.SearchStrategy[Any]) -> None:
        settings(max_examples=request.param, deadline=None)(given(**strategies)(call))()

    return fuzz


@pytest.fixture(scope="module")
def module_settings(module_settings: dict[str, str]) -> dict[str, str]:
    """Return settings under which one caller may ask as often as these tests do."""
    return module_settings | NO_LIMITS


def unharmed(caller: Caller, method: str, path: str, **call: Any) -> None:
    """Fail unless an answer is a documented one (the caller sees to that) and no error of ours."""
    answer = caller.call(method, path, **call)

    assert answer.status_code < 500


@pytest.mark.parametrize("path", PATHS)
def test_any_bytes(caller: Caller, path: str, fuzz: Fuzz) -> None:
    """Any bytes as a body are answered with what is documented."""

    def call(body: bytes) -> None:
        unharmed(caller, "POST", path, body=body, headers=JSON)

    fuzz(call, body=NEARLY_JSON)


@pytest.mark.parametrize("path", [*PATHS, "/v1/otp-requests/search"])
def test_any_json(caller: Caller, path: str, fuzz: Fuzz) -> None:
    """Any JSON value as a body is answered with what is documented."""
    caller.key = caller.new_key("send", "verify", "admin")

    def call(body: object) -> None:
        unharmed(caller, "POST", path, body=json.dumps(body), headers=JSON)

    fuzz(call, body=SEARCHES | BODIES if path.endswith("/search") else BODIES)


def test_any_check(caller: Caller, fuzz: Fuzz) -> None:
    """Any check of a live request is answered with what is documented, and a foreign one costs nothing."""
    path, _code = caller.sent(session_id="a session of its own")

    def check(body: dict[str, str]) -> None:
        # As `json` the test client would write half a surrogate pair as it is, which it cannot.
        unharmed(caller, "POST", f"{path}/verify", body=json.dumps(body), headers=JSON)

    fuzz(check, body=CHECKS)
    assert caller.get(path).json["checks_left"] == 5


def test_any_headers(caller: Caller, fuzz: Fuzz) -> None:
    """Any headers are answered with what is documented, and open nothing."""

    def call(authorization: str, request_id: str, content_type: str) -> None:
        headers = {"Authorization": authorization, "X-Request-Id": request_id, "Content-Type": content_type}
        answer = caller.post("/v1/otp-requests", json={"phone_number": "+447911123456"}, headers=headers)
        assert answer.status_code == 401

    fuzz(
        call,
        authorization=latin_1(60) | latin_1(60).map("Bearer {}".format),
        request_id=latin_1(80),
        content_type=latin_1(40),
    )


def test_any_query(caller: Caller, fuzz: Fuzz) -> None:
    """Any query and any If-None-Match are answered with what is documented."""

    def call(query: str, tags: str) -> None:
        header = tags.encode("utf-8", "surrogatepass").decode("latin-1").translate({13: None, 10: None})
        # Waiting is tested elsewhere.
        query = query.replace("wait", "w").replace("#", "").lstrip("?")
        unharmed(caller, "GET", ID, query_string=query, headers={"If-None-Match": header})

    fuzz(call, query=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40), tags=TEXTS)


def test_any_search(caller: Caller, fuzz: Fuzz) -> None:
    """Any query of the list, and the same in a search by number, is answered with what is documented."""
    caller.key = caller.new_key("admin")

    def call(filters: dict[str, str]) -> None:
        unharmed(caller, "GET", "/v1/otp-requests", query_string=urlencode(filters))
        body = {"phone_number": "+447700900123", **filters}
        unharmed(caller, "POST", "/v1/otp-requests/search", json=body)

    fuzz(call, filters=FILTERS)


def test_any_idempotency_key(caller: Caller, fuzz: Fuzz) -> None:
    """Any idempotency key is refused or replayed, and never an error of ours."""
    body = {"phone_number": caller.number}

    def call(key: str) -> None:
        answers = [
            caller.post("/v1/otp-requests", json=body, headers={"Idempotency-Key": key}) for _ in range(2)
        ]
        assert {answer.status_code for answer in answers} in ({202}, {400})
        assert answers[0].json.get("id") == answers[1].json.get("id")

    fuzz(call, key=latin_1(260))


def test_any_path(caller: Caller, fuzz: Fuzz) -> None:
    """Any path is answered with what is documented."""

    def call(segments: list[str], method: str) -> None:
        path = "/" + "/".join(segments).replace("?", "%3f").encode("utf-8", "replace").decode("latin-1")
        unharmed(caller, method, path)

    segments = st.lists(st.text(max_size=12), min_size=1, max_size=4)
    fuzz(call, segments=segments, method=st.sampled_from(["GET", "POST"]))
