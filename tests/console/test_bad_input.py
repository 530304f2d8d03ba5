"""Whatever stands in an address or a form, the console answers in words and never with an error of ours."""

from __future__ import annotations

from urllib.parse import quote
from uuid import uuid4

import pytest

from tests.api.conftest import Caller, MakeCaller
from tests.console.alerting import open_alert
from tests.console.conftest import Browser, hidden, words

ID = "00000000-0000-7000-8000-000000000000"

# As they stand in an address or a form, percent-encoded.
VALUES = {
    "nul": "%00",
    "nul within": "x%00y",
    "escape": "%1B[2J",
    "delete": "%7F",
    "c1": "%C2%85",
    "line": "a%0D%0Ab",
    "surrogate": "%ED%A0%80",
    "half a surrogate pair": "%ED%B0%80x",
    "not utf-8": "%FF%FE",
    "cut utf-8": "%E2%82",
    "overlong nul": "%C0%80",
    "beyond unicode": "%F4%90%80%80",
    "lone percent": "%",
    "noncharacter": "%EF%BF%BF",
    "direction": quote("\u202e\u2066"),
    "markup": quote("<script>alert(1)</script>\"'"),
    "many digits": "9" * 3000,
    "huge": "x" * 6000,
    "huge beyond ascii": quote("\U0001f600" * 400),
    "far off": "99999999-99-99T99:99:99",
    "end of time": "9999-12-31T23:59:59-12:00",
    "begin of time": "0001-01-01T00:00:00%2B14:00",
    "blank": "%20",
    "nothing": "",
}
PAGES = {
    "/console": ("x",),
    "/console/requests": ("status", "client", "last", "after", "before", "cursor", "x"),
    "/console/countries": ("by", "span", "sort", "x"),
    "/console/alerts": ("state", "x"),
    "/console/audit": ("action", "actor", "after", "cursor"),
    "/console/actions/cancel-request": ("request",),
    "/console/settings": ("x",),
    "/console/log-in": ("next", "x"),
}
FORMS = {
    "/console/requests/find": ("wanted", "cursor", "sealed", "x"),
    "/console/alerts/{}/acknowledge": ("x",),
    "/console/alerts/{}/silence": ("for", "what", "reason", "x"),
    "/console/silences/{}/end": ("x",),
    "/console/log-out": ("x",),
    "/console/actions/enable-webhook": ("client", "reason"),
    "/console/actions/allow-through-guard": ("subject", "lasting"),
}
RIGHT = {"for": "1h", "what": "rule", "wanted": "%2B447911123456", "confirmed": "yes"}


def raw_form(browser: Browser, path: str, body: str) -> tuple[int, str]:
    """Send a form as it is written here."""
    answer = browser.call(
        "POST", path, body=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    return answer.status_code, words(answer.text)


@pytest.mark.parametrize("path", PAGES)
def test_every_field_of_every_address(operator: Browser, path: str) -> None:
    """A bad value is a page that says so, or finds nothing."""
    for name in PAGES[path]:
        for kind, value in VALUES.items():
            answer = operator.get(f"{path}?{name}={value}")

            assert answer.status_code < 500, (name, kind, words(answer.text)[:300])
            assert "<script>alert" not in answer.text
            assert "\0" not in answer.text


@pytest.mark.parametrize("path", FORMS)
def test_every_field_of_every_form(caller: Caller, operator: Browser, path: str) -> None:
    """So is one in a form, its token among them."""
    alert = open_alert(caller.parts, subject=uuid4().hex, requests=[ID])
    token = hidden(operator.page("/console"), "/console/log-out")["token"]
    for name in (*FORMS[path], "token"):
        for kind, value in VALUES.items():
            cookies = dict(operator.cookies)
            fields = {"token": token} | RIGHT | {name: value}
            body = "&".join(f"{field}={text}" for field, text in fields.items())
            status, said = raw_form(operator, path.format(alert), body)
            operator.cookies = cookies  # should it have been a log-out

            assert status < 500, (name, kind, said[:300])


def test_every_field_of_the_log_in(make_caller: MakeCaller) -> None:
    """Nobody need be logged in to send the log-in form nonsense."""
    browser = Browser(make_caller(OTPQUEUE_TRUSTED_PROXIES="1").app)
    for number, name in enumerate(("key", "next", "token", "username")):
        for other, (kind, value) in enumerate(VALUES.items()):
            browser.headers["X-Forwarded-For"] = f"198.51.100.{number * len(VALUES) + other}"
            token = hidden(browser.page("/console/log-in"), "/console/log-in")["token"]
            body = f"{name}={value}" if name == "token" else f"token={token}&{name}={value}"
            status, said = raw_form(browser, "/console/log-in", body)

            assert status < 500, (name, kind, said[:300])


@pytest.mark.parametrize("path", ["/console/requests/{}", "/console/alerts/{}", "/console/{}"])
def test_every_part_of_a_path(operator: Browser, path: str) -> None:
    """A path that names nothing is told so."""
    for kind, value in VALUES.items():
        answer = operator.get(path.format(value.replace("%", "%25") if value == "%" else value))

        assert answer.status_code < 500, (kind, words(answer.text)[:300])


def test_control_character_is_named(operator: Browser) -> None:
    """The page says which field it is, and which character."""
    answer = operator.get("/console/requests?client=a%00b")

    assert answer.status_code == 400
    assert "client must not contain the control character U+0000" in words(answer.text)


def test_reason_that_is_too_long(caller: Caller, operator: Browser) -> None:
    """It is kept and shown, so it is bounded, whatever a browser sends."""
    alert = open_alert(caller.parts, subject=uuid4().hex, requests=[ID])
    path = f"/console/alerts/{alert}/silence"
    form = hidden(operator.page(f"/console/alerts/{alert}"), path) | RIGHT

    answers = [operator.post(path, **form, reason="x" * length) for length in (200, 201)]

    assert [answer.status_code for answer in answers] == [303, 400]
    assert "reason must have at most 200 characters" in words(answers[1].text)


def test_number_pasted_with_a_line_end(operator: Browser) -> None:
    """What a clipboard puts around a number is not held against it."""
    token = hidden(operator.page("/console/requests"), "/console/requests/find")["token"]

    status, said = raw_form(
        operator,
        "/console/requests/find",
        f"token={token}&wanted=%E2%80%AA%2B44%C2%A07911%20123456%E2%80%AC%0D%0A",
    )

    assert status == 200
    assert "+44********56" in said
