"""The `Idempotency-Key` header: a call that may be repeated, and its answer."""

from __future__ import annotations

import re

import falcon
from pydantic import BaseModel

from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.replay import IdempotentCall, StoredResponse

HEADER = "Idempotency-Key"
LONGEST = 255
_KEY = re.compile(rf"[\x20-\x7e]{{1,{LONGEST}}}")


def call_of(req: falcon.Request, name: str, body: BaseModel) -> IdempotentCall | None:
    """Return the call that this request makes, None unless it has an idempotency key.

    `name` is its method and path. The body counts by what it means: not by white space, the order of its
    fields, or a default that is given. Raises InvalidRequest.
    """
    key = req.get_header(HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidRequest([FieldError(HEADER, f"must be 1 to {LONGEST} printable ASCII characters")])
    return IdempotentCall(name=name, key=key, body=body.model_dump_json())


def send(resp: falcon.Response, answer: StoredResponse) -> None:
    """Make `answer` the response."""
    resp.status = answer.status
    resp.text = answer.body
    for name, value in answer.headers.items():
        resp.set_header(name, value)
    if answer.replayed:
        resp.set_header("Idempotent-Replayed", "true")
