import re

import pytest

TO = "41793026727"
MAIL = "ann@example.com"
NOT_THERE = (404, "RESOURCE_NOT_FOUND", "Application or message with given ID cannot be found.")
EMAIL_STATUS = {"name": "PENDING_ACCEPTED", "description": "Message accepted, pending for delivery."}


def email_template(client, application_id, **fields):
    """Create a template of e-mail and return the answer."""
    path = f"/2fa/2/applications/{application_id}/email/messages"
    return client.post(path, json={"emailTemplateId": 20_000_000_000, **fields})


def mail(client, **configuration):
    """Create an application and a template of e-mail, and return the body of a send."""
    application_id = client.ready(**configuration)["applicationId"]
    message_id = email_template(client, application_id).json()["messageId"]
    return {"applicationId": application_id, "messageId": message_id, "to": MAIL}


def test_voice_speaks_the_pin(client):
    """A voice send answers callStatus, speaks the digits apart, and its PIN verifies like any."""
    answer = client.post("/2fa/2/pin/voice", json=client.ready())
    assert answer.status_code == 200
    reply = answer.json()
    pin_id = reply.pop("pinId")
    assert re.fullmatch("[0-9A-F]{32}", pin_id)
    assert reply == {"to": TO, "callStatus": "PENDING_ACCEPTED"}
    (message,) = client.inbox(TO)
    assert message["channel"] == "VOICE"
    assert message["text"] == f"Your code is {' '.join(message['pin'])}"
    assert client.check(pin_id, message["pin"]).json()["verified"] is True


def test_voice_may_be_tracked(client):
    """With trackDelivery a voice send has an externalMessageId."""
    reply = client.post("/2fa/2/pin/voice", json={**client.ready(), "trackDelivery": True}).json()
    assert reply["externalMessageId"] == client.inbox()[0]["externalMessageId"]


def test_resending_by_another_way(client):
    """An SMS's PIN can be spoken, and a call's be sent by SMS: the same PIN, the same id."""
    body = client.ready()
    pin_id = client.send_pin(body)
    spoken = client.post(f"/2fa/2/pin/{pin_id}/resend/voice")
    assert spoken.json() == {"pinId": pin_id, "to": TO, "callStatus": "PENDING_ACCEPTED"}
    second, first = client.inbox()
    assert (first["channel"], second["channel"]) == ("SMS", "VOICE")
    assert first["pin"] == second["pin"]
    called = client.post("/2fa/2/pin/voice", json=body).json()["pinId"]
    assert client.post(f"/2fa/2/pin/{called}/resend").json()["smsStatus"] == "MESSAGE_SENT"


def test_channels_share_the_limits(client):
    """Sends by SMS and voice count together."""
    body = client.ready(sendPinPerPhoneNumberLimit="2/1d")
    pin_id = client.send_pin(body)
    assert client.post("/2fa/2/pin/voice", json=body).status_code == 200
    assert client.post(f"/2fa/2/pin/{pin_id}/resend/voice").status_code == 429


def test_email_template(client):
    """A template of e-mail has defaults of its own, and is listed and read with the others."""
    application_id = client.application()
    sms = client.template(application_id)
    answer = email_template(client, application_id, landingPageId="1_23456", **{"from": f"Shop <{MAIL}>"})
    assert answer.status_code == 200
    created = answer.json()
    path = f"/2fa/2/applications/{application_id}"
    assert created == {
        "messageId": created["messageId"],
        "applicationId": application_id,
        "pinLength": 4,
        "pinType": "NUMERIC",
        "from": f"Shop <{MAIL}>",
        "emailTemplateId": 20_000_000_000,
        "landingPageId": "1_23456",
    }
    assert [template["messageId"] for template in client.get(f"{path}/messages").json()] == [
        sms,
        created["messageId"],
    ]
    assert client.get(f"{path}/messages/{created['messageId']}").json() == created
    updated = client.put(f"{path}/email/messages/{created['messageId']}", json={"pinLength": 6})
    assert updated.status_code == 200
    assert updated.json() == {**created, "pinLength": 6}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("emailTemplateId", None),
        ("emailTemplateId", "1"),
        ("emailTemplateId", 2**63),
        ("from", "nobody"),
        ("from", "Name <nobody>"),
        ("pinLength", 9),
        ("pinType", "WORDS"),
    ],
)
def test_bad_email_templates(client, problems_of, field, value):
    """Create and update refuse bad values, naming the field."""
    application_id = client.application()
    answer = email_template(client, application_id, **{field: value})
    assert set(problems_of(answer)) == {field}
    good = email_template(client, application_id).json()["messageId"]
    path = f"/2fa/2/applications/{application_id}/email/messages/{good}"
    if value is not None:
        assert set(problems_of(client.put(path, json={field: value}))) == {field}


def test_each_template_has_its_own_path_for_updates(client, error_of):
    """An SMS template is not found among those of e-mail, nor the reverse, nor anything unknown."""
    application_id = client.application()
    sms = client.template(application_id)
    mailed = email_template(client, application_id).json()["messageId"]
    path = f"/2fa/2/applications/{application_id}"
    for answer in (
        client.put(f"{path}/email/messages/{sms}", json={}),
        client.put(f"{path}/messages/{mailed}", json={}),
        client.put(f"{path}/email/messages/nope", json={}),
        email_template(client, "nope"),
    ):
        assert error_of(answer) == (404, "NOT_FOUND", "Not found")


def test_email_send(client):
    """An e-mail send answers emailStatus; the inbox shows all its values, and the PIN verifies."""
    body = mail(client)
    answer = client.post(
        "/2fa/2/pin/email",
        json={
            **body,
            "from": "Shop <shop@example.com>",
            "placeholders": {"name": "Ann"},
            "landingPagePlaceholders": {"page": "out"},
            "trackDelivery": True,
        },
    )
    assert answer.status_code == 200
    reply = answer.json()
    pin_id = reply.pop("pinId")
    assert reply == {"to": MAIL, "emailStatus": EMAIL_STATUS}
    (message,) = client.inbox(MAIL)
    assert (message["channel"], message["from"]) == ("EMAIL", "Shop <shop@example.com>")
    assert message["externalMessageId"] is None
    for part in ("20000000000", message["pin"], "Ann", "out"):
        assert part in message["text"]
    verified = client.check(pin_id, message["pin"]).json()
    assert (verified["verified"], verified["msisdn"]) == (True, MAIL)
    path = f"/2fa/2/applications/{body['applicationId']}/verifications"
    (record,) = client.get(path, params={"msisdn": MAIL}).json()["verifications"]
    assert (record["msisdn"], record["verified"]) == (MAIL, True)


def test_email_resend(client):
    """The same PIN is sent again by e-mail; the body may be left out."""
    pin_id = client.post("/2fa/2/pin/email", json=mail(client)).json()["pinId"]
    answer = client.post(f"/2fa/2/pin/{pin_id}/resend/email")
    assert answer.json() == {"pinId": pin_id, "to": MAIL, "emailStatus": EMAIL_STATUS}
    second, first = client.inbox(MAIL)
    assert second["pin"] == first["pin"]


@pytest.mark.parametrize("to", ["", "ann", "ann@", "@example.com", "a b@example.com", TO, None, "ann@host"])
def test_bad_addresses(client, problems_of, to):
    """What is no e-mail address is 400, and nothing is sent."""
    answer = client.post("/2fa/2/pin/email", json={**mail(client), "to": to})
    assert set(problems_of(answer)) == {"to"}
    assert client.inbox() == []


@pytest.mark.parametrize("path", ["/2fa/2/pin", "/2fa/2/pin/voice"])
def test_email_templates_are_for_email_alone(client, error_of, path):
    """A template is unknown to a channel it does not serve."""
    assert error_of(client.post(path, json={**mail(client), "to": TO})) == NOT_THERE
    assert error_of(client.post("/2fa/2/pin/email", json={**client.ready(), "to": MAIL})) == NOT_THERE


def test_a_pin_does_not_move_between_number_and_address(client, error_of):
    """A PIN sent to a number cannot be resent by e-mail, nor the reverse."""
    by_sms = client.send_pin(client.ready())
    by_mail = client.post("/2fa/2/pin/email", json=mail(client)).json()["pinId"]
    for path in (f"{by_sms}/resend/email", f"{by_mail}/resend", f"{by_mail}/resend/voice"):
        assert error_of(client.post(f"/2fa/2/pin/{path}"))[:2] == (400, "BAD_REQUEST")


@pytest.mark.parametrize("suffix", ["voice", "email"])
def test_unknown_pins(client, error_of, suffix):
    """An unknown pinId is 404 on every way of resending."""
    assert error_of(client.post(f"/2fa/2/pin/nope/resend/{suffix}"))[:2] == (404, "NOT_FOUND")


def test_the_page_shows_all_channels(client):
    """The page knows each channel and the magic numbers."""
    page = client.get("/").text
    for word in ("SMS", "VOICE", "EMAIL", "/_simulator/magic-numbers"):
        assert word in page
