import pytest

TO = "41793026727"


def refusal(pin_id, error, remaining):
    """Return the reply to a PIN that is not verified."""
    return {
        "pinId": pin_id,
        "msisdn": TO,
        "verified": False,
        "attemptsRemaining": remaining,
        "pinError": error,
    }


def test_right_pin(client):
    """The right PIN is verified, with no pinError and, as in the official sample, 0 attempts remaining."""
    pin_id = client.send_pin(client.ready())
    answer = client.check(pin_id, client.pin())
    assert answer.status_code == 200
    assert answer.json() == {"pinId": pin_id, "msisdn": TO, "verified": True, "attemptsRemaining": 0}


def test_wrong_pin_is_200(client):
    """A wrong PIN is HTTP 200 with verified false and one attempt less."""
    pin_id = client.send_pin(client.ready(pinAttempts=3))
    for remaining in (2, 1):
        answer = client.check(pin_id, client.wrong_pin())
        assert answer.status_code == 200
        assert answer.json() == refusal(pin_id, "WRONG_PIN", remaining)


def test_leading_zeros_count(client, simulator):
    """A PIN is a text: it must be given with its leading zeros."""
    pin_id = client.send_pin(client.ready())
    simulator.state.pins.get(pin_id).code = "001234"
    assert client.check(pin_id, "1234").json()["pinError"] == "WRONG_PIN"
    assert client.check(pin_id, "001234").json()["verified"] is True


def test_exhaustion(client):
    """The last wrong try says WRONG_PIN and 0; from then on even the right PIN is refused."""
    pin_id = client.send_pin(client.ready(pinAttempts=2))
    client.check(pin_id, client.wrong_pin())
    assert client.check(pin_id, client.wrong_pin()).json() == refusal(pin_id, "WRONG_PIN", 0)
    for _ in range(2):
        assert client.check(pin_id, client.pin()).json() == refusal(pin_id, "NO_MORE_PIN_ATTEMPTS", 0)


def test_expiry(client):
    """From the end of pinTimeToLive on the right PIN is refused, without losing an attempt."""
    pin_id = client.send_pin(client.ready(pinTimeToLive="5m", pinAttempts=4))
    client.advance(290)
    assert client.check(pin_id, client.pin()).json()["verified"] is True
    client.advance(10)
    for _ in range(2):
        assert client.check(pin_id, client.pin()).json() == refusal(pin_id, "TTL_EXPIRED", 3)


def test_exhaustion_comes_before_expiry(client):
    """An exhausted PIN stays exhausted when it has expired too."""
    pin_id = client.send_pin(client.ready(pinAttempts=1, pinTimeToLive="1m"))
    client.check(pin_id, client.wrong_pin())
    client.advance(61)
    assert client.check(pin_id, client.pin()).json()["pinError"] == "NO_MORE_PIN_ATTEMPTS"


def test_unknown_pin_id(client, error_of):
    """An unknown pinId is 404 NOT_FOUND."""
    assert error_of(client.check("nope", "1234")) == (404, "NOT_FOUND", "Not found")


@pytest.mark.parametrize("body", [{}, {"pin": ""}, {"pin": None}, {"pin": 1234}, {"pin": ["1"]}])
def test_bad_bodies(client, problems_of, body):
    """A missing, empty or non-string PIN is 400."""
    pin_id = client.send_pin(client.ready())
    assert set(problems_of(client.post(f"/2fa/2/pin/{pin_id}/verify", json=body))) == {"pin"}


def test_strange_pins_are_only_wrong(client):
    """Any text may be tried as a PIN."""
    pin_id = client.send_pin(client.ready())
    headers = {"Content-Type": "application/json"}
    for data in ('{"pin": "١٢٣٤"}'.encode(), b'{"pin": "\\u0000"}'):
        answer = client.post(f"/2fa/2/pin/{pin_id}/verify", data=data, headers=headers)
        assert answer.json()["pinError"] == "WRONG_PIN"


def test_verify_limit(client, error_of):
    """A verification over verifyPinLimit is 429, counts per number, and uses no attempt."""
    body = client.ready(verifyPinLimit="1/3s", pinAttempts=5)
    first, second = client.send_pin(body), client.send_pin(body)
    other = client.send_pin({**body, "to": "447700900123"})
    assert client.check(first, client.wrong_pin()).json()["attemptsRemaining"] == 4
    assert error_of(client.check(first, "x")) == (429, "TOO_MANY_REQUESTS", "Too many requests")
    assert client.check(second, "x").status_code == 429
    assert client.check(other, "x").status_code == 200
    client.advance(3.1)
    assert client.check(first, "x").json()["attemptsRemaining"] == 3


def test_unknown_comes_before_the_limit(client):
    """An unknown pinId is 404 even while its caller is throttled."""
    pin_id = client.send_pin(client.ready(verifyPinLimit="1/1d"))
    client.check(pin_id, "x")
    assert client.check(pin_id, "x").status_code == 429
    assert client.check("nope", "x").status_code == 404


def test_multiple_verifications_allowed(client):
    """By default the same PIN can be verified again, each time using an attempt."""
    pin_id = client.send_pin(client.ready(pinAttempts=3))
    for _ in range(3):
        assert client.check(pin_id, client.pin()).json()["verified"] is True
    assert client.check(pin_id, client.pin()).json()["pinError"] == "NO_MORE_PIN_ATTEMPTS"


def test_multiple_verifications_forbidden(client):
    """Without multiple verifications a verified PIN is exhausted."""
    pin_id = client.send_pin(client.ready(allowMultiplePinVerifications=False))
    assert client.check(pin_id, client.pin()).json()["verified"] is True
    assert client.check(pin_id, client.pin()).json() == refusal(pin_id, "NO_MORE_PIN_ATTEMPTS", 0)


def test_a_new_pin_leaves_the_old_valid(client):
    """A later send to the same number does not touch an earlier PIN."""
    body = client.ready()
    first = client.send_pin(body)
    code = client.pin()
    client.send_pin(body)
    assert client.check(first, code).json()["verified"] is True


def test_options_of_success(client_with):
    """A success can show NO_ERROR and the attempts left, and leave the attempts alone."""
    options = {
        "success_pin_error": "NO_ERROR",
        "success_attempts_remaining": "remaining",
        "success_uses_attempt": False,
    }
    with client_with(**options) as client:
        pin_id = client.send_pin(client.ready(pinAttempts=3))
        reply = client.check(pin_id, client.pin()).json()
        assert (reply["pinError"], reply["attemptsRemaining"]) == ("NO_ERROR", 3)


def test_options_of_refusal(client_with, error_of):
    """How exhaustion, second verification, throttling and forgetting look are options."""
    options = {
        "last_wrong_attempt": "NO_MORE_PIN_ATTEMPTS",
        "second_verification": "404",
        "throttled_verify_uses_attempt": True,
        "forget_expired_after_s": 60,
        "pin_not_found_message_id": "RESOURCE_NOT_FOUND",
        "new_pin_replaces_old": True,
    }
    with client_with(**options) as client:
        body = client.ready(
            pinAttempts=3, allowMultiplePinVerifications=False, verifyPinLimit="1/1s", pinTimeToLive="5m"
        )
        pin_id = client.send_pin(body)
        assert client.check(pin_id, "x").json()["attemptsRemaining"] == 2
        assert client.check(pin_id, "x").status_code == 429
        client.advance(2)
        assert client.check(pin_id, "x").json() == refusal(pin_id, "NO_MORE_PIN_ATTEMPTS", 0)
        newer = client.send_pin(body)
        client.advance(2)
        assert error_of(client.check(pin_id, "x"))[:2] == (404, "RESOURCE_NOT_FOUND")
        assert client.check(newer, client.pin()).json()["verified"] is True
        client.advance(2)
        assert client.check(newer, client.pin()).status_code == 404
        newest = client.send_pin(body)
        client.advance(310)
        assert client.check(newest, client.pin()).json()["pinError"] == "TTL_EXPIRED"
        client.advance(60)
        assert client.check(newest, client.pin()).status_code == 404


def test_oldest_pins_are_deleted(client_with):
    """Beyond pins_kept the oldest PIN becomes unknown."""
    with client_with(pins_kept=2) as client:
        body = client.ready()
        first, second, third = (client.send_pin(body) for _ in range(3))
        statuses = [client.check(pin_id, "x").status_code for pin_id in (first, second, third)]
        assert statuses == [404, 200, 200]


def test_verifications_lists_one_record_per_pin(client):
    """Verifications of a number are listed with times in milliseconds, 0 when never verified."""
    body = client.ready()
    path = f"/2fa/2/applications/{body['applicationId']}/verifications"
    client.send_pin(body)
    pin_id = client.send_pin(body)
    client.check(pin_id, client.pin())
    records = client.get(path, params={"msisdn": f"+{TO}"}).json()["verifications"]
    assert [(record["msisdn"], record["verified"]) for record in records] == [(TO, False), (TO, True)]
    assert records[0]["verifiedAt"] == 0
    assert records[1]["verifiedAt"] >= records[1]["sentAt"] > 10**12


@pytest.mark.parametrize(
    ("query", "count"),
    [("verified=true", 1), ("verified=false", 1), ("sent=true", 2), ("sent=false", 0)],
)
def test_verifications_filters(client, query, count):
    """Verifications can be narrowed by `verified` and `sent`."""
    body = client.ready()
    client.send_pin(body)
    client.check(client.send_pin(body), client.pin())
    path = f"/2fa/2/applications/{body['applicationId']}/verifications?msisdn={TO}&{query}"
    assert len(client.get(path).json()["verifications"]) == count


def test_verifications_refusals(client, problems_of):
    """The number is required, and an unknown application is 404."""
    path = f"/2fa/2/applications/{client.application()}/verifications"
    assert set(problems_of(client.get(path))) == {"msisdn"}
    assert set(problems_of(client.get(path, params={"msisdn": "x"}))) == {"msisdn"}
    assert set(problems_of(client.get(path, params={"msisdn": TO, "sent": "x"}))) == {"sent"}
    unknown = client.get("/2fa/2/applications/nope/verifications", params={"msisdn": TO})
    assert unknown.status_code == 404


def test_verification_times_in_seconds(client_with):
    """Times can be in seconds, as in the official sample."""
    with client_with(verification_times="s") as client:
        body = client.ready()
        client.send_pin(body)
        path = f"/2fa/2/applications/{body['applicationId']}/verifications?msisdn={TO}"
        assert client.get(path).json()["verifications"][0]["sentAt"] < 10**11
