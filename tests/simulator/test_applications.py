import re

import pytest

DEFAULTS = {
    "pinAttempts": 10,
    "allowMultiplePinVerifications": True,
    "pinTimeToLive": "15m",
    "verifyPinLimit": "1/3s",
    "sendPinPerApplicationLimit": "10000/1d",
    "sendPinPerPhoneNumberLimit": "3/1d",
}
PATH = "/2fa/2/applications"


def test_no_applications_is_an_empty_array(client):
    """The list is a bare JSON array."""
    assert client.get(PATH).json() == []


def test_create_fills_the_defaults(client):
    """Creating with a name alone is 201, with all six defaults, enabled, and an id of 32 hex digits."""
    answer = client.post(PATH, json={"name": "shop"})
    assert answer.status_code == 201
    created = answer.json()
    assert re.fullmatch("[0-9A-F]{32}", created.pop("applicationId"))
    assert created == {"name": "shop", "enabled": True, "configuration": DEFAULTS}


def test_list_and_get_show_what_was_created(client):
    """Applications are listed in order of creation and found by id."""
    created = [client.post(PATH, json={"name": name}).json() for name in ("a", "b")]
    assert client.get(PATH).json() == created
    assert client.get(f"{PATH}/{created[1]['applicationId']}").json() == created[1]


def test_update_merges(client):
    """An update keeps what its body leaves out."""
    body = {"name": "a", "enabled": False, "configuration": {"pinAttempts": 5, "pinTimeToLive": "2h"}}
    path = f"{PATH}/{client.post(PATH, json=body).json()['applicationId']}"
    answer = client.put(path, json={"name": "b", "configuration": {"pinAttempts": 3}})
    assert answer.status_code == 200
    assert answer.json()["name"] == "b"
    assert answer.json()["enabled"] is False
    assert answer.json()["configuration"] == {**DEFAULTS, "pinAttempts": 3, "pinTimeToLive": "2h"}
    assert client.get(path).json() == answer.json()


def test_update_can_replace(client_with):
    """With update_replaces an update resets what its body leaves out."""
    with client_with(update_replaces=True) as client:
        path = f"{PATH}/{client.application(pinAttempts=5)}"
        assert client.put(path, json={"name": "b"}).json()["configuration"] == DEFAULTS


def test_create_status_is_an_option(client_with):
    """With create_status=200 a created application is answered with 200."""
    with client_with(create_status=200) as client:
        assert client.post(PATH, json={"name": "a"}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_unknown_application_is_404(client, error_of, method):
    """An unknown id is 404 NOT_FOUND."""
    answer = client.request(method, f"{PATH}/nope", json={"name": "a"})
    assert error_of(answer) == (404, "NOT_FOUND", "Not found")


@pytest.mark.parametrize("body", [{}, {"name": None}, {"name": ""}, {"name": 5}])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_name_is_required(client, problems_of, method, body):
    """Create and update refuse a missing, null, empty or non-string name."""
    path = PATH if method == "POST" else f"{PATH}/{client.application()}"
    assert set(problems_of(client.request(method, path, json=body))) == {"name"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pinTimeToLive", "15m"),
        ("pinTimeToLive", "d"),
        ("pinTimeToLive", "500ms"),
        ("pinTimeToLive", "365d"),
        ("verifyPinLimit", "5/d"),
        ("verifyPinLimit", "30/10s"),
        ("verifyPinLimit", "1/24h"),
        ("sendPinPerApplicationLimit", "10/20m"),
        ("sendPinPerApplicationLimit", "10000/3d"),
        ("sendPinPerPhoneNumberLimit", "3/365d"),
        ("pinAttempts", 1),
    ],
)
def test_configuration_in_bounds(client, field, value):
    """Values of the documented grammars and bounds are accepted and shown as given."""
    application_id = client.application(**{field: value})
    assert client.get(f"{PATH}/{application_id}").json()["configuration"][field] == value


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pinTimeToLive", ""),
        ("pinTimeToLive", "15"),
        ("pinTimeToLive", "15 m"),
        ("pinTimeToLive", "15M"),
        ("pinTimeToLive", "-1m"),
        ("pinTimeToLive", "0m"),
        ("pinTimeToLive", "1.5h"),
        ("pinTimeToLive", "15m\n"),
        ("pinTimeToLive", "\u0661m"),
        ("pinTimeToLive", "366d"),
        ("pinTimeToLive", 900),
        ("verifyPinLimit", "3s"),
        ("verifyPinLimit", "/3s"),
        ("verifyPinLimit", "1/"),
        ("verifyPinLimit", "1/25h"),
        ("sendPinPerApplicationLimit", "1/366d"),
        ("sendPinPerPhoneNumberLimit", "x/1d"),
        ("pinAttempts", 0),
        ("pinAttempts", 2**31),
        ("pinAttempts", "3"),
        ("pinAttempts", True),
        ("allowMultiplePinVerifications", "true"),
    ],
)
def test_configuration_out_of_bounds(client, problems_of, field, value):
    """Anything else is 400, naming the field by its path."""
    answer = client.post(PATH, json={"name": "a", "configuration": {field: value}})
    assert set(problems_of(answer)) == {f"configuration.{field}"}


def test_refused_update_changes_nothing(client):
    """An update with a bad value leaves the application as it was."""
    path = f"{PATH}/{client.application()}"
    before = client.get(path).json()
    answer = client.put(path, json={"name": "new", "configuration": {"pinTimeToLive": "soon"}})
    assert answer.status_code == 400
    assert client.get(path).json() == before


def test_unknown_fields_are_ignored(client):
    """Unknown fields, and nulls for optional ones, are accepted and left out of the reply."""
    body = {"name": "a", "processId": 1, "enabled": None, "configuration": {"x": 1, "pinAttempts": None}}
    created = client.post(PATH, json=body).json()
    assert set(created) == {"applicationId", "name", "enabled", "configuration"}
    assert created["configuration"] == DEFAULTS
