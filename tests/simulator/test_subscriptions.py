import base64
import copy

import pytest

TO = "41793026727"
PATH = "/subscriptions/1/subscription/SMS"


def subscription(url, **changes):
    """Return the body of a subscription with BASIC credentials."""
    body = {
        "subscriptionId": "otp-receipts",
        "name": "OTP receipts",
        "events": ["DELIVERY"],
        "profile": {
            "profileId": "otp-profile",
            "webhook": {"notifyUrl": url, "contentType": "application/json"},
            "security": {
                "authId": "otp-auth",
                "type": "BASIC",
                "credentials": {"username": "ann", "password": "se:cret"},
            },
        },
    }
    return {**body, **changes}


def test_create_answers_201_with_ids(client):
    """Creating is 201 with the location and the ids of subscription, profile and security settings."""
    answer = client.post(PATH, json=subscription("https://example.com/receipts"))
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"{PATH}/otp-receipts"
    assert answer.json() == {
        "subscriptionId": "otp-receipts",
        "profile": {"profileId": "otp-profile", "security": {"authId": "otp-auth"}},
    }


def test_list_and_get(client):
    """The list is a page of the channel's subscriptions, newest first; secrets are not shown."""
    client.post(PATH, json=subscription("https://example.com/a", criteria=[{"entityId": "e"}]))
    reused = {"subscriptionId": "second", "profile": {"profileId": "otp-profile"}}
    assert client.post(PATH, json=subscription("", **reused)).status_code == 201
    page = client.get(PATH).json()
    assert page["paging"] == {"page": 0, "size": 20, "totalPages": 1, "totalResults": 2}
    assert [entry["subscriptionId"] for entry in page["results"]] == ["second", "otp-receipts"]
    assert page["results"][1] == {
        "subscriptionId": "otp-receipts",
        "name": "OTP receipts",
        "events": ["DELIVERY"],
        "criteria": [{"entityId": "e"}],
        "profile": {"profileId": "otp-profile", "security": {"authId": "otp-auth"}},
    }
    assert client.get(f"{PATH}/second").json() == page["results"][0]
    assert client.get(f"{PATH}?page=1&size=1").json()["results"] == page["results"][1:]
    assert client.get("/subscriptions/1/subscription/VOICE_VIDEO").json()["results"] == []
    profile = client.get("/subscriptions/1/profiles/otp-profile").json()
    assert profile["webhook"]["notifyUrl"] == "https://example.com/a"
    assert "cret" not in str(profile)


def test_unknown_ids_are_404(client, error_of):
    """Unknown subscriptions and profiles are 404 in the old envelope."""
    for path in (f"{PATH}/nope", "/subscriptions/1/profiles/nope", "/subscriptions/1/nope"):
        assert error_of(client.get(path)) == (404, "NOT_FOUND", "Not found")


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("subscriptionId",), None, "subscriptionId"),
        (("subscriptionId",), "a/b", "subscriptionId"),
        (("events",), None, "events"),
        (("events",), [], "events"),
        (("profile",), None, "profile"),
        (("profile", "profileId"), "", "profile.profileId"),
        (("profile", "webhook"), None, "profile.webhook"),
        (("profile", "webhook", "notifyUrl"), "ftp://x", "profile.webhook.notifyUrl"),
        (("profile", "webhook", "notifyUrl"), "https://x/" + "y" * 512, "profile.webhook.notifyUrl"),
        (("profile", "security", "authId"), None, "profile.security.authId"),
        (("profile", "security", "type"), "DIGEST", "profile.security.type"),
        (("profile", "security", "credentials"), {"username": "ann"}, "profile.security"),
        (("profile", "maxBucketSize"), 2001, "profile.maxBucketSize"),
        (("profile", "headers"), {"A": "x\r\ny"}, "profile.headers.A"),
    ],
)
def test_bad_subscriptions_are_400(client, problems_of, path, value, field):
    """What is missing or out of bounds is 400, naming the field."""
    body = copy.deepcopy(subscription("https://example.com"))
    inner = body
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    assert set(problems_of(client.post(PATH, json=body))) == {field}
    assert client.get(PATH).json()["results"] == []


def test_ids_are_taken_once(client, problems_of):
    """A subscription id, and a profile given in full, can be created only once."""
    body = subscription("https://example.com")
    client.post(PATH, json=body)
    assert set(problems_of(client.post(PATH, json=body))) == {"subscriptionId"}
    again = client.post(PATH, json={**body, "subscriptionId": "other"})
    assert set(problems_of(again)) == {"profile.profileId"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_channels(client, problems_of, method):
    """There is no channel 2FA."""
    path = "/subscriptions/1/subscription/2FA"
    assert set(problems_of(client.request(method, path, json=subscription("https://x")))) == {"channel"}


def test_reports_go_to_subscribers(client, hook):
    """A subscription for DELIVERY gets the reports of its channel, with its credentials and headers."""
    body = subscription(hook.url)
    body["profile"]["headers"] = {"X-Secret": "s"}
    body["profile"]["maxBucketSize"] = 1
    client.post(PATH, json=body)
    send = client.ready()
    client.post("/2fa/2/pin/voice", json={**send, "trackDelivery": True})
    message_id = client.tracked(send)
    client.advance(2)
    reports = hook.wait(3)
    assert {report["messageId"] for report in reports} == {message_id}
    assert {len(push.reports) for push in hook.pushes} == {1}
    expected = "Basic " + base64.b64encode(b"ann:se:cret").decode()
    assert {push.headers["authorization"] for push in hook.pushes} == {expected}
    assert {push.headers["x-secret"] for push in hook.pushes} == {"s"}


def test_what_subscriptions_do_not_want(client, hook):
    """Other events, other senders and credentials other than BASIC are respected."""
    url = "/subscriptions/1/subscription/VOICE_VIDEO"
    body = subscription(hook.url, events=["CLICK"])
    client.post(PATH, json=body)
    wanted = subscription(hook.url, subscriptionId="b", resources=["Shop"], events=[
        {"event": "DELIVERY", "format": "V3"}
    ])  # fmt: skip
    wanted["profile"] = {
        "profileId": "p2",
        "webhook": {"notifyUrl": hook.url},
        "security": {"authId": "a2", "type": "HMAC", "credentials": {"secretKey": "x"}},
    }
    client.post(url, json=wanted)
    send = {**client.ready(), "trackDelivery": True}
    client.post("/2fa/2/pin/voice", json=send)
    client.post("/2fa/2/pin", json={**send, "from": "Shop"})
    reply = client.post("/2fa/2/pin/voice", json={**send, "from": "Shop"}).json()
    client.advance(2)
    reports = hook.wait(2)
    assert {report["messageId"] for report in reports} == {reply["externalMessageId"]}
    assert "authorization" not in hook.pushes[0].headers
