import base64

import pytest
import requests


def basic(credentials: str) -> str:
    """Return the header of Basic authorization."""
    return "Basic " + base64.b64encode(credentials.encode()).decode()


@pytest.mark.parametrize("header", ["App test-key", basic("ann:se:cret")])
def test_known_credentials_are_accepted(client, header):
    """A known API key behind App, and a configured user behind Basic, are accepted."""
    assert client.get("/2fa/2/applications", headers={"Authorization": header}).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Bearer test-key",
        "App wrong",
        "App",
        "App ",
        "APP test-key",
        "test-key",
        "App test-key extra",
        "IBSSO test-key",
        basic("ann:wrong"),
        basic("ann"),
        "Basic !!!",
        "Basic /w==",
        "Basic",
    ],
)
def test_anything_else_is_401(client, error_of, header):
    """Every other header, an API key behind Bearer among them, is 401 in the old envelope."""
    answer = client.get("/2fa/2/applications", headers={"Authorization": header})
    assert error_of(answer) == (401, "UNAUTHORIZED", "Invalid login details")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/2fa/2/applications"),
        ("POST", "/2fa/2/applications"),
        ("POST", "/2fa/2/pin"),
        ("POST", "/2fa/2/pin/x/verify"),
        ("POST", "/2fa/2/pin/x/resend"),
        ("GET", "/2fa/2/no/such/path"),
        ("GET", "/2fa"),
    ],
)
def test_every_api_path_needs_authorization(simulator, error_of, method, path):
    """Without a header every path under /2fa is 401, also one that does not exist."""
    answer = requests.request(method, simulator.url + path, timeout=5)
    assert error_of(answer)[:2] == (401, "UNAUTHORIZED")


@pytest.mark.parametrize("path", ["/", "/_simulator/messages", "/_simulator/faults", "/_simulator/stats"])
def test_control_paths_are_open(simulator, path):
    """The simulator's own pages ask for no authorization."""
    assert requests.get(simulator.url + path, timeout=5).status_code == 200


def test_text_of_401_is_an_option(client_with, error_of):
    """The text of 401 can be the one of the OpenAPI document."""
    with client_with(unauthorized_text="Unauthorized") as client:
        answer = client.get("/2fa/2/applications", headers={"Authorization": "App no"})
        assert error_of(answer) == (401, "UNAUTHORIZED", "Unauthorized")


def bearer(token):
    """Return headers with an access token."""
    return {"Authorization": f"Bearer {token}"}


TOKEN_FORM = {"client_id": "shop", "client_secret": "s3", "grant_type": "client_credentials"}


@pytest.fixture(scope="module")
def access():
    """Return the options of a simulator with all kinds of credentials."""
    return {
        "basic_users": ("ann:se:cret",),
        "oauth_clients": ("shop:s3",),
        "scoped_keys": ("sender=2fa:pin:send", "manager=2fa:manage, subscriptions:manage", "none="),
    }


def test_session(client_with, access, error_of):
    """A session's token is accepted behind IBSSO until it was not used for an hour."""
    with client_with(**access) as client:
        answer = client.post("/auth/1/session", json={"username": "ann", "password": "se:cret"})
        assert answer.status_code == 200
        headers = {"Authorization": f"IBSSO {answer.json()['token']}"}
        for wait_s in (0, 3500, 3500):
            client.advance(wait_s)
            assert client.get("/2fa/2/applications", headers=headers).status_code == 200
        client.advance(3600)
        for _ in range(2):
            answer = client.get("/2fa/2/applications", headers=headers)
            assert error_of(answer)[:2] == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("body", "status"),
    [({"username": "ann", "password": "no"}, 401), ({"username": "ann"}, 400), ({}, 400)],
)
def test_refused_sessions(client_with, access, body, status):
    """A wrong password is 401, a missing one 400; no key is needed to ask."""
    with client_with(**access) as client:
        del client.headers["Authorization"]
        assert client.post("/auth/1/session", json=body).status_code == status


def test_oauth_token(client_with, access, error_of):
    """An access token is accepted behind Bearer until it expires; the API key behind Bearer never is."""
    with client_with(**access) as client:
        answer = client.post("/auth/1/oauth2/token", data=TOKEN_FORM)
        assert answer.status_code == 200
        token = answer.json()
        assert (token["expires_in"], token["token_type"]) == (3600, "Bearer")
        headers = bearer(token["access_token"])
        client.advance(3590)
        assert client.get("/2fa/2/applications", headers=headers).status_code == 200
        client.advance(11)
        for refused in (headers, bearer("test-key"), bearer("")):
            answer = client.get("/2fa/2/applications", headers=refused)
            assert error_of(answer)[:2] == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"client_secret": "no"}, 401),
        ({"client_id": "other"}, 401),
        ({"grant_type": "password"}, 400),
        ({"client_id": None}, 400),
        ({"client_secret": ""}, 400),
    ],
)
def test_refused_tokens(client_with, access, changes, status):
    """A wrong secret is 401; a missing field and another grant are 400."""
    with client_with(**access) as client:
        assert client.post("/auth/1/oauth2/token", data={**TOKEN_FORM, **changes}).status_code == status


def test_token_form_is_no_json(client_with, access, error_of):
    """The token endpoint takes a form, and no JSON."""
    with client_with(**access) as client:
        assert error_of(client.post("/auth/1/oauth2/token", json=TOKEN_FORM))[:2] == (400, "BAD_REQUEST")
        broken = client.post(
            "/auth/1/oauth2/token",
            data=b"client_id=\xff",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert broken.status_code == 400


@pytest.mark.parametrize(
    ("key", "method", "path", "allowed"),
    [
        ("sender", "GET", "/2fa/2/applications", False),
        ("sender", "POST", "/2fa/2/applications/x/messages", False),
        ("sender", "POST", "/2fa/2/applications/x/email/messages", False),
        ("sender", "GET", "/2fa/2/applications/x/verifications", True),
        ("sender", "POST", "/2fa/2/pin", True),
        ("sender", "POST", "/2fa/2/pin/x/verify", True),
        ("sender", "POST", "/2fa/2/pin/x/resend/email", True),
        ("sender", "GET", "/subscriptions/1/subscription/SMS", False),
        ("sender", "GET", "/sms/3/reports", False),
        ("manager", "GET", "/2fa/2/applications", True),
        ("manager", "POST", "/2fa/2/pin/voice", True),
        ("manager", "POST", "/2fa/2/pin/x/resend/voice", True),
        ("manager", "POST", "/2fa/2/pin/x/resend/email", False),
        ("manager", "GET", "/subscriptions/1/subscription/SMS", True),
        ("none", "POST", "/2fa/2/pin", False),
    ],
)
def test_scopes(client_with, access, key, method, path, allowed):
    """A key with scopes is refused with 403 beyond them."""
    with client_with(**access) as client:
        answer = client.request(method, path, headers={"Authorization": f"App {key}"})
        assert (answer.status_code != 403) is allowed
        assert answer.status_code != 401


@pytest.mark.parametrize(
    ("message_id", "text"), [("FORBIDDEN", "Forbidden"), ("UNAUTHORIZED", "Unauthorized access")]
)
def test_words_of_403(client_with, access, error_of, message_id, text):
    """403 says FORBIDDEN, or as some fixtures do UNAUTHORIZED."""
    with client_with(**access, forbidden_message_id=message_id) as client:
        answer = client.get("/2fa/2/applications", headers={"Authorization": "App sender"})
        assert error_of(answer) == (403, message_id, text)
