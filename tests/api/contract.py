"""Hold every answer against what the API promises of it: its OpenAPI document, problem details, headers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from otpqueue.api import openapi
from otpqueue.api.catalog import ENDPOINTS
from otpqueue.api.problems import PROBLEMS

UUID_TEXT = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TIME_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
LIMIT_HEADERS = {
    "ratelimit-policy": r'"[a-z0-9_]+";q=[1-9]\d*;w=[1-9]\d*',
    "ratelimit": r'"[a-z0-9_]+";r=\d+;t=[1-9]\d*',
}
PROBLEM = "application/problem+json"
PAGES = re.compile(r"/(docs(/.*)?|try|openapi\.json|assets/.*)?")


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return openapi.build(ENDPOINTS)


@cache
def validator(schema: str) -> Draft202012Validator:
    """Return a validator of a component."""
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{schema}", "components": document()["components"]},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )


def operation(method: str, path: str) -> dict[str, Any] | None:
    """Return what the document says of this call, None where it describes none."""
    for template, operations in document()["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]*", template), path.partition("?")[0]):
            found: dict[str, Any] | None = operations.get(method.lower())
            return found
    return None


def check(method: str, path: str, status: int, headers: Mapping[str, str], text: str) -> None:
    """Fail unless an answer is one that is promised."""
    named = {name.lower(): value for name, value in headers.items()}
    is_page = path.startswith("/docs") and named.get("content-type", "") != PROBLEM
    is_kept = path.startswith("/docs/api/scalar.js?v=")
    for name, value in SAFE_HEADERS.items():
        if name == "cache-control" and (is_kept or (is_page and named.get(name) == "no-cache")):
            continue
        assert named.get(name) == value, (method, path, name)
    assert "default-src 'none'" in named["content-security-policy"]
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", named["x-request-id"])
    media_type = named.get("content-type", "").partition(";")[0]
    if status >= 400 and media_type != "application/json" and not is_page:
        check_problem(path, status, named, text)
    check_limits(status, named)
    described = operation(method, path)
    if described is None or (status == 404 and json.loads(text).get("code") == "not_found"):
        assert status in {404, 405, 414} or PAGES.fullmatch(path.partition("?")[0]) or method == "OPTIONS"
        return
    promised = described["responses"].get(str(status))
    assert promised is not None, f"{method} {path} is not said to answer {status}: {text}"
    if "content" not in promised:
        assert text == ""
        return
    schema = promised["content"][media_type]["schema"]["$ref"].rpartition("/")[2]
    validator(schema).validate(text if media_type == "text/plain" else json.loads(text))


def check_limits(status: int, headers: Mapping[str, str]) -> None:
    """Fail unless a 429 says when to try again, and the limits are told in the draft's form, both headers."""
    if status == 429:
        assert int(headers["retry-after"]) >= 1
    assert ("ratelimit" in headers) == ("ratelimit-policy" in headers)
    for name, form in LIMIT_HEADERS.items():
        assert all(re.fullmatch(form, item) for item in headers.get(name, "").split(", ") if item), headers


def check_problem(path: str, status: int, headers: Mapping[str, str], text: str) -> None:
    """Fail unless an answer is a documented problem."""
    assert headers["content-type"] == PROBLEM, (path, status, headers)
    problem = json.loads(text)
    validator("Problem").validate(problem)
    kind = PROBLEMS[problem["code"]]
    assert problem["status"] == status
    assert problem["type"] == f"/docs/problems#{kind.code}"
    assert problem["title"] == kind.title
    assert problem["detail"]
    if "success" not in problem:  # the guide's calls have statuses of their own
        assert status == kind.status
    if status == 401:
        challenge = 'Basic realm="delivery reports"' if path == "/v1/infobip/receipts" else "Bearer"
        assert headers["www-authenticate"] == challenge


def check_webhook(headers: Mapping[str, str], body: bytes) -> None:
    """Fail unless the document describes an event that was posted to a client: its type, headers and body."""
    payload = json.loads(body)
    described = document()["webhooks"][payload["type"]]["post"]
    for parameter in described["parameters"]:
        Draft202012Validator(parameter["schema"]).validate(headers[parameter["name"]])
    content = described["requestBody"]["content"]["application/json"]
    schema = content["schema"]["$ref"].rpartition("/")[2]
    validator(schema).validate(payload)
    shown = document()["components"]["schemas"][schema]["properties"]
    assert list(payload) == list(shown)
    assert set(payload["data"]) == set(content["examples"]["event"]["value"]["data"])
