"""Reads requests: JSON bodies, forms, typed models, query parameters, phone numbers and addresses."""

import json
import re
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import falcon
import falcon.asgi
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from otpqueue.simulator.errors import ApiError, make_field_error

MAX_BODY_BYTES: Final = 1_000_000

_NUMBER = re.compile(r"(\+?)([0-9]{1,64})")
_ADDRESS = re.compile(r"[^@\s<>\"(),:;\\]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}")


class RequestBody(BaseModel):
    """A request body: camelCase names, exact types, unknown fields ignored, null the same as absent."""

    model_config = ConfigDict(
        strict=True, extra="ignore", frozen=True, alias_generator=to_camel, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        return without_nulls(data) if isinstance(data, dict) else data


BodyT = TypeVar("BodyT", bound=RequestBody)


def without_nulls(data: dict[str, Any]) -> dict[str, Any]:
    """Return `data` without the fields that are null."""
    return {key: value for key, value in data.items() if value is not None}


async def read_body(req: falcon.asgi.Request) -> bytes:
    """Return the bytes of the body, also on later calls; `ApiError` 400 when over 1 MB."""
    known: bytes | None = getattr(req.context, "raw_body", None)
    if known is not None:
        return known
    body = await req.stream.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise ApiError(400, text="Request body is too large")
    req.context.raw_body = body
    return body


def parse_json(body: bytes) -> Any:
    """Parse JSON; raises ValueError also for NaN, lone surrogates and too deep nesting."""
    try:
        data = _DECODER.decode(body.decode())
        if b"\\u" in body:
            json.dumps(data, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


async def read_json_object(req: falcon.asgi.Request, *, optional: bool = False) -> dict[str, Any]:
    """Return the body as a JSON object; an empty body is `{}` when `optional`.

    Raises `ApiError` 400 for another content type, invalid JSON and a value that is not an object. The
    status for another content type is INFERRED: the OpenAPI document lists no 415.
    """
    body = await read_body(req)
    if not body and optional:
        return {}
    _expect_type(req, "application/json")
    try:
        data = parse_json(body)
    except ValueError as error:
        raise ApiError(400, text="Request body is not valid JSON") from error
    if not isinstance(data, dict):
        raise ApiError(400, text="Request body must be a JSON object")
    return data


async def read_form(req: falcon.asgi.Request) -> dict[str, str]:
    """Return the fields of a form, the last of each name; raises `ApiError` 400 on anything else."""
    body = await read_body(req)
    _expect_type(req, "application/x-www-form-urlencoded")
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True))
    except ValueError as error:
        raise ApiError(400, text="Request body is not a valid form") from error


def _expect_type(req: falcon.asgi.Request, expected: str) -> None:
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != expected:
        raise ApiError(400, text=f"Content-Type must be {expected}")


def parse_model(model: type[BodyT], data: dict[str, Any]) -> BodyT:
    """Return `data` as `model`; raises `ApiError` 400 with `validationErrors` by dotted field path."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ApiError(400, validation_errors=list_problems(error)) from error


def list_problems(error: ValidationError) -> dict[str, list[str]]:
    """Return the problems of each field, by dotted path; the wording is INFERRED."""
    found: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = ".".join(str(part) for part in detail["loc"])
        found.setdefault(path, []).append(_problem(detail))
    return found


def _problem(detail: ErrorDetails) -> str:
    if detail["type"] == "missing":
        return "must not be null"
    if detail["type"] == "string_too_short":
        return "must not be empty"
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return detail["msg"].replace("Input should be", "must be")


def read_boolean(req: falcon.asgi.Request, name: str) -> bool | None:
    """Return a query parameter as a boolean, None when absent; `ApiError` 400 on anything else."""
    text = req.get_param(name)
    if text is None:
        return None
    if text.lower() not in {"true", "false"}:
        raise make_field_error(name, "must be true or false")
    return text.lower() == "true"


def parse_number(number: str, *, accept_plus: bool = True) -> str | None:
    """Return a phone number without its `+`, or None when it contains other characters.

    Official samples show digits only; accepting a leading `+` is INFERRED. The bound of 64 is that of
    Infobip's SMS API.
    """
    match = _NUMBER.fullmatch(number)
    if match is None or (match[1] and not accept_plus):
        return None
    return match[2]


def parse_address(text: str) -> str | None:
    """Return `text` if it is an e-mail address, else None; which ones Infobip refuses is INFERRED."""
    return text if _ADDRESS.fullmatch(text) else None


def parse_recipient(text: str) -> str | None:
    """Return a phone number in digits or an e-mail address unchanged, or None if it is neither."""
    return parse_address(text) if "@" in text else parse_number(text)
