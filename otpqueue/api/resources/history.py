"""`/v1/otp-requests/{id}/history`: a request's whole life, for operators."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import falcon

from otpqueue.api.auth import Door
from otpqueue.api.resources.requests import parse_id
from otpqueue.domain.history import EventKind, History, HistoryEvent, Value
from otpqueue.domain.request import Status
from otpqueue.operations.history import ReadHistory


def representation(history: History) -> dict[str, Any]:
    """Return a history as operators see it, in plain JSON values."""
    header = {
        "id": str(history.id),
        "client": history.client,
        "status": history.shown_status,
        "reason": history.reason,
        "provider_code": history.provider_code,
        "phone_number": history.phone_number,
        "country": history.country,
        "language": history.language,
        "channel": history.channel,
        "created_at": history.created_at,
        "send_by": history.send_by,
        "sent_at": history.sent_at,
        "expires_at": history.expires_at,
        "verified_at": history.verified_at,
        "finished_at": history.finished_at,
        "sends": history.sends,
        "checks_used": history.checks_used,
        "checks_allowed": history.checks_allowed,
    }
    plain = {name: _plain(value) for name, value in header.items()}
    return plain | {"events": [_event(event, history.created_at) for event in history.events]}


def _event(event: HistoryEvent, accepted_at: datetime) -> dict[str, Any]:
    return {
        "at": _plain(event.at),
        "after_ms": (event.at - accepted_at) // timedelta(milliseconds=1),
        "kind": event.kind.value,
        "summary": event.summary,
        "details": {name: _plain(value) for name, value in event.details.items()},
    }


def _plain(value: Value) -> str | int | bool | None:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    # A price in binary floating point would not be the price.
    return f"{value:f}" if isinstance(value, Decimal) else value


@dataclass(frozen=True, kw_only=True)
class RequestHistory:
    """`/v1/otp-requests/{id}/history`."""

    door: Door
    history: ReadHistory

    def on_get(self, req: falcon.Request, resp: falcon.Response, request_id: str) -> None:
        """Answer all that happened to a request of any client."""
        self.door.enter(req, "admin")
        resp.text = json.dumps(representation(self.history(parse_id(request_id))))


_WORD = {"type": "string"}
_MAYBE_WORD = {"type": ["string", "null"]}
_TIME = {"type": "string", "format": "date-time"}
_MAYBE_TIME = {"type": ["string", "null"], "format": "date-time"}
_NUMBER = {"type": "integer"}
_MAYBE_NUMBER = {"type": ["integer", "null"]}
_PRICE = {"type": ["string", "null"], "description": "decimal, exact", "examples": ["0.0077"]}
_MOVE = {"was": _MAYBE_WORD, "became": _WORD, "reason": _MAYBE_WORD}
_CLAIM = {"number": _NUMBER, "kind": _WORD, "channel": _WORD, "worker": _WORD}
_DETAILS: dict[EventKind, dict[str, Any]] = {
    EventKind.ACCEPTED: {
        "client": _WORD,
        "phone_number": _MAYBE_WORD,
        "channel": _WORD,
        "country": _MAYBE_WORD,
        "language": _MAYBE_WORD,
    },
    EventKind.ATTEMPT_CLAIMED: _CLAIM,
    EventKind.ATTEMPT_FINISHED: {
        **_CLAIM,
        "claimed_at": _TIME,
        "started_at": _MAYBE_TIME,
        "finished_at": _TIME,
        "outcome": _WORD,
        "retryable": {"type": ["boolean", "null"]},
        "code": _MAYBE_WORD,
        "http_status": _MAYBE_NUMBER,
        "latency_ms": _MAYBE_NUMBER,
        "evidence": _MAYBE_WORD,
        "delivery": _MAYBE_WORD,
        "delivery_status": _MAYBE_WORD,
        "delivery_error": _MAYBE_WORD,
        "done_at": _MAYBE_TIME,
        "price": _PRICE,
        "currency": _MAYBE_WORD,
    },
    EventKind.CHECK_STARTED: {"number": _NUMBER},
    EventKind.CHECK_FINISHED: {
        "number": _NUMBER,
        "started_at": _TIME,
        "finished_at": _TIME,
        "verdict": _WORD,
        "code": _MAYBE_WORD,
        "http_status": _MAYBE_NUMBER,
        "latency_ms": _MAYBE_NUMBER,
    },
    EventKind.RECEIPT: {
        "attempt": _MAYBE_NUMBER,
        "received_at": _TIME,
        "done_at": _MAYBE_TIME,
        "delivery": _WORD,
        "status": _WORD,
        "error": _MAYBE_WORD,
        "price": _PRICE,
        "currency": _MAYBE_WORD,
    },
    EventKind.STATUS: _MOVE,
    EventKind.RESEND: _MOVE,
}


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    required = list(properties)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def schema() -> dict[str, Any]:
    """Return the schema of what `representation` returns: nothing more may be in it."""
    events = [
        _closed(
            {
                "at": _TIME,
                "after_ms": {"type": "integer", "description": "milliseconds since it was accepted"},
                "kind": {"const": kind.value},
                "summary": {"type": "string", "description": "one line for a person"},
                "details": _closed(details),
            }
        )
        for kind, details in _DETAILS.items()
    ]
    return _closed(
        {
            "id": {"type": "string", "format": "uuid"},
            "client": {"type": "string", "description": "who asked"},
            "status": {"type": "string", "enum": sorted({"sending", *(status.value for status in Status)})},
            "reason": _MAYBE_WORD,
            "provider_code": _MAYBE_WORD,
            "phone_number": {"type": ["string", "null"], "description": "masked"},
            "country": _MAYBE_WORD,
            "language": _MAYBE_WORD,
            "channel": _WORD,
            "created_at": _TIME,
            "send_by": _TIME,
            "sent_at": _MAYBE_TIME,
            "expires_at": _MAYBE_TIME,
            "verified_at": _MAYBE_TIME,
            "finished_at": _MAYBE_TIME,
            "sends": _NUMBER,
            "checks_used": _NUMBER,
            "checks_allowed": _NUMBER,
            "events": {"type": "array", "items": {"oneOf": events}},
        }
    )
