"""The fields of a submitted form."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import falcon

from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.typed import describe_character, find_control_character

_FIELDS_AT_MOST = 20
_FIELD = re.compile(r"[a-z_]{1,20}")
_LINE_ENDS = re.compile(r"[\t\r\n]+")


def read_form(req: falcon.Request) -> dict[str, str]:
    """Return the fields of a form. Raises InvalidRequest for any other body."""
    content_type = (req.content_type or "").partition(";")[0].strip().lower()
    if content_type != falcon.MEDIA_URLENCODED:
        raise InvalidRequest([], "The body is not a form of the console.")
    try:
        body = req.bounded_stream.read().decode()
        fields = parse_qsl(body, keep_blank_values=True, max_num_fields=_FIELDS_AT_MOST, errors="strict")
    except ValueError:
        raise InvalidRequest([], "The body is not a form of the console.") from None
    return {name: _check_field(name, value) for name, value in fields}


def _check_field(name: str, text: str) -> str:
    """Return the text of a field on one line. Raises InvalidRequest for control characters."""
    field = name if _FIELD.fullmatch(name) else "a field"
    text = _LINE_ENDS.sub(" ", text)
    character = find_control_character(text)
    if character is not None:
        said = f"must not contain the control character {describe_character(character)}"
        raise InvalidRequest([FieldError(field, said)])
    return text
