"""The OpenAPI document is fit for generators: names, shared schemas, examples, webhooks, security."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from otpqueue.api import tags
from otpqueue.api.catalog import ENDPOINTS
from otpqueue.api.documentation.library import locate_documentation
from otpqueue.api.openapi import examples
from otpqueue.domain.webhooks import TEST, WebhookEvent
from tests.api import contract

Node = dict[str, Any]
OPERATIONS: dict[str, Node] = {
    call["operationId"]: call for calls in contract.document()["paths"].values() for call in calls.values()
}
WEBHOOKS: Node = contract.document()["webhooks"]
SCHEMAS: Node = contract.document()["components"]["schemas"]
SCHEMAS_PER_OPERATION = 3
"""At most, on average: a generated client has a class for each schema."""


def bodies(call: Node) -> Iterator[tuple[str, str, Node]]:
    """Yield the JSON contents of an operation: where, the component's name, and the content."""
    contents = {"body": call.get("requestBody", {}).get("content", {})}
    contents |= {status: answer.get("content", {}) for status, answer in call["responses"].items()}
    for where, by_type in contents.items():
        for media_type, content in by_type.items():
            if media_type != "text/plain":
                yield where, content["schema"]["$ref"].rpartition("/")[2], content


def nested(node: Any, path: str = "") -> Iterator[tuple[str, Node]]:
    """Yield each object below a node, with its path."""
    if isinstance(node, dict):
        yield path, node
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for name, child in children:
        yield from nested(child, f"{path}/{name}")


def resolve(example: Node) -> Node:
    """Return an example, which may be a reference to a component."""
    stored: Node = contract.document()["components"]["examples"]
    return stored[example["$ref"].rpartition("/")[2]] if "$ref" in example else example


def test_names() -> None:
    """Each operation is a verb and an object in camel case, and has a tag that is described."""
    described = {tag["name"] for tag in contract.document()["tags"]}

    assert len(OPERATIONS) == len(ENDPOINTS)
    for name, call in OPERATIONS.items():
        assert re.fullmatch(r"[a-z]+[A-Z][A-Za-z]+", name)
        assert set(call["tags"]) <= described
    assert {"sendCode", "getRequest", "verifyCode", "resendCode", "cancelRequest"} <= OPERATIONS.keys()
    assert described == {tag.name for tag in tags.ALL}
    assert contract.document()["servers"][0]["url"] == "/"


def test_schemas_are_shared() -> None:
    """An enumeration or object is a component, not a part of another one, and there are not too many."""
    assert len(SCHEMAS) <= SCHEMAS_PER_OPERATION * len(OPERATIONS)
    inline = [
        f"{name}{path}"
        for name, schema in SCHEMAS.items()
        for path, node in nested(schema)
        if path and ("enum" in node or "properties" in node) and not path.endswith("/properties")
    ]
    assert inline == []
    texts = [str(sorted(schema.get("enum", ()))) for schema in SCHEMAS.values() if "enum" in schema]
    assert len(texts) == len(set(texts))


def test_every_component_is_used() -> None:
    """Nothing is left over, and no reference is broken."""
    document = contract.document()
    used = {node["$ref"] for _, node in nested(document) if "$ref" in node}

    for kind in ("schemas", "examples", "headers"):
        named = {f"#/components/{kind}/{name}" for name in document["components"][kind]}
        assert named == {one for one in used if one.startswith(f"#/components/{kind}/")}


@pytest.mark.parametrize("name", [*OPERATIONS, *WEBHOOKS])
def test_examples(name: str) -> None:
    """Each body and answer has an example, which fits its schema and has no unknown fields."""
    call = OPERATIONS[name] if name in OPERATIONS else WEBHOOKS[name]["post"]
    for where, schema, content in bodies(call):
        assert content["examples"], (name, where)
        for example in content["examples"].values():
            value = resolve(example)["value"]
            contract.validator(schema).validate(value)
            assert set(value) <= SCHEMAS[schema]["properties"].keys(), (name, where)


def test_no_example_is_left_over() -> None:
    """The stored examples belong to operations of the API."""
    assert examples.BODIES.keys() | examples.RESPONSES.keys() <= OPERATIONS.keys()


@pytest.mark.parametrize("name", OPERATIONS)
def test_problem_examples(name: str) -> None:
    """Each error of an operation is shown with its own code and status."""
    for status, answer in OPERATIONS[name]["responses"].items():
        codes = re.findall(r"`(\w+)`", answer["description"]) if int(status) >= 400 else []
        if not codes:
            continue
        shown = answer["content"]["application/problem+json"]["examples"]
        assert list(shown) == codes
        for code, reference in shown.items():
            value = resolve(reference)["value"]
            assert (value["code"], value["status"]) == (code, int(status))


def test_webhooks() -> None:
    """Each event that is sent is described, with the headers that sign it."""
    assert set(WEBHOOKS) == {*WebhookEvent, TEST}
    for event, item in WEBHOOKS.items():
        names = [parameter["name"] for parameter in item["post"]["parameters"]]
        assert names == ["webhook-id", "webhook-timestamp", "webhook-signature"]
        (example,) = item["post"]["requestBody"]["content"]["application/json"]["examples"].values()
        assert example["value"]["type"] == event


def test_security() -> None:
    """The requirement of a call names the scopes that open it."""
    assert OPERATIONS["sendCode"]["security"] == [{"apiKey": ["send"]}]
    assert OPERATIONS["getRequest"]["security"] == [{"apiKey": ["send"]}, {"apiKey": ["verify"]}]
    assert OPERATIONS["requestOtp"]["security"] == [{"apiKey": ["send"]}, {}]
    assert OPERATIONS["getMetrics"]["security"] == [{"apiKey": ["admin"]}, {"metricsToken": []}]
    assert OPERATIONS["receiveDeliveryReports"]["security"] == [{"receipts": []}]
    assert "security" not in OPERATIONS["getHealth"]
    schemes = contract.document()["components"]["securitySchemes"]
    used = {name for call in OPERATIONS.values() for one in call.get("security", ()) for name in one}
    assert used == schemes.keys()


def test_query_parameters_are_never_null() -> None:
    """A query has no null: a parameter is absent instead."""
    for call in OPERATIONS.values():
        for parameter in call.get("parameters", ()):
            assert {"type": "null"} not in parameter["schema"].get("anyOf", ())
            assert parameter["schema"].get("default", 0) is not None


def test_pages_of_the_documentation_are_links() -> None:
    """A description mentions a page of the documentation as a link to where the API serves it."""
    text = json.dumps(contract.document(), ensure_ascii=False)
    mentions = re.findall(r"docs/([a-z-]+)\.md(\]\(/docs/([a-z-]+)[)#])?", text)

    assert len(mentions) > 5
    assert [page for page, _, linked in mentions if page != linked] == []
    library = locate_documentation()
    assert [page for page, _, _ in mentions if library.find_page(page) is None] == []
