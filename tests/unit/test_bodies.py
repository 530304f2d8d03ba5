"""Request bodies: accepted and rejected as pydantic does with the same text, in a single parse."""

from __future__ import annotations

import json
import sys
import unicodedata
from typing import Any

import falcon
import pytest
from falcon.testing import create_environ
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from otpqueue.api import bodies, reading
from otpqueue.api.guide.bodies import GuideRequest, GuideVerify
from otpqueue.api.http.errors import MalformedJson
from otpqueue.domain.errors import InvalidRequest

MODELS: tuple[type[BaseModel], ...] = (
    bodies.NewOtpRequest,
    bodies.CodeToVerify,
    bodies.ResendWanted,
    bodies.SearchWanted,
    bodies.SilenceWanted,
    bodies.NumberToErase,
    GuideRequest,
    GuideVerify,
)
NAMES = sorted({field.alias or name for model in MODELS for name, field in model.model_fields.items()})
TEXTS = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    [
        "+447700900123",
        "GB",
        "sms",
        "voice",
        "en",
        "123456",
        "::1",
        "",
        "2026-03-01T12:00:00Z",
        "failed",
        "x" * 129,
    ]
)
NUMBERS = (
    st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([1, 20, 1.0, 2**63])
)
VALUES = st.none() | st.booleans() | NUMBERS | TEXTS
NESTED = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
)
OBJECTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6) | st.dictionaries(
    st.sampled_from(NAMES) | TEXTS, NESTED, max_size=4
)


def read(text: str, model: type[BaseModel]) -> object:
    """Return what `read` makes of a body: a model, or what its refusal says."""
    body = text.encode()
    environ = create_environ(method="POST", body=body, headers={"Content-Type": "application/json"})
    return said(lambda: reading.read(falcon.Request(environ), model))


def reference(text: str, model: type[BaseModel]) -> object:
    """Return what pydantic makes of a text that is well-formed, by its own parser."""

    def parse() -> BaseModel:
        reading._parse_json(text)
        try:
            return model.model_validate_json(text)
        except ValidationError as error:
            if error.errors()[0]["type"] == "json_invalid":
                raise MalformedJson from None
            raise reading._to_error(error, model) from None

    return said(parse)


def said(make: Any) -> object:
    """Return what comes out, or what the refusal says."""
    try:
        return make()
    except MalformedJson as error:
        return error.code, error.detail
    except InvalidRequest as error:
        return error.errors


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(value=OBJECTS | NESTED, ascii_only=st.booleans(), model=st.sampled_from(MODELS))
@example(value={"phone_number": "\ud800"}, ascii_only=True, model=bodies.NewOtpRequest)
@example(value={"phone_number": "\ud83d\ude00"}, ascii_only=True, model=bodies.NewOtpRequest)
@example(value={"\udfff": 1}, ascii_only=True, model=bodies.NewOtpRequest)
@example(value={"phone_number": "x", "limit": 2**70}, ascii_only=True, model=bodies.SearchWanted)
@example(value={"for_s": 60.0, "every_subject": 1}, ascii_only=True, model=bodies.SilenceWanted)
def test_read_once(value: object, ascii_only: bool, model: type[BaseModel]) -> None:
    """The model, the problem and the messages equal those of pydantic's own parser."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value)

    assert read(text, model) == reference(text, model)


@pytest.mark.parametrize("depth", [reading.MAX_DEPTH, reading.MAX_DEPTH + 1])
@pytest.mark.parametrize("brackets", ["[]", "{}"])
def test_depth(depth: int, brackets: str) -> None:
    """The depth of nesting is limited, not the number of brackets."""
    one, other = ('{"a":', "}") if brackets == "{}" else brackets
    nested = one * (depth - 1) + "1" + other * (depth - 1)
    text = '{"phone_number": "[[[[{{{{[[[[{{{{[[[[", "a": [[], [], [], [], [], []], "b": ' + nested + "}"

    found = read(text, bodies.NewOtpRequest)

    is_too_deep = found == (
        "malformed_json",
        f"The body is nested more than {reading.MAX_DEPTH} levels deep.",
    )
    assert is_too_deep == (depth > reading.MAX_DEPTH)


def test_control_characters() -> None:
    """Of all characters, exactly the control characters and surrogates are rejected."""
    refused = set()
    for number in range(sys.maxunicode + 1):
        try:
            bodies._check_printable(chr(number))
        except ValueError:
            refused.add(number)

    assert refused == {
        number for number in range(sys.maxunicode + 1) if unicodedata.category(chr(number)) in {"Cc", "Cs"}
    }
