from datetime import UTC, datetime, timedelta

import pytest

TO = "41793026727"


def test_inbox_is_newest_first(client):
    """Messages come newest first, of all numbers or of one, and as many as asked for."""
    body = client.ready()
    ids = [client.send_pin({**body, "to": to}) for to in (TO, "447700900123", TO)]
    assert [message["pinId"] for message in client.inbox()] == ids[::-1]
    assert [message["pinId"] for message in client.inbox(TO)] == [ids[2], ids[0]]
    limited = client.get("/_simulator/messages?limit=1").json()["messages"]
    assert [message["pinId"] for message in limited] == [ids[2]]
    assert client.inbox("999") == []


@pytest.mark.parametrize("query", ["to=x", "to=", "limit=0", "limit=x"])
def test_bad_inbox_queries_are_400(client, query):
    """A query that makes no sense is 400 with a reason."""
    answer = client.get(f"/_simulator/messages?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_clearing_the_inbox_keeps_the_pins(client):
    """Clearing forgets the messages; a PIN already read still verifies."""
    pin_id = client.send_pin(client.ready())
    pin = client.pin()
    assert client.delete("/_simulator/messages").status_code == 204
    assert client.inbox() == client.inbox(TO) == []
    assert client.check(pin_id, pin).json()["verified"] is True


def test_inbox_is_bounded(client_with):
    """A full inbox loses its oldest message, in all and for its number."""
    with client_with(inbox_size=2) as client:
        body = client.ready()
        ids = [client.send_pin({**body, "to": to}) for to in ("1", "2", "1")]
        assert [message["pinId"] for message in client.inbox()] == [ids[2], ids[1]]
        assert [message["pinId"] for message in client.inbox("1")] == [ids[2]]


@pytest.mark.parametrize("path", ["messages", "faults", "stats", "clock", "messages?to=x", "nope"])
def test_reading_is_open_to_other_origins(client, path):
    """GET answers under /_simulator may be read by pages of any origin; those of the API may not."""
    assert client.get(f"/_simulator/{path}").headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Origin" not in client.get("/2fa/2/applications").headers
    assert "Access-Control-Allow-Origin" not in client.delete("/_simulator/messages").headers


def test_clock_moves_forward(client):
    """The clock tells simulated UTC, and moves by fractions of seconds too."""
    client.advance(86_400)
    client.advance(0.5)
    now = datetime.fromisoformat(client.get("/_simulator/clock").json()["now"])
    ahead = now - datetime.now(UTC)
    assert timedelta(days=1) <= ahead + timedelta(seconds=1) < timedelta(days=1, seconds=5)


@pytest.mark.parametrize("body", [{}, {"advance_s": -1}, {"advance_s": "1"}, {"advance_s": 1e12}, {"x": 1}])
def test_bad_clock_bodies_are_400(client, body):
    """The clock does not move back, nor by anything but a number of seconds."""
    answer = client.post("/_simulator/clock", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_reset_deletes_everything(client):
    """Reset drops applications, PINs, messages, faults, limits, counts and the clock's advance."""
    body = client.ready(sendPinPerPhoneNumberLimit="1/1d")
    pin_id = client.send_pin(body)
    client.advance(86_400)
    client.fault(status=500, match={"path": "/nope"})
    assert client.post("/_simulator/reset").status_code == 204
    assert client.get("/_simulator/stats").json() == {"requests": {}}
    assert client.get("/_simulator/faults").json() == {"faults": []}
    assert client.inbox() == client.get("/2fa/2/applications").json() == []
    assert client.check(pin_id, "x").status_code == 404
    now = datetime.fromisoformat(client.get("/_simulator/clock").json()["now"])
    assert now - datetime.now(UTC) < timedelta(seconds=5)
    client.send_pin(client.ready(sendPinPerPhoneNumberLimit="1/1d"))


def test_stats_count_by_operation_and_status(client):
    """Requests of the API are counted by operation and status, replaced answers included."""
    body = client.ready()
    pin_id = client.send_pin(body)
    client.check(pin_id, "x")
    client.check("nope", "x")
    client.fault(status=503, times=1)
    client.post("/2fa/2/pin", json=body)
    client.get("/2fa/2/pin/x/y/z")
    assert client.get("/_simulator/stats").json()["requests"] == {
        "POST /2fa/2/applications": {"201": 1},
        "POST /2fa/2/applications/{application_id}/messages": {"200": 1},
        "POST /2fa/2/pin": {"200": 1, "503": 1},
        "POST /2fa/2/pin/{pin_id}/verify": {"200": 1, "404": 1},
        "unknown": {"404": 1},
    }


def test_page_is_self_contained(client):
    """The page at / is HTML that loads nothing from elsewhere and never writes markup from messages."""
    answer = client.get("/")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "innerHTML" not in answer.text
    assert 'name="viewport"' in answer.text
