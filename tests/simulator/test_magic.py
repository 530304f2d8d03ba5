import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from otpqueue.simulator.magic import MAGIC_NUMBERS, PREFIX


def send(client, last_two, query="", **kwargs):
    """Send a PIN to a magic number and return the answer."""
    return client.post("/2fa/2/pin" + query, json={**client.ready(), "to": PREFIX + last_two}, **kwargs)


def test_the_table(client):
    """All are in the reserved range, none twice, and shown with a meaning."""
    numbers = [magic.number for magic in MAGIC_NUMBERS]
    assert numbers == sorted(set(numbers))
    assert all(len(number) == 12 and number.startswith("4420794609") for number in numbers)
    shown = client.get("/_simulator/magic-numbers").json()["magic_numbers"]
    assert [entry["number"] for entry in shown] == numbers
    assert all(entry["meaning"] for entry in shown)


@pytest.mark.parametrize(
    ("last_two", "nc_status", "sms_status"),
    [
        ("00", "NC_DESTINATION_NOT_REACHABLE", "MESSAGE_NOT_SENT"),
        ("01", "NC_NOT_REACHABLE", "MESSAGE_NOT_SENT"),
        ("02", "NC_NOT_CONFIGURED", "MESSAGE_SENT"),
        ("03", "NC_DESTINATION_UNKNOWN", "MESSAGE_SENT"),
        ("04", "NC_DESTINATION_REACHABLE", "MESSAGE_NOT_SENT"),
    ],
)
def test_number_look_up(client, last_two, nc_status, sms_status):
    """A look-up may find the number unreachable: 200, but nothing sent; without one it is sent."""
    answer = send(client, last_two)
    assert answer.status_code == 200
    reply = answer.json()
    assert (reply["ncStatus"], reply["smsStatus"]) == (nc_status, sms_status)
    assert len(client.inbox()) == (sms_status == "MESSAGE_SENT")
    resent = client.post(f"/2fa/2/pin/{reply['pinId']}/resend").json()
    assert (resent["ncStatus"], resent["smsStatus"]) == (nc_status, sms_status)
    skipped = send(client, last_two, "?ncNeeded=false").json()
    assert (skipped.get("ncStatus"), skipped["smsStatus"]) == (None, "MESSAGE_SENT")


def test_unsent_messages_have_no_reports(client):
    """A message that was not sent has no externalMessageId."""
    body = {**client.ready(), "to": PREFIX + "00", "trackDelivery": True}
    assert "externalMessageId" not in client.post("/2fa/2/pin", json=body).json()


@pytest.mark.parametrize(
    ("last_two", "status", "message_id"),
    [
        ("40", 400, "BAD_REQUEST"),
        ("41", 401, "UNAUTHORIZED"),
        ("43", 403, "FORBIDDEN"),
        ("44", 404, "NOT_FOUND"),
        ("48", 429, "TOO_MANY_REQUESTS"),
        ("49", 429, "TOO_MANY_REQUESTS"),
        ("50", 500, "GENERAL_ERROR"),
        ("53", 503, "SERVICE_UNAVAILABLE"),
    ],
)
@pytest.mark.parametrize("channel", ["", "/voice"])
def test_refusals(client, error_of, last_two, status, message_id, channel):
    """A refused send has the documented body, and nothing is sent."""
    answer = client.post(f"/2fa/2/pin{channel}", json={**client.ready(), "to": "+" + PREFIX + last_two})
    assert error_of(answer)[:2] == (status, message_id)
    assert answer.headers.get("Retry-After") == ("2" if last_two == "48" else None)
    assert client.inbox() == []


def test_refusals_without_the_usual_envelope(client):
    """An error may have no body, a page, or the newer envelope."""
    empty, page, new = (send(client, last_two) for last_two in ("51", "52", "54"))
    assert (empty.status_code, empty.text) == (500, "")
    assert (page.status_code, page.headers["Content-Type"]) == (502, "text/html; charset=utf-8")
    assert page.text.startswith("<html>")
    assert (new.status_code, new.json()["errorCode"]) == (500, "E500")


@pytest.mark.parametrize(
    ("last_two", "verify", "resend"), [("45", 404, 404), ("55", 429, 200), ("56", 500, 200)]
)
def test_refusals_of_verify_and_resend(client, last_two, verify, resend):
    """Some numbers take a send, and refuse what follows."""
    answer = send(client, last_two)
    assert answer.status_code == 200
    pin_id = answer.json()["pinId"]
    assert client.check(pin_id, client.pin()).status_code == verify
    assert client.post(f"/2fa/2/pin/{pin_id}/resend").status_code == resend


@pytest.mark.parametrize(("last_two", "messages"), [("60", 0), ("61", 1)])
def test_time_outs(client, last_two, messages):
    """A send may go unanswered before or after it has taken place."""
    with pytest.raises(requests.ReadTimeout):
        send(client, last_two, timeout=0.2)
    assert len(client.inbox(PREFIX + last_two)) == messages


@pytest.mark.parametrize(("last_two", "messages"), [("62", 0), ("63", 1)])
def test_cut_connections(client, last_two, messages):
    """A connection may break before or after the send has taken place."""
    with pytest.raises(requests.ConnectionError):
        send(client, last_two)
    assert len(client.inbox(PREFIX + last_two)) == messages


def test_spoiled_answers(client):
    """A message that was sent may be answered with what no client expects."""
    page, empty, broken, huge = (send(client, last_two) for last_two in ("70", "71", "72", "74"))
    assert [answer.status_code for answer in (page, empty, broken, huge)] == [200] * 4
    assert page.text.startswith("<html>")
    assert empty.text == ""
    with pytest.raises(requests.JSONDecodeError):
        broken.json()
    assert len(huge.content) == 10_000_000
    assert huge.json()["smsStatus"] == "MESSAGE_SENT"
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        send(client, "73")
    assert len(client.inbox()) == 5


def test_slow_answer(client):
    """A byte a second keeps a read time-out from striking, for as long as anyone listens."""
    with send(client, "75", stream=True, timeout=1.5) as answer:
        assert answer.raw.read(1) == b"{"
        started = time.monotonic()
        assert answer.raw.read(1) == b'"'
        assert 0.5 < time.monotonic() - started < 1.5


def test_magic_by_email(client):
    """An address whose local part is a magic number is magic."""
    application_id = client.ready()["applicationId"]
    path = f"/2fa/2/applications/{application_id}/email/messages"
    message_id = client.post(path, json={"emailTemplateId": 1}).json()["messageId"]
    body = {"applicationId": application_id, "messageId": message_id, "to": PREFIX + "50@example.com"}
    assert client.post("/2fa/2/pin/email", json=body).status_code == 500


def test_unauthenticated_calls_are_refused_first(client):
    """Magic is only for those who may ask."""
    headers = {"Authorization": "App no"}
    assert send(client, "50", headers=headers).status_code == 401


def test_magic_can_be_switched_off(client_with):
    """With magic_numbers off they are numbers like any other."""
    with client_with(magic_numbers=False) as client:
        assert send(client, "50").json()["smsStatus"] == "MESSAGE_SENT"
        assert send(client, "00").json()["smsStatus"] == "MESSAGE_SENT"


@pytest.mark.parametrize(
    ("last_two", "advance_s", "names"),
    [
        ("20", 2, ["PENDING_ENROUTE", "DELIVERED_TO_OPERATOR", "UNDELIVERABLE_NOT_DELIVERED"]),
        ("21", 2, ["PENDING_ENROUTE", "DELIVERED_TO_OPERATOR", "REJECTED_FLOODING_FILTER"]),
        ("22", 2, ["PENDING_ENROUTE", "DELIVERED_TO_OPERATOR", "EXPIRED_EXPIRED"]),
        ("23", 50, ["PENDING_ENROUTE", "DELIVERED_TO_OPERATOR"]),
        ("23", 61, ["PENDING_ENROUTE", "DELIVERED_TO_OPERATOR", "DELIVERED_TO_HANDSET"]),
        ("25", 9999, []),
        ("26", 9999, ["PENDING_ENROUTE", "DELIVERED_TO_OPERATOR"]),
        ("28", 2, ["DELIVERED_TO_HANDSET", "PENDING_ENROUTE", "DELIVERED_TO_OPERATOR"]),
    ],
)
def test_magic_reports(client, last_two, advance_s, names):
    """The reports of a tracked message depend on its number."""
    client.tracked({**client.ready(), "to": PREFIX + last_two})
    client.advance(advance_s)
    found = client.get("/sms/3/reports").json()["results"]
    assert [report["status"]["name"] for report in found] == names


def test_a_rule_beats_magic(client):
    """A rule that a test set decides before a magic number does."""
    client.receipts(outcome="none")
    client.tracked({**client.ready(), "to": PREFIX + "20"})
    client.advance(5)
    assert client.get("/sms/3/reports").json() == {"results": []}


def test_others_are_not_held_up(client):
    """While one send hangs, others are served."""
    body = client.ready()
    headers = dict(client.headers)

    def hang() -> None:
        with pytest.raises(requests.ReadTimeout):
            requests.post(
                f"{client.url}/2fa/2/pin", json={**body, "to": PREFIX + "60"}, headers=headers, timeout=0.5
            )

    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(hang)
        started = time.monotonic()
        client.send_pin(body)
        assert time.monotonic() - started < 0.4
        hung.result()
