"""`POST /v1/otp-requests/{id}/resend`: what a caller sees of it."""

from __future__ import annotations

import json
import re
import socket
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from tests.api.conftest import Caller, wrong
from tests.api.serving import Served

NOW = "resend_after = now() - interval '1 s'"


def resend(caller: Caller, path: str, body: Any = None) -> Any:
    """Ask for a resend; without a body unless one is given."""
    return caller.post(f"{path}/resend") if body is None else caller.post(f"{path}/resend", json=body)


def test_first_answer_says_when_to_resend(caller: Caller) -> None:
    """Once the code is sent the answer names when it may be sent again, and how many sends are left."""
    path = caller.ask()
    asked = caller.get(path).json
    caller.parts.pump.run()
    sent = caller.get(path).json

    assert (asked["resend_after"], asked["sends_left"], asked["resend"]) == (None, 4, None)
    assert sent["sends_left"] == 4
    wait = datetime.fromisoformat(sent["resend_after"]) - datetime.fromisoformat(sent["sent_at"])
    assert wait.total_seconds() == pytest.approx(30, abs=0.01)


def test_resend(caller: Caller) -> None:
    """A resend is accepted at once, with where to poll; when it has left, the status says so."""
    path, code = caller.sent()
    caller.become(path, NOW)

    accepted = resend(caller, path)
    caller.parts.pump.run()
    sent = caller.get(path).json

    assert (accepted.status_code, accepted.headers["Location"]) == (202, path)
    assert accepted.headers["Retry-After"] == "1"
    assert accepted.json["resend"] == {"status": "pending", "channel": "sms", "reason": None}
    assert (accepted.json["status"], accepted.json["sends_left"]) == ("sent", 3)
    assert sent["resend"] == {"status": "sent", "channel": "sms", "reason": None}
    assert [message["pin"] for message in caller.provider.messages(caller.number)[:2]] == [code, code]
    assert caller.verify(path, code).status_code == 200


@pytest.mark.parametrize("channel", ["sms", "voice"])
def test_channel(caller: Caller, channel: str) -> None:
    """The channel of a resend may differ from the first."""
    path, _ = caller.sent()
    caller.become(path, NOW)

    answer = resend(caller, path, {"channel": channel})
    caller.parts.pump.run()

    assert (answer.status_code, answer.json["resend"]["channel"]) == (202, channel)
    assert answer.json["channel"] == "sms"
    assert caller.provider.messages(caller.number)[0]["channel"] == channel.upper()


def test_voice_first(caller: Caller) -> None:
    """A request for a call is answered as one, and a resend without a channel calls again."""
    path, _ = caller.sent(channel="voice")
    caller.become(path, NOW)

    answer = resend(caller, path, {})
    caller.parts.pump.run()

    assert (answer.json["channel"], answer.json["resend"]["channel"]) == ("voice", "voice")
    assert [one["channel"] for one in caller.provider.messages(caller.number)[:2]] == ["VOICE", "VOICE"]


def test_too_soon(caller: Caller) -> None:
    """Within the cool-down the answer is 429 with the seconds that are left."""
    path, _ = caller.sent()

    answer = resend(caller, path)

    assert (answer.status_code, answer.json["code"]) == (429, "resend_too_soon")
    assert 28 <= int(answer.headers["Retry-After"]) <= 30


def test_in_progress(caller: Caller) -> None:
    """While one is under way another is 409, and says when to ask again."""
    path, _ = caller.sent()
    caller.become(path, NOW)
    resend(caller, path)

    answer = resend(caller, path)

    assert (answer.status_code, answer.json["code"]) == (409, "resend_in_progress")
    assert answer.headers["Retry-After"] == "1"


def test_exhausted(caller: Caller) -> None:
    """After five sends the answer is 409, and the status says that none is left."""
    path, _ = caller.sent()
    caller.become(path, f"{NOW}, sends = 5")

    answer = resend(caller, path)

    assert (answer.status_code, answer.json["code"]) == (409, "resends_exhausted")
    assert caller.get(path).json["sends_left"] == 0


def test_not_sent_yet(caller: Caller) -> None:
    """Before the first send there is nothing to resend."""
    answer = resend(caller, caller.ask())

    assert (answer.status_code, answer.json["code"]) == (409, "not_sent_yet")


@pytest.mark.parametrize(
    ("status", "code", "http"),
    [
        ("verified", "already_verified", 409),
        ("expired", "expired", 410),
        ("locked", "locked", 410),
        ("cancelled", "cancelled", 410),
        ("failed", "failed", 410),
    ],
)
def test_ended(caller: Caller, status: str, code: str, http: int) -> None:
    """What has ended is not resent; the status shows no more sends."""
    path, _ = caller.sent()
    caller.become(path, f"{NOW}, status = '{status}', finished_at = now()")

    answer = resend(caller, path)
    shown = caller.get(path).json

    assert (answer.status_code, answer.json["code"]) == (http, code)
    assert (shown["sends_left"], shown["resend_after"]) == (0, None)


def test_expired_before_the_sweep(caller: Caller) -> None:
    """A code whose life is over is 410, though no sweep has come."""
    path, _ = caller.sent()
    caller.become(path, f"{NOW}, expires_at = now()")

    assert resend(caller, path).json["code"] == "expired"


def test_code_that_is_about_to_expire(caller: Caller) -> None:
    """A code with seconds left is not sent again as one that is good for minutes; it verifies until then."""
    path, code = caller.sent()
    caller.become(path, f"{NOW}, expires_at = now() + interval '15 seconds'")

    answer = resend(caller, path)
    caller.parts.pump.run()

    assert (answer.status_code, answer.json["code"]) == (409, "resend_too_late")
    assert "new request" in answer.json["detail"]
    assert len(caller.provider.messages(caller.number)) == 1
    assert caller.verify(path, code).status_code == 200


def test_failed_resend_shows_beside_the_status(caller: Caller) -> None:
    """A resend that fails shows in `resend` with a reason, and the code in hand still verifies."""
    path, code = caller.sent()
    caller.become(path, NOW)
    before = caller.get(path).json
    caller.provider.fault(match={"path": "/resend"}, status=400)
    resend(caller, path)
    caller.parts.pump.run()

    after = caller.get(path).json

    assert after["resend"] == {"status": "failed", "channel": "sms", "reason": "provider_refused"}
    for name in ("status", "reason", "provider_code", "sent_at", "expires_at"):
        assert after[name] == before[name]
    assert caller.verify(path, code).status_code == 200


def test_wrong_code_while_a_resend_is_due(caller: Caller) -> None:
    """Checking goes on meanwhile, and counts as ever."""
    path, code = caller.sent()
    caller.become(path, NOW)
    resend(caller, path)

    answer = caller.verify(path, wrong(code))

    assert (answer.status_code, answer.json["checks_left"]) == (422, 4)
    assert caller.verify(path, code).status_code == 200


def test_etag_changes_with_a_resend(caller: Caller) -> None:
    """Whoever polls by ETag sees a resend asked for, and sees it leave."""
    path, _ = caller.sent()
    caller.become(path, NOW)
    tags = [caller.get(path).headers["ETag"]]
    resend(caller, path)
    tags.append(caller.get(path).headers["ETag"])
    caller.parts.pump.run()
    tags.append(caller.get(path).headers["ETag"])

    assert len(set(tags)) == 3


def test_foreign_and_unknown_requests(caller: Caller) -> None:
    """Another client's request is 404, as one that never was, and so is what is no id."""
    path, _ = caller.sent()
    caller.become(path, NOW)
    stranger = {"Authorization": f"Bearer {caller.new_key('send', client='stranger')}"}

    for where in (path, f"/v1/otp-requests/{uuid4()}", "/v1/otp-requests/none"):
        answer = caller.post(f"{where}/resend", headers=stranger)
        assert (answer.status_code, answer.json["code"]) == (404, "request_not_found")


def test_scope(caller: Caller) -> None:
    """Resending costs money: it needs the scope `send`."""
    path, _ = caller.sent()

    def status(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return int(caller.post(f"{path}/resend", headers=headers).status_code)

    assert status(caller.new_key("verify")) == 403
    assert status("nobody") == 401
    assert status(caller.new_key("send")) == 429


@pytest.mark.parametrize(
    ("body", "code", "http"),
    [
        (b'{"channel": "pigeon"}', "invalid_request", 400),
        (b'{"channel": 7}', "invalid_request", 400),
        (b'{"chanel": "sms"}', "invalid_request", 400),
        (b"[]", "malformed_json", 400),
        (b"null", "malformed_json", 400),
        (b'{"channel":', "malformed_json", 400),
        (b"x" * 100_000, "body_too_large", 413),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else None,
)
def test_bad_bodies(caller: Caller, body: bytes, code: str, http: int) -> None:
    """A body may be left out, but not be anything; a wrong one takes no send."""
    path, _ = caller.sent()
    caller.become(path, NOW)

    answer = caller.send_bytes(f"{path}/resend", body)

    assert (answer.status_code, answer.json["code"]) == (http, code)
    assert caller.get(path).json["sends_left"] == 4


def test_body_that_is_no_json(caller: Caller) -> None:
    """A body of another type is refused."""
    path, _ = caller.sent()

    answer = caller.post(f"{path}/resend", body=b"channel=voice", headers={"Content-Type": "text/plain"})

    assert answer.status_code == 415


def test_body_in_pieces(served: Served) -> None:
    """A body that comes without a length is read: whoever asks for a call is called."""
    number = "+447700900777"
    path, _ = served.sent(number)
    with served.parts.engine.connect() as conn:
        conn.exec_driver_sql("UPDATE otp_requests SET resend_after = now()")
    address = urlsplit(served.url)
    body = json.dumps({"channel": "voice"}).encode()
    head = (
        f"POST {path}/resend HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {served.key}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )

    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(head.encode() + f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    served.parts.pump.run()

    assert re.match(rb"HTTP/1.1 202", answer)
    assert served.provider.messages(number)[0]["channel"] == "VOICE"
