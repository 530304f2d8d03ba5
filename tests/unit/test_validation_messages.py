"""Messages of validation problems: our own words for every constraint in use, with how to fix the input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import falcon
import pytest
from falcon.testing import create_environ
from pydantic import BaseModel, ValidationError

from otpqueue.api import reading, validation_messages
from otpqueue.api.catalog import ENDPOINTS
from otpqueue.api.http.errors import MalformedJson
from otpqueue.api.validation_messages import describe_fault, describe_unknown_name
from otpqueue.domain.errors import InvalidRequest

BODIES = sorted({one.body for one in ENDPOINTS if one.body}, key=lambda model: model.__name__)
QUERIES = sorted({one.query for one in ENDPOINTS if one.query}, key=lambda model: model.__name__)
TEXTS = ("", "x", "x" * 5000, "-1", "1.5", "9" * 5000, "\n", "999999999", "sms", "1 1")
VALUES: tuple[Any, ...] = (None, True, 0, -1, 10**12, 1.5, [], {}, *TEXTS)
FOREIGN = re.compile(r"Input|should|pydantic|String|Value error|Field required|Extra|valid integer|\^|\\")
"""Words of pydantic, and patterns."""


def faults() -> Iterator[tuple[type[BaseModel], str, str, str]]:
    """Yield model, field, type of error and message for bad values of every field of every call."""
    for model in (*BODIES, *QUERIES):
        names = [field.alias or name for name, field in model.model_fields.items()]
        inputs: list[dict[str, Any]] = [{}, {"unknown": "x"}]
        values = VALUES if model in BODIES else (*TEXTS, ["1", "2"])
        inputs += [{name: value} for name in names for value in values]
        for given in inputs:
            try:
                model.model_validate(given)
            except MalformedJson:
                continue  # a batch of delivery reports is checked as a whole
            except ValidationError as error:
                found = error.errors(include_input=False, include_url=False)
                refusal = reading._to_error(error, model)
                assert isinstance(refusal, InvalidRequest)
                for one, said in zip(found, refusal.errors, strict=True):
                    yield model, str(one["loc"][0]), one["type"], said.message


def test_every_constraint_has_words() -> None:
    """Every type of error that an input can cause has a text, none is raw, and no text is left over."""
    found = list(faults())

    kinds = {kind for _, _, kind, _ in found}
    assert kinds == {*validation_messages._TEXTS, "extra_forbidden"}
    for model, field, kind, message in found:
        assert re.match(r"(must|is) ", message), (model, field, kind, message)
        assert not FOREIGN.search(message), (model, field, kind, message)
        assert len(message) < 160


def test_no_pattern_is_shown() -> None:
    """A pattern is no help to a person: fields with one have a validator with words of its own."""
    for model in (*BODIES, *QUERIES):
        for name, field in model.model_fields.items():
            assert not any(getattr(fact, "pattern", None) for fact in field.metadata), (model, name)


@pytest.mark.parametrize(
    ("kind", "context", "message"),
    [
        ("missing", {}, "is required"),
        ("string_too_short", {"min_length": 1}, "must not be empty"),
        ("string_too_short", {"min_length": 3}, "must have at least 3 characters"),
        ("string_too_long", {"max_length": 128}, "must have at most 128 characters"),
        ("literal_error", {"expected": "'sms' or 'voice'"}, "must be sms or voice"),
        ("greater_than_equal", {"ge": 60}, "must be at least 60"),
        ("less_than_equal", {"le": 7776000}, "must be at most 7776000"),
        ("less_than_equal", {"le": 30.0}, "must be at most 30"),
        ("bool_type", {}, "must be true or false, without quotation marks"),
        ("value_error", {"error": ValueError("must be six digits, 0 to 9")}, "must be six digits, 0 to 9"),
        ("new_type_of_pydantic", {}, "is not valid; the API reference describes it"),
    ],
)
def test_texts(kind: str, context: dict[str, Any], message: str) -> None:
    """A text has the limit that was missed."""
    assert describe_fault(kind, context, name="x", known=()) == message


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("phoneNumber", "did you mean phone_number?"),
        ("phone-number", "did you mean phone_number?"),
        ("sesion_id", "did you mean session_id?"),
        ("colour", "remove it"),
        ("x" * 10_000, "remove it"),
    ],
)
def test_unknown_names(name: str, hint: str) -> None:
    """An unknown field is compared with the known ones: people mistype, or use the guide's names."""
    known = ("phone_number", "session_id", "code")

    assert describe_unknown_name(name, known, what="field") == f"is not a field of this call; {hint}"


def test_repeated_parameter() -> None:
    """A parameter that is given twice is not a matter of its type."""
    environ = create_environ(query_string="limit=1&limit=2")
    query = next(one.query for one in ENDPOINTS if one.operation_id == "listRequests")
    assert query

    with pytest.raises(InvalidRequest) as caught:
        reading.read_query(falcon.Request(environ), query)

    assert [(one.field, one.message) for one in caught.value.errors] == [("limit", "must be given once")]
