import re

import pytest

GOOD = {"messageText": "Code {{pin}}", "pinType": "NUMERIC", "pinLength": 6}
FULL = {
    **GOOD,
    "language": "pt_br",
    "senderId": "Shop",
    "repeatDTMF": "1#",
    "speechRate": 1.5,
    "voiceName": "Joanna",
    "regional": {
        "indiaDlt": {"principalEntityId": "a" * 30, "contentTemplateId": "b", "teleMarketerId": "c" * 255}
    },
}


@pytest.fixture
def path(client):
    """Return the templates' path of a new application."""
    return f"/2fa/2/applications/{client.application()}/messages"


def test_create_answers_200_with_what_was_set(client, path):
    """Creating is 200 and shows ids, the placeholder and the fields that were set, no others."""
    answer = client.post(path, json=GOOD)
    assert answer.status_code == 200
    created = answer.json()
    assert re.fullmatch("[0-9A-F]{32}", created.pop("messageId"))
    assert created.pop("applicationId") in path
    assert created == {**GOOD, "pinPlaceholder": "{{pin}}"}


def test_every_field_is_kept(client, path):
    """All documented fields come back as they were given."""
    created = client.post(path, json=FULL).json()
    assert {name: created[name] for name in FULL} == FULL


def test_list_and_get(client, path):
    """List is a bare array of what get shows; both leave the placeholder out, as the samples do."""
    created = [client.post(path, json=GOOD).json() for _ in range(2)]
    listed = client.get(path).json()
    assert [template["messageId"] for template in listed] == [template["messageId"] for template in created]
    assert client.get(f"{path}/{listed[1]['messageId']}").json() == listed[1]
    assert "pinPlaceholder" not in listed[0]


def test_update_changes_the_given_fields(client, path):
    """An update may give any field alone, and leaves the others."""
    created = client.post(path, json=FULL).json()
    answer = client.put(f"{path}/{created['messageId']}", json={"messageText": "New {{pin}}", "x": 1})
    assert answer.status_code == 200
    assert answer.json() == {**created, "messageText": "New {{pin}}"}


def test_pin_length_has_a_default(client, path):
    """A template without pinLength gets 4."""
    body = {"messageText": "{{pin}}", "pinType": "HEX"}
    assert client.post(path, json=body).json()["pinLength"] == 4


def test_old_pin_placeholder_is_ignored(client, path):
    """A pinPlaceholder in the request, as old clients send it, changes nothing."""
    created = client.post(path, json={**GOOD, "pinPlaceholder": "<pin>"}).json()
    assert created["pinPlaceholder"] == "{{pin}}"


BAD = [
    ("messageText", "no placeholder"),
    ("messageText", "{{ pin }}"),
    ("messageText", None),
    ("messageText", 5),
    ("pinType", "numeric"),
    ("pinType", None),
    ("pinLength", 0),
    ("pinLength", 9),
    ("pinLength", "4"),
    ("pinLength", 4.5),
    ("language", "pt-br"),
    ("language", "xx"),
    ("speechRate", 0.4),
    ("speechRate", 2.1),
    ("senderId", 5),
    ("regional.indiaDlt", "x"),
]


@pytest.mark.parametrize(("field", "value"), BAD)
def test_create_refuses_bad_values(client, path, problems_of, field, value):
    """A bad value is 400, naming the field."""
    name, _, inner = field.partition(".")
    body = {**GOOD, name: {inner: value} if inner else value}
    assert set(problems_of(client.post(path, json=body))) == {field}


@pytest.mark.parametrize(("field", "value"), [pair for pair in BAD if "." not in pair[0] and pair[1]])
def test_update_refuses_bad_values(client, path, problems_of, field, value):
    """An update is validated as a creation is, and changes nothing when refused."""
    one = f"{path}/{client.post(path, json=GOOD).json()['messageId']}"
    before = client.get(one).json()
    assert set(problems_of(client.put(one, json={field: value}))) == {field}
    assert client.get(one).json() == before


@pytest.mark.parametrize(
    ("dlt", "field"),
    [
        ({}, "principalEntityId"),
        ({"principalEntityId": "x" * 31}, "principalEntityId"),
        ({"principalEntityId": "x", "contentTemplateId": "x" * 31}, "contentTemplateId"),
        ({"principalEntityId": "x", "teleMarketerId": "x" * 256}, "teleMarketerId"),
    ],
)
def test_india_dlt_bounds(client, path, problems_of, dlt, field):
    """Lengths of indiaDlt's fields are checked and its entity id is required."""
    answer = client.post(path, json={**GOOD, "regional": {"indiaDlt": dlt}})
    assert set(problems_of(answer)) == {f"regional.indiaDlt.{field}"}


def test_unknown_ids_are_404(client, path, error_of):
    """An unknown application or template is 404, also a template of another application."""
    message_id = client.post(path, json=GOOD).json()["messageId"]
    other = f"/2fa/2/applications/{client.application()}/messages/{message_id}"
    nowhere = "/2fa/2/applications/nope/messages"
    for answer in (
        client.get(nowhere),
        client.post(nowhere, json=GOOD),
        client.get(f"{path}/nope"),
        client.put(f"{path}/nope", json={}),
        client.get(other),
    ):
        assert error_of(answer) == (404, "NOT_FOUND", "Not found")
