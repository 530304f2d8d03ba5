import re
from uuid import UUID

import pytest

TO = "41793026727"

NOT_THERE = (404, "RESOURCE_NOT_FOUND", "Application or message with given ID cannot be found.")


def test_send_makes_a_pin_and_delivers_it(client):
    """A send answers ids and statuses, and puts the text with its PIN into the inbox."""
    answer = client.post("/2fa/2/pin", json=client.ready())
    assert answer.status_code == 200
    reply = answer.json()
    assert re.fullmatch("[0-9A-F]{32}", reply["pinId"])
    assert reply == {
        "pinId": reply["pinId"],
        "to": TO,
        "ncStatus": "NC_DESTINATION_REACHABLE",
        "smsStatus": "MESSAGE_SENT",
    }
    (message,) = client.inbox(TO)
    assert re.fullmatch("[0-9]{6}", message["pin"])
    assert message["text"] == f"Your code is {message['pin']}"
    assert (message["to"], message["channel"], message["pinId"]) == (TO, "SMS", reply["pinId"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message["sentAt"])


@pytest.mark.parametrize(
    ("query", "shown"), [("", True), ("?ncNeeded=true", True), ("?ncNeeded=false", False)]
)
def test_nc_needed_decides_about_nc_status(client, query, shown):
    """A number look-up is done unless ncNeeded is false, and then its status is left out."""
    assert ("ncStatus" in client.post("/2fa/2/pin" + query, json=client.ready()).json()) is shown


def test_bad_nc_needed_is_400(client, problems_of):
    """A value that is no boolean is refused."""
    answer = client.post("/2fa/2/pin?ncNeeded=maybe", json=client.ready())
    assert set(problems_of(answer)) == {"ncNeeded"}


def test_track_delivery_gives_a_message_id(client):
    """With trackDelivery the reply carries a random UUID to join reports on, another for each message."""
    body = {**client.ready(), "trackDelivery": True}
    first, second = (client.post("/2fa/2/pin", json=body).json()["externalMessageId"] for _ in range(2))
    assert UUID(first).version == 4
    assert first != second
    assert "externalMessageId" not in client.post("/2fa/2/pin", json={**body, "trackDelivery": False}).json()


def test_leading_plus_is_dropped(client):
    """A leading + is accepted, and replies and the inbox show digits."""
    reply = client.post("/2fa/2/pin", json={**client.ready(), "to": f"+{TO}"}).json()
    assert reply["to"] == TO
    assert len(client.inbox(TO)) == len(client.inbox(f"+{TO}")) == 1


@pytest.mark.parametrize(
    "to",
    [
        "",
        "+",
        "abc",
        "0041 79",
        "41-79",
        "++41",
        "41+79",
        "\u0664\u0661",
        "4" * 65,
        "41\n",
        None,
        41793026727,
    ],
)
def test_bad_numbers_are_400(client, problems_of, to):
    """A number with anything but digits after an optional + is refused, and nothing is sent."""
    answer = client.post("/2fa/2/pin", json={**client.ready(), "to": to})
    assert set(problems_of(answer)) == {"to"}
    assert client.inbox() == []


@pytest.mark.parametrize("field", ["applicationId", "messageId", "to"])
def test_required_fields(client, problems_of, field):
    """Application, template and number are required."""
    body = client.ready()
    del body[field]
    assert set(problems_of(client.post("/2fa/2/pin", json=body))) == {field}


@pytest.mark.parametrize("field", ["applicationId", "messageId"])
def test_unknown_application_or_template(client, error_of, field):
    """An unknown application or template is 404 RESOURCE_NOT_FOUND."""
    assert error_of(client.post("/2fa/2/pin", json={**client.ready(), field: "nope"})) == NOT_THERE


def test_template_of_another_application(client, error_of):
    """A template serves only its own application."""
    body = {**client.ready(), "messageId": client.ready()["messageId"]}
    assert error_of(client.post("/2fa/2/pin", json=body)) == NOT_THERE


def test_disabled_application(client, error_of):
    """A disabled application sends nothing: 400."""
    body = client.ready()
    client.put(f"/2fa/2/applications/{body['applicationId']}", json={"name": "a", "enabled": False})
    assert error_of(client.post("/2fa/2/pin", json=body))[:2] == (400, "BAD_REQUEST")
    assert client.inbox() == []


@pytest.mark.parametrize(
    ("pin_type", "shape"),
    [("NUMERIC", "[0-9]+"), ("ALPHA", "[A-Z]+"), ("HEX", "[0-9A-F]+"), ("ALPHANUMERIC", "[0-9A-Z]+")],
)
@pytest.mark.parametrize("length", [1, 8])
def test_pin_types_and_lengths(client, pin_type, shape, length):
    """The PIN is made of the template's alphabet and has its length."""
    body = client.ready()
    body["messageId"] = client.template(body["applicationId"], pinType=pin_type, pinLength=length)
    client.send_pin(body)
    assert re.fullmatch(shape, client.pin())
    assert len(client.pin()) == length


def test_pins_differ(client):
    """Two sends make two PINs under two ids."""
    body = client.ready()
    body["messageId"] = client.template(body["applicationId"], pinLength=8)
    assert client.send_pin(body) != client.send_pin(body)
    assert len({message["pin"] for message in client.inbox()}) == 2


def test_placeholders_and_sender(client):
    """Placeholders are filled in as they are, one without a value stays, and `from` beats senderId."""
    body = client.ready()
    text = "{{who}}: {{pin}} for {{shop}} {{shop}}"
    body["messageId"] = client.template(body["applicationId"], messageText=text, senderId="Template")
    client.send_pin({**body, "placeholders": {"shop": "<b>{{pin}}</b>", "unused": "x"}})
    client.send_pin({**body, "from": "Request"})
    second, first = client.inbox()
    assert first["text"] == f"{{{{who}}}}: {first['pin']} for <b>{{{{pin}}}}</b> <b>{{{{pin}}}}</b>"
    assert (first["from"], second["from"]) == ("Template", "Request")


@pytest.mark.parametrize("placeholders", [{"pin": "1234"}, {"a": 5}, "x", ["x"]])
def test_bad_placeholders(client, problems_of, placeholders):
    """Placeholders are a map of strings that must not set the PIN."""
    answer = client.post("/2fa/2/pin", json={**client.ready(), "placeholders": placeholders})
    (field,) = problems_of(answer)
    assert field.startswith("placeholders")


def test_limit_per_number(client, error_of):
    """The send over sendPinPerPhoneNumberLimit is 429; another number, and later the same, are served."""
    body = client.ready(sendPinPerPhoneNumberLimit="2/1h")
    client.send_pin(body)
    client.advance(1800)
    client.send_pin(body)
    answer = client.post("/2fa/2/pin", json=body)
    assert error_of(answer) == (429, "TOO_MANY_REQUESTS", "Too many requests")
    assert "Retry-After" not in answer.headers
    client.send_pin({**body, "to": "447700900123"})
    client.advance(1801)
    client.send_pin(body)
    assert client.post("/2fa/2/pin", json=body).status_code == 429
    assert len(client.inbox(TO)) == 3


def test_limit_per_application(client, error_of):
    """The send over sendPinPerApplicationLimit is 429 for every number, and not for other applications."""
    body = client.ready(sendPinPerApplicationLimit="2/1d")
    client.send_pin(body)
    client.send_pin({**body, "to": "447700900123"})
    answer = client.post("/2fa/2/pin", json={**body, "to": "447700900124"})
    assert error_of(answer)[:2] == (429, "TOO_MANY_REQUESTS")
    client.send_pin({**client.ready(), "to": "447700900124"})


def test_limit_of_none(client):
    """A limit of 0 attempts refuses every send."""
    body = client.ready(sendPinPerPhoneNumberLimit="0/1d")
    assert client.post("/2fa/2/pin", json=body).status_code == 429


def test_options_of_refusals(client_with, error_of):
    """Ids of refusals and a Retry-After header are options."""
    options = {
        "not_found_message_id": "NOT_FOUND",
        "throttle_message_id": "THROTTLE_EXCEPTION",
        "retry_after": True,
        "accept_plus": False,
        "missing_placeholder": "reject",
        "skipped_nc_status": "null",
        "disabled_application_status": 403,
    }
    with client_with(**options) as client:
        body = client.ready(sendPinPerPhoneNumberLimit="1/1h")
        assert error_of(client.post("/2fa/2/pin", json={**body, "messageId": "x"}))[:2] == (404, "NOT_FOUND")
        assert client.post("/2fa/2/pin", json={**body, "to": f"+{TO}"}).status_code == 400
        named = client.template(body["applicationId"], messageText="{{who}} {{pin}}")
        assert client.post("/2fa/2/pin", json={**body, "messageId": named}).status_code == 400
        assert client.post("/2fa/2/pin?ncNeeded=false", json=body).json()["ncStatus"] is None
        answer = client.post("/2fa/2/pin", json=body)
        assert error_of(answer)[:2] == (429, "THROTTLE_EXCEPTION")
        assert 3590 <= int(answer.headers["Retry-After"]) <= 3600
        client.put(f"/2fa/2/applications/{body['applicationId']}", json={"name": "a", "enabled": False})
        assert client.post("/2fa/2/pin", json=body).status_code == 403


def test_resend_delivers_the_same_pin(client):
    """Resending gives the same PIN under the same id, with the statuses of a send."""
    body = client.ready()
    body["messageId"] = client.template(body["applicationId"], messageText="{{pin}} {{n}}")
    pin_id = client.send_pin({**body, "placeholders": {"n": "one"}})
    answer = client.post(
        f"/2fa/2/pin/{pin_id}/resend", json={"placeholders": {"n": "two"}, "trackDelivery": True}
    )
    assert answer.status_code == 200
    reply = answer.json()
    assert UUID(reply.pop("externalMessageId")).version == 4
    assert reply == {
        "pinId": pin_id,
        "to": TO,
        "ncStatus": "NC_DESTINATION_REACHABLE",
        "smsStatus": "MESSAGE_SENT",
    }
    second, first = client.inbox()
    assert second["pin"] == first["pin"]
    assert second["text"].endswith(" two")
    assert second["pinId"] == first["pinId"] == pin_id


def test_resend_needs_no_body(client):
    """The body of a resend may be empty."""
    pin_id = client.send_pin(client.ready())
    assert client.post(f"/2fa/2/pin/{pin_id}/resend").status_code == 200


def test_resend_counts_and_keeps_the_ttl(client, error_of):
    """A resend counts as a send and does not restart the time to live; an expired PIN is 404."""
    body = client.ready(sendPinPerPhoneNumberLimit="2/1d", pinTimeToLive="10m")
    resend = f"/2fa/2/pin/{client.send_pin(body)}/resend"
    client.advance(300)
    assert client.post(resend).status_code == 200
    assert client.post(resend).status_code == 429
    client.advance(301)
    assert error_of(client.post(resend)) == (404, "NOT_FOUND", "Not found")
    assert len(client.inbox()) == 2


def test_resend_of_an_unknown_pin(client, error_of):
    """An unknown pinId is 404."""
    assert error_of(client.post("/2fa/2/pin/nope/resend")) == (404, "NOT_FOUND", "Not found")


def test_resend_options(client_with):
    """Resending can move the PIN to a new id, restart its life and give the attempts back."""
    options = {
        "resend_new_pin_id": True,
        "resend_restarts_ttl": True,
        "resend_resets_attempts": True,
        "resend_counts": False,
        "resend_expired": "send",
    }
    with client_with(**options) as client:
        body = client.ready(sendPinPerPhoneNumberLimit="1/1d", pinTimeToLive="10m", pinAttempts=1)
        old = client.send_pin(body)
        client.check(old, client.wrong_pin())
        client.advance(601)
        new = client.post(f"/2fa/2/pin/{old}/resend").json()["pinId"]
        assert new != old
        assert client.check(old, client.pin()).status_code == 404
        assert client.check(new, client.pin()).json()["verified"] is True
