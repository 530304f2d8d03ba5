"""NUL, surrogates, broken UTF-8 and endless values in every field of every call that the API documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Caller
from tests.conftest import NO_LIMITS
from tests.console.test_bad_input import VALUES

ID = "00000000-0000-7000-8000-000000000000"
METHODS = {"get", "post", "delete", "put", "patch"}

# As they stand in JSON, quotes included.
TEXTS = {
    "nul": r'"\u0000"',
    "nul within": r'"+44791112\u00003456"',
    "half of a pair": r'"\ud800"',
    "the other half": r'"\udc00x"',
    "a pair the wrong way round": r'"\udc00\ud800"',
    "a whole pair": r'"\ud83d\ude00"',
    "escape": r'"\u001b[2J"',
    "noncharacter": r'"\uffff"',
    "direction": r'"\u202e\u2066"',
    "line separator": r'"\u2028"',
    "huge": '"' + "x" * 15_000 + '"',
    "many digits": '"' + "9" * 15_000 + '"',
    "huge number": "9" * 400,
    "far exponent": "1e300",
    "end of time": '"9999-12-31T23:59:59-12:00"',
    "begin of time": '"0001-01-01T00:00:00+14:00"',
}


@pytest.fixture(scope="module")
def module_settings(module_settings: dict[str, str]) -> dict[str, str]:
    """Return settings under which one caller may ask as often as these tests do."""
    return module_settings | NO_LIMITS


@pytest.fixture
def operator(caller: Caller) -> Caller:
    """Return a caller who may make every call."""
    caller.key = caller.new_key("send", "verify", "admin")
    return caller


def operations(caller: Caller) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield method, path and description of every call; paths leave ids open."""
    document = caller.get("/openapi.json").json
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            if method in METHODS:
                yield method.upper(), path, described | {"all": methods.get("parameters", [])}


def filled(path: str, value: str) -> str:
    """Return a path with a value in place of what it leaves open."""
    return "/".join(value if part.startswith("{") else part for part in path.split("/"))


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that may be named elsewhere in the document."""
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def test_every_parameter_of_every_query(operator: Caller) -> None:
    """A query that cannot be is a refusal, or finds nothing."""
    document, tried = operator.get("/openapi.json").json, 0
    for method, path, described in operations(operator):
        parameters = (
            resolved(document, one) for one in (*described.get("parameters", []), *described["all"])
        )
        for name in [one["name"] for one in parameters if one["in"] == "query"]:
            for kind, value in VALUES.items():
                answer = operator.call(method, filled(path, ID), query_string=f"{name}={value}")
                tried += 1

                assert answer.status_code < 500, (method, path, name, kind, answer.text[:300])
    assert tried > 100


def test_every_part_of_every_path(operator: Caller) -> None:
    """An id that is none is a refusal."""
    for method, path, _ in operations(operator):
        if "{" not in path:
            continue
        for kind, value in VALUES.items():
            answer = operator._client.simulate_request(
                method, filled(path, value), headers={"Authorization": f"Bearer {operator.key}"}
            )

            assert answer.status_code < 500, (method, path, kind, answer.text[:300])


def test_every_field_of_every_body(operator: Caller) -> None:
    """A value that no field can have is a refusal, whatever the other fields are."""
    document, tried = operator.get("/openapi.json").json, 0
    right = {
        "phone_number": operator.number,
        "phoneNumber": operator.number,
        "code": "123456",
        "otp": "123456",
    }
    for method, path, described in operations(operator):
        content = resolved(document, described.get("requestBody", {})).get("content", {})
        if "application/json" not in content:
            continue
        fields = resolved(document, content["application/json"]["schema"]).get("properties", {})
        for name in fields:
            for kind, literal in TEXTS.items():
                others = {one: text for one, text in right.items() if one in fields and one != name}
                body = f"{json.dumps(others)[:-1]}{', ' if others else ''}{json.dumps(name)}: {literal}}}"
                answer = operator.call(
                    method, filled(path, ID), body=body, headers={"Content-Type": "application/json"}
                )
                tried += 1

                assert answer.status_code < 500, (method, path, name, kind, answer.text[:300])
    assert tried > 200


@pytest.mark.parametrize(
    "name", ["Idempotency-Key", "X-Request-Id", "Authorization", "Accept", "Cookie", "traceparent"]
)
def test_headers(operator: Caller, name: str) -> None:
    """A header of nonsense is a refusal, or is passed over."""
    for value in (
        "\x7f",
        "é",
        "x" * 9000,
        "Bearer " + "y" * 9000,
        "%00",
        '"',
        "=;=;",
        "Bearer oq_\x00",
        "Basic =",
    ):
        answer = operator._client.simulate_request(
            "POST",
            "/v1/otp-requests",
            body=json.dumps({"phone_number": operator.number}),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {operator.key}",
                name: value,
            },
        )

        assert answer.status_code < 500, (name, value[:20], answer.text[:300])
