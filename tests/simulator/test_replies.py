import pytest

TO = "41793026727"
PATH = "/2fa/2/applications"


def refused(client):
    """Return a refusal with validationErrors, one without a key, and one of an unknown path."""
    return (
        client.post(PATH, json={}),
        client.get(PATH, headers={"Authorization": "App no"}),
        client.get("/2fa/2/nope"),
    )


def test_new_envelope(client_with):
    """Errors can have the newer envelope everywhere."""
    with client_with(error_format="new") as client:
        bad, stranger, unknown = refused(client)
        assert [answer.status_code for answer in (bad, stranger, unknown)] == [400, 401, 404]
        codes = [answer.json()["errorCode"] for answer in (bad, stranger, unknown)]
        assert codes == ["E400", "E401", "E404"]
        assert bad.json()["violations"] == [{"property": "name", "violation": "must not be null"}]
        wrong_method = client.delete(PATH)
        assert (wrong_method.status_code, wrong_method.json()["errorCode"]) == (405, "E405")


def test_new_envelope_for_the_platform_only(client_with, error_of):
    """Errors the platform would answer can have the newer envelope, the others the old one."""
    with client_with(error_format="platform") as client:
        bad, stranger, unknown = refused(client)
        assert stranger.json()["errorCode"] == "E401"
        assert error_of(bad)[0] == 400
        assert error_of(unknown)[0] == 404
        body = client.ready(sendPinPerPhoneNumberLimit="0/1d")
        assert client.post("/2fa/2/pin", json=body).json()["errorCode"] == "E429"


@pytest.mark.parametrize(("error_format", "words"), [("html", "<html>"), ("empty", "")])
def test_errors_without_json(client_with, error_format, words):
    """Errors can be pages, or have no body."""
    with client_with(error_format=error_format) as client:
        for answer, status in zip(refused(client), (400, 401, 404), strict=True):
            assert answer.status_code == status
            assert answer.text.startswith(words)
            assert words or not answer.text
        assert client.get(PATH).json() == []


def test_own_paths_keep_their_errors(client_with):
    """The simulator's own errors stay as they are."""
    with client_with(error_format="html") as client:
        assert client.get("/_simulator/messages?to=x").json()["error"]


@pytest.mark.parametrize("how", ["omit", "null"])
def test_optional_fields_away(client_with, how):
    """Replies can leave out, or null, what their schema makes optional; ids and statuses stay."""
    with client_with(optional_fields=how) as client:
        body = client.ready()
        reply = client.post("/2fa/2/pin", json=body).json()
        assert reply.get("to") is reply.get("ncStatus") is None
        assert ("to" in reply) is (how == "null")
        assert (reply["smsStatus"], len(reply["pinId"])) == ("MESSAGE_SENT", 32)
        wrong = client.check(reply["pinId"], client.wrong_pin()).json()
        assert (wrong["verified"], wrong["pinError"]) == (False, "WRONG_PIN")
        assert wrong.get("attemptsRemaining") is wrong.get("msisdn") is None
        application = client.get(f"{PATH}/{body['applicationId']}").json()
        assert (application["name"], application.get("configuration")) == ("shop", None)
        path = f"{PATH}/{body['applicationId']}/verifications?msisdn={TO}"
        (record,) = client.get(path).json()["verifications"]
        assert record["verified"] is False
        assert "sentAt" in record
        assert record.get("verifiedAt") is None


def test_extra_fields(client_with):
    """Replies can hold fields that no document knows, at every depth, in lists and errors too."""
    with client_with(extra_fields=True) as client:
        body = client.ready()
        (application,) = client.get(PATH).json()
        assert "unknownField" in application
        assert "unknownField" in application["configuration"]
        reply = client.post("/2fa/2/pin", json=body).json()
        assert "unknownField" in reply
        assert client.check(reply["pinId"], client.pin()).json()["verified"] is True
        assert "unknownField" in client.get(f"{PATH}/nope").json()["requestError"]


def test_other_statuses_of_refusals(client_with, error_of):
    """Unknown templates and reached limits can be 400."""
    with client_with(not_found_status=400, throttle_status=400) as client:
        body = client.ready(sendPinPerPhoneNumberLimit="0/1d")
        unknown = client.post("/2fa/2/pin", json={**body, "messageId": "x"})
        assert error_of(unknown)[:2] == (400, "RESOURCE_NOT_FOUND")
        assert error_of(client.post("/2fa/2/pin", json=body)) == (
            400,
            "TOO_MANY_REQUESTS",
            "Too many requests",
        )


def test_published_throttles_are_off_by_default(client):
    """Provisioning in a loop is not throttled unless asked for."""
    for _ in range(60):
        assert client.get(PATH).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "limit"),
    [
        ("GET", PATH, 50),
        ("POST", PATH, 20),
        ("GET", f"{PATH}/a", 100),
        ("PUT", f"{PATH}/a", 40),
        ("POST", f"{PATH}/a/email/messages", 20),
        ("PUT", f"{PATH}/a/email/messages/b", 40),
        ("GET", f"{PATH}/a/messages", None),
        ("POST", f"{PATH}/a/messages", None),
        ("POST", "/2fa/2/pin", None),
    ],
)
def test_published_throttles(client_with, error_of, method, path, limit):
    """Over the published number of requests in ten minutes an operation is 429, until the time is over."""
    with client_with(config_throttles=True) as client:
        statuses = [client.request(method, path, json={}).status_code for _ in range(limit or 101)]
        assert 429 not in statuses
        over = client.request(method, path, json={})
        if limit is None:
            assert over.status_code != 429
            return
        assert error_of(over) == (429, "TOO_MANY_REQUESTS", "Too many requests")
        client.advance(601)
        assert client.request(method, path, json={}).status_code != 429
