import pytest

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("data", "headers"),
    [
        (b"{", JSON),
        (b"", JSON),
        (b"", {}),
        (b"[]", JSON),
        (b'"x"', JSON),
        (b"null", JSON),
        (b"\xff{}", JSON),
        (b'{"name": NaN}', JSON),
        (b'{"name": "\\ud800", "to": "\\ud800", "pin": "\\ud800"}', JSON),
        (b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", JSON),
        (b'{"name": "' + b"x" * 1_000_000 + b'"}', JSON),
        (b'{"name": "x"}', {"Content-Type": "text/plain"}),
        (b'{"name": "x"}', {}),
        (b"name=x", {"Content-Type": "application/x-www-form-urlencoded"}),
    ],
)
@pytest.mark.parametrize("path", ["/2fa/2/applications", "/2fa/2/pin", "/2fa/2/pin/x/verify"])
def test_bodies_that_are_no_json_object(client, error_of, path, data, headers):
    """A body that is empty, too large, no JSON object or not called JSON is 400 in the old envelope."""
    answer = client.post(path, data=data, headers=headers)
    assert error_of(answer)[:2] == (400, "BAD_REQUEST")
    assert client.get("/2fa/2/applications").json() == []


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_content_types(client, content_type):
    """Parameters and case of the content type do not matter."""
    headers = {"Content-Type": content_type}
    answer = client.post("/2fa/2/applications", data=b'{"name": "x"}', headers=headers)
    assert answer.status_code == 201


@pytest.mark.parametrize(
    "path", ["/2fa/2/nope", "/2fa/1/pin", "/2fa", "/2fa/", "/2fa/2/pin/x", "/2fa/2/pin/x/status"]
)
def test_unknown_api_paths(client, error_of, path):
    """A path the API has not is 404 in the old envelope."""
    assert error_of(client.get(path)) == (404, "NOT_FOUND", "Not found")


@pytest.mark.parametrize("path", ["/nope", "/2fax", "/_simulator/nope"])
def test_other_unknown_paths(client, path):
    """Any other unknown path is 404 too."""
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/2fa/2/applications/x"), ("GET", "/2fa/2/pin"), ("PUT", "/2fa/2/pin")]
)
def test_wrong_method(client, error_of, method, path):
    """A method that a path has not is 405 in the old envelope."""
    assert error_of(client.request(method, path))[0] == 405
