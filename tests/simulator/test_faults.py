import time

import pytest
import requests

TO = "41793026727"

PATH = "/_simulator/faults"
OTHER = "447700900123"


def send(client, to=TO, body=None):
    """Send a PIN and return the answer, whatever it is."""
    return client.post("/2fa/2/pin", json={**(body or client.ready()), "to": to})


def test_create_and_list(client):
    """A fault is answered with its id and shown with how often it struck; deleting clears all."""
    created = client.fault(match={"to": TO}, times=2, latency_ms=0)
    assert created.pop("id")
    assert created == {"match": {"to": TO}, "times": 2, "latency_ms": 0, "used": 0}
    send(client)
    (listed,) = client.get(PATH).json()["faults"]
    assert listed["used"] == 1
    assert client.delete(PATH).status_code == 204
    assert client.get(PATH).json() == {"faults": []}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "needs at least one of"),
        ({"times": 1}, "needs at least one of"),
        ({"latency": 1}, "latency: Extra inputs"),
        ({"match": {"number": TO}, "latency_ms": 1}, "match.number: Extra inputs"),
        ({"match": {"to": "x"}, "latency_ms": 1}, "match.to: must be a phone number"),
        ({"match": {"to": 5}, "latency_ms": 1}, "match.to: must be a valid string"),
        ({"match": TO, "latency_ms": 1}, "match: must be"),
        ({"latency_ms": "5"}, "latency_ms: must be a valid integer"),
        ({"latency_ms": -1}, "latency_ms: must be greater"),
        ({"latency_ms": 1, "times": 0}, "times: must be greater"),
        ({"status": 99}, "status: must be greater"),
        ({"status": 500, "headers": {"A b": "x"}}, "headers.A b"),
        ({"status": 500, "headers": {"A": "x\r\ny"}}, "headers.A"),
        ({"status": 500, "headers": {"Content-Length": "1"}}, "is set by the server"),
        ({"drop": "now"}, "drop: must be 'before' or 'after'"),
        ({"drop": "after", "status": 500}, "status and drop exclude"),
        ({"latency_ms": 1, "body": "x"}, "need status"),
        ({"envelope": "new", "drop": "after"}, "need status"),
        ({"status": 500, "body": "x", "envelope": "new"}, "body and envelope exclude"),
        ({"form": "huge", "drop": "after"}, "form and drop exclude"),
        ({"form": "tiny"}, "form: must be"),
        ({"form": "huge", "size_bytes": 10**9}, "size_bytes"),
        ({"form": "slow", "byte_ms": 0}, "byte_ms"),
        ({"status": 500, "match": {"method": "HEAD"}}, "match.method"),
    ],
)
def test_bad_faults_are_400(client, body, words):
    """A fault that makes no sense is 400, saying why."""
    answer = client.post(PATH, json=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert client.get(PATH).json() == {"faults": []}


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"status": 500, "body": "\\ud800"}'])
def test_fault_that_is_no_object_is_400(client, data):
    """An empty body, broken JSON and an array are 400 with a reason."""
    answer = client.post(PATH, data=data, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Request body")


def test_latency_leaves_the_answer_as_it_is(client):
    """Latency alone delays the normal answer."""
    body = client.ready()
    client.fault(latency_ms=300)
    started = time.monotonic()
    answer = send(client, body=body)
    assert time.monotonic() - started >= 0.3
    assert answer.json()["smsStatus"] == "MESSAGE_SENT"


def test_delayed_request_has_its_effect_at_once(client):
    """A client that gives up waiting leaves a message that was sent all the same."""
    body = client.ready()
    client.fault(latency_ms=2000, times=1)
    with pytest.raises(requests.ReadTimeout):
        client.post("/2fa/2/pin", json=body, timeout=0.2)
    assert len(client.inbox(TO)) == 1


@pytest.mark.parametrize(
    ("status", "message_id"),
    [
        (400, "BAD_REQUEST"),
        (401, "UNAUTHORIZED"),
        (403, "FORBIDDEN"),
        (404, "NOT_FOUND"),
        (429, "TOO_MANY_REQUESTS"),
        (500, "GENERAL_ERROR"),
        (503, "SERVICE_UNAVAILABLE"),
        (599, "GENERAL_ERROR"),
        (418, "IM_A_TEAPOT"),
        (499, "BAD_REQUEST"),
    ],
)
def test_status_has_the_documented_body(client, error_of, status, message_id):
    """A status alone brings its error body, and the request has no effect."""
    body = client.ready()
    client.fault(status=status)
    assert error_of(send(client, body=body))[:2] == (status, message_id)
    assert client.inbox() == []


@pytest.mark.parametrize(
    ("given", "content_type", "text"),
    [
        ({"errorCode": "E500"}, "application/json", '{"errorCode": "E500"}'),
        (None, "application/json", "null"),
        ("<html>", "text/plain; charset=utf-8", "<html>"),
        ("", "text/plain; charset=utf-8", ""),
    ],
)
def test_body_replaces_the_answer(client, given, content_type, text):
    """A body is JSON, or text as it is; a 200 may replace a send that never happened."""
    body = client.ready()
    client.fault(status=200, body=given)
    answer = send(client, body=body)
    assert (answer.status_code, answer.text) == (200, text)
    assert answer.headers["Content-Type"] == content_type
    assert client.inbox() == []


def test_headers_of_a_fault(client):
    """Headers are added, and may change the content type."""
    body = client.ready()
    client.fault(
        status=429, body="<p>", headers={"Retry-After": "7", "Content-Type": "text/html", "Set-Cookie": "a=b"}
    )
    answer = send(client, body=body)
    assert answer.cookies.get_dict() == {"a": "b"}
    assert (answer.headers["Retry-After"], answer.headers["Content-Type"]) == ("7", "text/html")


def test_status_with_latency(client):
    """A replaced answer can be late as well."""
    client.fault(status=503, latency_ms=200)
    started = time.monotonic()
    assert client.get("/2fa/2/applications").status_code == 503
    assert time.monotonic() - started >= 0.2


@pytest.mark.parametrize(("drop", "messages"), [("before", 0), ("after", 1)])
@pytest.mark.parametrize("latency_ms", [0, 100])
def test_drop_cuts_the_connection(client, drop, messages, latency_ms):
    """The client sees the connection break; only `after` has sent the message; then all is well again."""
    body = client.ready()
    client.fault(drop=drop, latency_ms=latency_ms, times=1)
    with pytest.raises(requests.ConnectionError, match=r"RemoteDisconnected|ConnectionReset"):
        send(client, body=body)
    assert len(client.inbox(TO)) == messages
    assert send(client, body=body).status_code == 200


def test_drop_after_verify_uses_the_attempt(client):
    """A verification whose answer is cut off has taken place."""
    pin_id = client.send_pin(client.ready(pinAttempts=3))
    client.fault(drop="after", times=1)
    with pytest.raises(requests.ConnectionError):
        client.check(pin_id, client.wrong_pin())
    assert client.check(pin_id, client.wrong_pin()).json()["attemptsRemaining"] == 1


def test_times_are_used_up(client):
    """A fault strikes so many times; faults are tried in order of creation."""
    body = client.ready()
    client.fault(status=500, times=2)
    client.fault(status=503, times=1)
    assert [send(client, body=body).status_code for _ in range(4)] == [500, 500, 503, 200]


def test_null_times_last_until_deleted(client):
    """With times null a fault strikes until it is deleted."""
    body = client.ready()
    client.fault(status=500, times=None)
    assert {send(client, body=body).status_code for _ in range(3)} == {500}
    client.delete(PATH)
    assert send(client, body=body).status_code == 200


def test_match_of_a_number(client):
    """A fault for a number strikes its send, verify, resend and look-up, and nothing else."""
    body = client.ready()
    mine, other = client.send_pin(body), client.send_pin({**body, "to": OTHER})
    client.fault(match={"to": f"+{TO}"}, status=500)
    verifications = f"/2fa/2/applications/{body['applicationId']}/verifications?msisdn="
    struck = [
        send(client, to=f"+{TO}", body=body),
        client.check(mine, "x"),
        client.post(f"/2fa/2/pin/{mine}/resend"),
        client.get(verifications + TO),
    ]
    spared = [
        send(client, to=OTHER, body=body),
        client.check(other, "x"),
        client.post(f"/2fa/2/pin/{other}/resend"),
        client.get(verifications + OTHER),
        client.get("/2fa/2/applications"),
    ]
    assert [answer.status_code for answer in struck] == [500] * 4
    assert [answer.status_code for answer in spared] == [200] * 5
    assert client.post("/2fa/2/pin", data=b"{").status_code == 400


@pytest.mark.parametrize(
    ("path", "hits"),
    [
        ("/verify", True),
        ("/2fa/2/pin", True),
        ("*/verify", True),
        ("*/resend", False),
        ("/2fa/2/pin*x", False),
    ],
)
def test_match_of_a_path(client, path, hits):
    """A path is a part of the request's path, or with a * a pattern for the whole of it."""
    pin_id = client.send_pin(client.ready())
    client.fault(match={"path": path}, status=500)
    assert (client.check(pin_id, "x").status_code == 500) is hits


def test_no_match_strikes_all_of_the_api(client):
    """Without a match every path under /2fa is struck, unknown ones too, and no other."""
    client.fault(status=503)
    for path in ("/2fa/2/applications", "/2fa/no/such", "/2fa"):
        assert client.get(path).status_code == 503
    assert client.get("/_simulator/messages").status_code == 200
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    ("envelope", "content_type", "words"),
    [
        ("old", "application/json", '"requestError"'),
        ("new", "application/json", '"E503"'),
        ("html", "text/html; charset=utf-8", "<h1>503"),
        ("empty", "application/json", ""),
    ],
)
def test_envelopes(client, envelope, content_type, words):
    """The error body of a fault can be of either envelope, a page, or nothing."""
    client.fault(status=503, envelope=envelope, headers={"Retry-After": "3"})
    answer = client.get("/2fa/2/applications")
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == content_type
    assert answer.headers["Retry-After"] == "3"
    assert words in answer.text
    assert words or not answer.text


def test_invalid_answer_after_a_send(client):
    """A form alone spoils the real answer: the message was sent."""
    body = client.ready()
    for form in ("html", "empty", "broken"):
        client.fault(form=form, times=1)
        answer = send(client, body=body)
        assert answer.status_code == 200
        with pytest.raises(requests.JSONDecodeError):
            answer.json()
    assert len(client.inbox()) == 3
    assert send(client, body=body).json()["smsStatus"] == "MESSAGE_SENT"


def test_invalid_answer_instead_of_the_real_one(client):
    """With a status the spoiled answer is that of a request without effect."""
    body = client.ready()
    client.fault(status=200, body={"pinId": "x"}, form="broken")
    assert send(client, body=body).text == '{"pinId'
    assert client.inbox() == []


def test_truncated_answer(client):
    """The connection breaks in the middle of an answer that promised more."""
    body = client.ready()
    client.fault(form="truncated", times=1)
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        send(client, body=body)
    assert len(client.inbox()) == 1
    assert send(client, body=body).status_code == 200


@pytest.mark.parametrize("path", ["/2fa/2/applications", "/2fa/2/applications/nope", "/2fa/2/nope"])
def test_huge_answer(client, path):
    """A huge answer has as many bytes as asked for, and is JSON still."""
    client.fault(form="huge", size_bytes=200_000)
    answer = client.get(path)
    assert len(answer.content) == 200_000
    assert isinstance(answer.json(), list | dict)


def test_huge_answer_is_no_smaller_than_the_real_one(client):
    """Padding never takes away."""
    body = client.ready()
    client.fault(form="huge", size_bytes=1)
    assert send(client, body=body).json()["padding"] == ""


def test_slow_answer(client):
    """A slow answer comes byte by byte, and whole."""
    client.application()
    client.fault(form="slow", byte_ms=1, status=200, body=[1, 2, 3])
    started = time.monotonic()
    assert client.get("/2fa/2/applications").json() == [1, 2, 3]
    assert time.monotonic() - started >= 0.008


def test_slow_answer_to_a_closed_connection(client, simulator):
    """A client that leaves a slow answer harms nobody."""
    client.fault(form="slow", times=1)
    with pytest.raises(requests.RequestException), client.get("/2fa/2/applications", timeout=0.1) as answer:
        answer.json()
    assert client.get("/2fa/2/applications").json() == []


def test_match_of_a_method(client):
    """A fault can be for one method alone."""
    client.fault(match={"method": "POST", "path": "/applications"}, status=500)
    assert client.get("/2fa/2/applications").status_code == 200
    assert client.post("/2fa/2/applications", json={"name": "a"}).status_code == 500


def test_match_of_an_address(client):
    """A fault for an e-mail address strikes sends to it."""
    client.fault(match={"to": "ann@example.com"}, status=500)
    for to, status in (("ann@example.com", 500), ("bob@example.com", 404)):
        body = {"applicationId": "x", "messageId": "x", "to": to}
        assert client.post("/2fa/2/pin/email", json=body).status_code == status


@pytest.mark.parametrize(
    "path", ["/subscriptions/1/subscription/SMS", "/sms/3/reports", "/auth/1/session", "/sms/nope"]
)
def test_faults_strike_the_paths_around_the_api_too(client, path):
    """Whatever Infobip's host would answer can be struck."""
    client.fault(status=503)
    assert client.get(path).status_code == 503
