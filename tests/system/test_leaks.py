"""After all kinds of traffic, no number, code, key or session id stands in clear where it should not."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
import requests

from tests.leaks import Secrets, every_key, every_row
from tests.system.conftest import COMMAND, Dev, until

pytestmark = pytest.mark.system

SESSION = "session-Qx7vTz"
REFERENCE = "order-of-the-test"
ADDRESS = "198.51.100.77"
IDEMPOTENCY_KEY = "idempotency-Jm3kWp"
TEST_NUMBER, TEST_CODE = "+447700900820", "571839"
FRENCH = "+33612345678"
KEYS = {
    "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"sealing key of the test of leaks").decode(),
    "OTPQUEUE_HASH_KEY": base64.b64encode(b"hashing key of the test of leaks").decode(),
}
SETTINGS = {
    **KEYS,
    "OTPQUEUE_LOG_LEVEL": "DEBUG",
    "OTPQUEUE_TUNING_SWEEP_EVERY_S": "1",
    "OTPQUEUE_TEST_NUMBERS": json.dumps(
        {TEST_NUMBER: {"code": TEST_CODE, "until": f"{datetime.now(UTC) + timedelta(days=9):%Y-%m-%d}"}}
    ),
    "OTPQUEUE_COUNTRIES_BLOCKED": "FR",
    "OTPQUEUE_WRONG_CODES_NUMBER": "2/h",
}


class Monitor:
    """Every command that a Redis gets, from now on."""

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._monitor = self._client.monitor()
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Monitor:
        self._monitor.__enter__()
        self._thread.start()
        return self

    def _listen(self) -> None:
        try:
            for line in self._monitor.listen():
                self._lines.append(str(line["command"]))
        except (redis.ConnectionError, ValueError, OSError):
            return  # closed below, or by the end of the server

    def __exit__(self, *_: object) -> None:
        self._monitor.connection.disconnect()
        self._thread.join(10)

    def written(self) -> bytes:
        """Return all commands."""
        return "\n".join(self._lines).encode("utf-8", "surrogateescape")


class Traffic:
    """Calls of every kind; keeps what was answered and what must not be found."""

    def __init__(self, dev: Dev) -> None:
        self.dev, self.secrets = dev, Secrets()
        about = dev.about
        self.secrets.texts |= {
            "session id": SESSION,
            "address": ADDRESS,
            "idempotency key": IDEMPOTENCY_KEY,
            "API key": about["api_key"].split("_", 2)[2],
            "admin's API key": about["admin_api_key"].split("_", 2)[2],
            "provider's key": about["infobip_api_key"],
            "sealing key": KEYS["OTPQUEUE_SEAL_KEYS"].partition(":")[2],
            "hashing key": KEYS["OTPQUEUE_HASH_KEY"],
        }
        self.pin_ids: set[str] = set()
        self.answers: list[bytes] = []

    def call(self, method: str, path: str, *, admin: bool = False, **kwargs: Any) -> requests.Response:
        """Make a call and keep its answer."""
        headers = kwargs.pop("headers", {})
        if admin:
            headers = {"Authorization": f"Bearer {self.dev.about['admin_api_key']}", **headers}
        answer = self.dev.call(method, path, headers=headers, **kwargs)
        self.answers.append(f"{answer.status_code} {answer.headers} {answer.text}".encode())
        return answer

    def number(self, last: int) -> str:
        """Return a number of this test."""
        number = f"+447700900{last}"
        self.secrets.add_number(number)
        return number

    def sent(self, last: int, **fields: str) -> tuple[str, str]:
        """Ask for a code and wait until it is there; return the request's path and the code."""
        number = self.number(last)
        answer = self.call("POST", "/v1/otp-requests", json={"phone_number": number, **fields})
        assert answer.status_code == 202, answer.text
        self.dev.becomes(answer.json()["id"], "sent")
        message = self.dev.messages(number)[0]
        self.secrets.codes.add(message["pin"])
        self.secrets.texts[f"pin id of ..{last}"] = message["pinId"]
        self.pin_ids.add(message["pinId"])
        return f"/v1/otp-requests/{answer.json()['id']}", message["pin"]

    def ask(self, number: str, **fields: str) -> requests.Response:
        """Ask for a code from the address of this test."""
        body = {"phone_number": number, "session_id": SESSION, "client_ip": ADDRESS, **fields}
        return self.call("POST", "/v1/otp-requests", json=body)

    def everything(self) -> None:
        """Make the calls."""
        self._good_calls()
        self._refused_calls()
        self._repeated_calls()
        self._calls_beyond_the_limits()
        self._calls_for_numbers_that_get_nothing()
        self._calls_of_an_operator()
        self._calls_of_the_console()
        self._calls_while_the_provider_fails()
        for message in self.dev.messages():
            self.secrets.codes.add(message["pin"])

    def _good_calls(self) -> None:
        path, code = self.sent(
            801, session_id=SESSION, client_ip=ADDRESS, client_reference=REFERENCE, language="en"
        )
        verify = {"code": code, "session_id": SESSION, "client_ip": ADDRESS}
        self.call("GET", path)
        self.call("GET", f"{path}/history", admin=True)
        self.call("POST", f"{path}/verify", json=verify | {"code": _wrong(code)})
        self.call("POST", f"{path}/verify", json=verify | {"session_id": "another"})
        headers = {"Idempotency-Key": IDEMPOTENCY_KEY}
        assert self.call("POST", f"{path}/verify", json=verify, headers=headers).status_code == 200
        self.call("POST", f"{path}/verify", json=verify)
        self.call("POST", f"{path}/resend")
        cancelled, _code = self.sent(802)
        self.call("DELETE", cancelled)
        number = self.number(803)
        self.call("POST", "/request-otp", json={"phoneNumber": number, "sessionId": SESSION})
        until(lambda: bool(self.dev.messages(number)), seconds=10)
        code = self.dev.messages(number)[0]["pin"]
        self.secrets.codes.add(code)
        self.call("POST", "/verify-otp", json={"phoneNumber": number, "otp": code, "sessionId": SESSION})

    def _refused_calls(self) -> None:
        number = self.number(804)
        path, code = self.sent(805)
        for body in (
            {"phone_number": number[:-1] + "x"},
            {"phone_number": "07700 900804"},
            {"phone_number": "+4490" + number[5:]},
            {"phone_number": number, "code": code},
            {"phone_number": [number]},
            {number: code},
        ):
            assert self.call("POST", "/v1/otp-requests", json=body).status_code >= 400
        for body in ({"code": code + "0"}, {"code": int(code)}, {"code": code, "phone_number": number}):
            assert self.call("POST", f"{path}/verify", json=body).status_code >= 400
        self.call("POST", f"/v1/otp-requests/{number}/verify", json={"code": code})
        self.call("GET", f"/v1/otp-requests?phone_number={number}", admin=True)
        self.call("POST", f"{path}/{code}", data=f'{{"phone_number": "{number}"')
        self.call("GET", path, headers={"Authorization": f"Bearer {self.dev.about['api_key']}x"})
        self.call("GET", path, headers={"X-Request-Id": f"id {number}"})

    def _repeated_calls(self) -> None:
        number = self.number(810)
        headers = {"Idempotency-Key": IDEMPOTENCY_KEY}
        body = {"phone_number": number, "session_id": SESSION, "client_ip": ADDRESS}
        first, again, other = (
            self.call("POST", "/v1/otp-requests", json=body | more, headers=headers)
            for more in ({}, {}, {"client_reference": "another"})
        )
        assert first.status_code == again.status_code == 202
        assert first.text == again.text
        assert again.headers["Idempotent-Replayed"] == "true"
        assert other.json()["code"] == "idempotency_key_reused"
        until(lambda: bool(self.dev.messages(number)), seconds=10)
        code = self.dev.messages(number)[0]["pin"]
        self.secrets.codes.add(code)
        path = f"/v1/otp-requests/{first.json()['id']}"
        self.dev.becomes(first.json()["id"], "sent")
        for key in (number, code, IDEMPOTENCY_KEY, IDEMPOTENCY_KEY):
            self.call("POST", f"{path}/resend", headers={"Idempotency-Key": key})
        verify = {"code": code, "session_id": SESSION, "phone_number": number, "client_ip": ADDRESS}
        for _ in range(2):
            answer = self.call("POST", f"{path}/verify", json=verify, headers=headers)
            assert answer.status_code == 200, answer.text

    def _calls_beyond_the_limits(self) -> None:
        number = self.number(811)
        answers = [self.ask(number) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
        assert answers[-1].json()["code"] == "limit_exceeded"
        path, code = self.sent(812, session_id=SESSION, client_ip=ADDRESS)
        for _ in range(2):
            wrong = {"code": _wrong(code), "session_id": SESSION, "client_ip": ADDRESS}
            assert self.call("POST", f"{path}/verify", json=wrong).json()["code"] == "code_incorrect"
        assert self.ask(self.number(812)).json()["code"] == "too_many_wrong_codes"

    def _calls_for_numbers_that_get_nothing(self) -> None:
        self.secrets.add_number(FRENCH)
        assert self.ask(FRENCH).json()["code"] == "country_not_allowed"
        blocked = self.number(813)
        about = self.dev.about
        subprocess.run(
            [COMMAND, "numbers", "block", "--reason", "asked to be left alone"],
            cwd=self.dev.folder,
            env=KEYS | {"DATABASE_URL": about["database_url"], "REDIS_URL": about["redis_url"]},
            input=blocked,
            text=True,
            capture_output=True,
            check=True,
        )
        assert self.ask(blocked).json()["code"] == "number_not_allowed"
        self.secrets.add_number(TEST_NUMBER)
        self.secrets.codes.add(TEST_CODE)
        answer = self.ask(TEST_NUMBER)
        assert answer.status_code == 202, answer.text
        self.dev.becomes(answer.json()["id"], "sent")
        assert self.dev.messages(TEST_NUMBER) == []
        ((pin_id,),) = self.dev.rows("SELECT pin_id FROM otp_requests WHERE id = %s", answer.json()["id"])
        self.secrets.texts["pin id of the test number"] = pin_id
        self.pin_ids.add(pin_id)
        path = f"/v1/otp-requests/{answer.json()['id']}"
        self.call("GET", f"{path}/history", admin=True)
        right = {"code": TEST_CODE, "session_id": SESSION, "client_ip": ADDRESS}
        for code, status in ((_wrong(TEST_CODE), 422), (TEST_CODE, 200)):
            assert self.call("POST", f"{path}/verify", json=right | {"code": code}).status_code == status

    def _calls_of_an_operator(self) -> None:
        _path, _code = self.sent(814, session_id=SESSION, client_ip=ADDRESS)
        assert self.ask(self.number(814)).status_code == 202
        sought = {"phone_number": self.number(814), "limit": 1}
        found = self.call("POST", "/v1/otp-requests/search", json=sought, admin=True).json()
        assert len(found["requests"]) == 1
        for body in (
            sought | {"cursor": found["next_cursor"]},
            sought | {"cursor": self.number(814)},
            {"phone_number": "0" + self.number(814)[3:]},
            {self.number(814): SESSION},
        ):
            self.call("POST", "/v1/otp-requests/search", json=body, admin=True)
        self.call("POST", "/v1/otp-requests/search", json=sought)
        listed = self.call("GET", "/v1/otp-requests?limit=1", admin=True).json()
        self.call("GET", f"/v1/otp-requests?cursor={listed['next_cursor']}", admin=True)
        number = {"phone_number": self.number(814)}
        for body in ({"phone_number": self.number(814)[:-1] + "x"}, number | {"code": SESSION}):
            assert self.call("POST", "/v1/phone-numbers/erase", json=body, admin=True).status_code == 400
        assert self.call("POST", "/v1/phone-numbers/erase", json=number).status_code == 403
        erased = self.call("POST", "/v1/phone-numbers/erase", json=number, admin=True)
        assert erased.json()["requests"] == 2
        # From now on it is to be found in no row.
        self.pin_ids.discard(self.secrets.texts["pin id of ..814"])

    def _calls_of_the_console(self) -> None:
        path, _code = self.sent(815, session_id=SESSION, client_ip=ADDRESS)
        with requests.Session() as browser:

            def call(method: str, place: str, **form: str) -> str:
                url = self.dev.about["api_url"] + place
                answer = browser.request(method, url, data=form or None, timeout=20)
                self.answers.append(f"{answer.status_code} {answer.headers} {answer.text}".encode())
                found = re.search(r'name="token" value="([^"]+)"', answer.text)
                assert found, answer.text
                return found[1]

            token = call("GET", "/console/log-in")
            token = call("POST", "/console/log-in", token=token, key=self.dev.about["api_key"])
            call("POST", "/console/log-in", token=token, key=self.dev.about["admin_api_key"])
            for place in ("", "/requests", path.replace("/v1/otp-requests", "/requests"), "/settings"):
                token = call("GET", f"/console{place}")
            for wanted in (self.number(815), self.number(815)[1:], f"{self.number(815)}x", SESSION):
                call("POST", "/console/requests/find", token=token, wanted=wanted)

    def _calls_while_the_provider_fails(self) -> None:
        for last, fault in ((806, {"status": 400}), (807, {"status": 500}), (808, {"form": "broken"})):
            number = self.number(last)
            self.dev.fault(match={"to": number[1:]}, times=1, **fault)
            self.call("POST", "/v1/otp-requests", json={"phone_number": number, "session_id": SESSION})
        path, code = self.sent(809)
        self.dev.fault(match={"path": "/verify"}, times=1, status=503)
        self.call("POST", f"{path}/verify", json={"code": code})


def _wrong(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Traffic, Monitor]]:
    """Yield all that traffic, once it is over, and what Redis was told meanwhile."""
    folder = tmp_path_factory.mktemp("leaks")
    dev = Dev(folder, **SETTINGS).start()
    try:
        with Monitor(dev.about["redis_url"]) as monitor:
            traffic = Traffic(dev)
            traffic.everything()
            yield traffic, monitor
    finally:
        dev.stop()


Watched = tuple[Traffic, Monitor]


def test_logs(watched: Watched) -> None:
    """What all processes log, at the lowest level, after the banner that hands the keys out."""
    traffic, _ = watched
    _banner, _, logged = traffic.dev.output().partition("Paste this into another shell")

    assert "http_request" in logged
    assert "otp_sent" in logged
    after = logged.partition("/verify")[2].partition("\n")[2]
    assert traffic.secrets.found_in(after.encode()) == []


def test_answers(watched: Watched) -> None:
    """Bodies and headers of all answers, problems and histories among them."""
    traffic, _ = watched

    for answer in traffic.answers:
        assert traffic.secrets.found_in(answer) == [], answer
    assert sum(b"application/problem+json" in answer for answer in traffic.answers) > 10


def test_redis(watched: Watched) -> None:
    """Every command that Redis got: Celery's messages, wake-ups, circuit, limits."""
    traffic, monitor = watched
    written = monitor.written()

    assert b"send_codes" in written
    assert traffic.secrets.found_in(written) == []
    assert traffic.secrets.found_in(every_key(traffic.dev.about["redis_url"])) == []


def test_postgres(watched: Watched) -> None:
    """A dump of the database, and its files: pages, write-ahead log, its own log."""
    traffic, _ = watched
    rows = every_row(traffic.dev.about["database_url"])
    secrets = Secrets(
        {name: text for name, text in traffic.secrets.texts.items() if text not in traffic.pin_ids},
        traffic.secrets.codes,
    )

    # What must be there for the provider's sake is what shows that this looks in the right place.
    assert all(pin_id.encode() in rows for pin_id in traffic.pin_ids)
    assert REFERENCE.encode() in rows
    assert secrets.found_in(rows) == []
    # In pages of many small values six digits stand alone by chance, and what was erased has yet to be wiped.
    secrets.codes.clear()
    secrets.texts = {name: text for name, text in secrets.texts.items() if not name.startswith("pin id")}
    for path in sorted((traffic.dev.folder / ".otpqueue" / "postgres").rglob("*")):
        if path.is_file():
            assert secrets.found_in(path.read_bytes()) == [], path
