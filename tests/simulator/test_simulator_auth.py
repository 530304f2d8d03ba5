import base64

import pytest
import requests


def basic(credentials: str) -> str:
    """Return the header of Basic authorization."""
    return "Basic " + base64.b64encode(credentials.encode()).decode()


@pytest.mark.parametrize("header", ["App test-key", basic("ann:se:cret")])
def test_known_credentials_are_let_in(client, header):
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
