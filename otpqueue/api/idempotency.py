"""The `Idempotency-Key` header: calls that may be repeated, and their answers."""

from __future__ import annotations

import re

import falcon
from pydantic import BaseModel

from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.replay import IdempotentCall, StoredResponse

HEADER = "Idempotency-Key"
LONGEST = 255
_KEY = re.compile(rf"[\x20-\x7e]{{1,{LONGEST}}}")


def has_key(req: falcon.Request) -> bool:
    """Return whether a request has an Idempotency-Key."""
    return "HTTP_IDEMPOTENCY_KEY" in req.env


def read_key(req: falcon.Request, name: str, body: BaseModel) -> IdempotentCall | None:
    """Return the call that a request makes, None if it has no Idempotency-Key.

    `name` is its method and path. Bodies with the same meaning are the same: white space, the order of the
    fields and explicit defaults do not matter. Raises InvalidRequest.
    """
    key = req.get_header(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidRequest([FieldError(HEADER, f"must be 1 to {LONGEST} printable ASCII characters")])
    return IdempotentCall(name=name, key=key, body=body.model_dump_json())


def write_answer(resp: falcon.Response, answer: StoredResponse) -> None:
    """Make an answer the response."""
    resp.status = answer.status
    resp.text = answer.body
    for name, value in answer.headers.items():
        resp.set_header(name, value)
    if answer.replayed:
        resp.set_header("Idempotent-Replayed", "true")
