"""How request bodies and queries are read: strictly, and the same by every parser."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from functools import cache
from typing import TypeVar, cast

import falcon
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from otpqueue.api.bodies import JsonBody
from otpqueue.api.http.bridge import MAX_BODY_BYTES
from otpqueue.api.http.errors import BodyTooLarge, MalformedJson, UnsupportedMediaType
from otpqueue.api.validation_messages import describe_fault
from otpqueue.domain.errors import FieldError, InvalidRequest

MAX_DEPTH = 16
"""Maximum nesting of objects and lists."""

Model = TypeVar("Model", bound=BaseModel)


def read(req: falcon.Request, model: type[Model], *, limit: int = MAX_BODY_BYTES) -> Model:
    """Return the request's body, of up to `limit` bytes, as a model.

    Raises UnsupportedMediaType, BodyTooLarge, MalformedJson, and InvalidRequest for invalid fields.
    """
    text = _read_text(req, limit=limit)
    value = _parse_json(text)
    # Bodies that others define may hold any text: only the parts that are used matter.
    if "\\u" in text and issubclass(model, JsonBody) and not _is_unicode(value):
        raise MalformedJson()
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _to_error(error, model) from None


def read_query(req: falcon.Request, model: type[Model]) -> Model:
    """Return the request's query as a model. Raises InvalidRequest."""
    if not req.params:
        return cast("Model", _make_default(model))
    try:
        return model.model_validate(req.params)
    except ValidationError as error:
        repeated = {name for name, value in req.params.items() if isinstance(value, list)}
        raise _to_error(error, model, repeated=repeated) from None


@cache
def _make_default(model: type[BaseModel]) -> BaseModel:
    """Return the model of an empty query, which is frozen and has only defaults."""
    return model()


def _read_text(req: falcon.Request, *, limit: int) -> str:
    _check_media_type(req)
    if (req.content_length or 0) > limit:
        raise BodyTooLarge()
    body = req.stream.read(limit + 1)
    if len(body) > limit:
        raise BodyTooLarge()
    try:
        return bytes(body).decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedJson("The body is not UTF-8.") from None


def _check_media_type(req: falcon.Request) -> None:
    media_type, *parameters = (req.content_type or "").split(";")
    if media_type.strip().lower() != "application/json":
        raise UnsupportedMediaType()
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in {"utf-8", "utf8"}:
            raise UnsupportedMediaType("Send the body in UTF-8.")
    if (req.get_header("Content-Encoding") or "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("Send the body uncompressed, without Content-Encoding.")


def _parse_json(text: str) -> object:
    """Return the value of a JSON text that all parsers read alike: no duplicate field, no NaN."""
    try:
        value = _decode(text)
    except (ValueError, RecursionError):
        raise MalformedJson() from None
    # Few brackets cannot be nested deeply.
    if text.count("{") + text.count("[") > MAX_DEPTH and not _is_shallow(value):
        raise MalformedJson(f"The body is nested more than {MAX_DEPTH} levels deep.")
    return value


def _is_unicode(value: object) -> bool:
    """Return whether no text has an unpaired surrogate: JSON can escape one, UTF-8 cannot encode it."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _reject_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise MalformedJson("The body contains a field twice.")
    return fields


def _reject_constant(_name: str) -> float:
    raise MalformedJson("NaN and Infinity are not valid JSON.")


def _parse_float(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _reject_constant(digits)


_decode = json.JSONDecoder(
    object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant, parse_float=_parse_float
).decode


def _is_shallow(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        level = inner
    return not level


def _to_error(error: ValidationError, model: type[BaseModel], *, repeated: Collection[str] = ()) -> Exception:
    # Without the input: it may contain a number or a code.
    found = error.errors(include_input=False, include_url=False)
    if not found[0]["loc"]:  # not an object
        return MalformedJson()
    known = [field.alias or name for name, field in model.model_fields.items()]
    return InvalidRequest([_describe(one, known=known, repeated=repeated) for one in found])


def _describe(fault: ErrorDetails, *, known: Collection[str], repeated: Collection[str]) -> FieldError:
    name = str(fault["loc"][0])
    message = describe_fault(fault["type"], fault.get("ctx", {}), name=name, known=known)
    return FieldError(mask_name(name), "must be given once" if name in repeated else message)


def mask_name(name: str) -> str:
    """Return the name of a field or parameter for an answer, hidden if it could be a number or a code."""
    hidden = len(name) > 64 or any(character.isnumeric() for character in name)
    return "(a name with digits, or too long)" if hidden else name
