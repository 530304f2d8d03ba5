"""The OpenAPI document: one table of operations, the schemas of `bodies`, the problems of `problems`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel

from otpqueue.api import bodies, idempotency
from otpqueue.api.problems import CONTENT_TYPE, PROBLEMS
from otpqueue.api.resources import alerts, history, numbers, stats
from otpqueue.api.resources.requests import MAX_WAIT_S
from otpqueue.domain.limits import LIMITS
from otpqueue.domain.request import SHOWN, Reason

_ID = {
    "name": "request_id",
    "in": "path",
    "required": True,
    "description": "the `id` that the 202 answered",
    "schema": {"type": "string", "format": "uuid"},
}
_ALERT_ID = {
    "name": "alert_id",
    "in": "path",
    "required": True,
    "description": "the `id` of an alert",
    "schema": {"type": "string", "format": "uuid"},
}
_WAIT = {
    "name": "wait",
    "in": "query",
    "description": "seconds; answer as soon as the status changes from what it is, or when they are over",
    "schema": {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0},
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "description": "the `ETag` of the state you have seen: any other state is answered at once",
    "schema": {"type": "string"},
}
_IDEMPOTENCY_KEY = {
    "name": idempotency.HEADER,
    "in": "header",
    "description": "1 to 255 printable ASCII characters, a fresh one for each wish. The call may be repeated "
    "with it for 24 hours: once accepted, it is answered as the first time, with `Idempotent-Replayed: true`",
    "schema": {"type": "string", "minLength": 1, "maxLength": idempotency.LONGEST, "pattern": "^[ -~]+$"},
}
_REPEATED = ("idempotency_in_progress", "idempotency_key_reused")
_OPEN = ("not_found", "uri_too_long", "headers_too_large", "internal_error")
_ANY = ("bad_http", *_OPEN)
_KEYED = (
    "invalid_request",
    "unauthenticated",
    "missing_scope",
    "https_required",
    "limit_exceeded",
    "database_unavailable",
    "too_busy",
    *_ANY,
)
_POLICY = ("number_not_allowed", "country_not_allowed", "sending_stopped", "daily_cap_reached")
_NEW = (*_POLICY, "destination_paused", "too_many_wrong_codes", "number_locked", "limits_unavailable")
_BODY = ("malformed_json", "body_timeout", "body_too_large", "unsupported_media_type")
_RESEND = (
    *_POLICY,
    "request_not_found",
    "not_sent_yet",
    "resend_in_progress",
    "resends_exhausted",
    "resend_too_soon",
    "resend_too_late",
    "destination_paused",
    "already_verified",
    "expired",
    "locked",
    "cancelled",
    "failed",
    "limits_unavailable",
)
_CHECK = (
    "request_not_found",
    "invalid_phone_number",
    "code_incorrect",
    "not_sent_yet",
    "check_in_progress",
    "already_verified",
    "expired",
    "locked",
    "cancelled",
    "failed",
    "provider_unavailable",
)


class Reports(BaseModel):
    """Infobip's delivery reports."""

    results: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One call: what the document and the docs page say of it."""

    method: str
    path: str
    summary: str
    description: str
    answers: dict[int, tuple[str, str | None]]
    """Description and schema of each success, by status."""
    problems: tuple[str, ...]
    body: type[BaseModel] | None = None
    parameters: tuple[dict[str, Any], ...] = ()
    key: str | None = None
    """The scope that the API key needs; None for a call without a key."""
    basic: bool = False
    """Whether the call has Basic credentials of its own."""
    optional_body: bool = False
    media_type: str = "application/json"
    """What a success is answered in."""
    guide: bool = False


def _query(model: type[BaseModel]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "name": name,
            "in": "query",
            "description": field["description"],
            "schema": {key: value for key, value in field.items() if key not in {"description", "title"}},
        }
        for name, field in model.model_json_schema()["properties"].items()
    )


OPERATIONS = (
    Operation(
        method="POST",
        path="/v1/otp-requests",
        summary="Ask for a code to be sent",
        description="Answers at once; a worker sends the code. A newer request for the same number and "
        "session replaces the older one.",
        parameters=(_IDEMPOTENCY_KEY,),
        body=bodies.NewOtpRequest,
        answers={202: ("Accepted; `Location` is where to poll", "OtpRequest")},
        problems=(
            *_KEYED,
            *_BODY,
            *_REPEATED,
            "request_not_found",
            "invalid_phone_number",
            *_NEW,
        ),
        key="send",
    ),
    Operation(
        method="GET",
        path="/v1/otp-requests",
        summary="List requests (for operators)",
        description="Newest first, of every client; each also says whose it is. `next_cursor` leads to the "
        "next page and is null at the end. A page may be short, even empty, before the end: so many requests "
        "are looked at for one page, and no more.",
        parameters=_query(bodies.SearchQuery),
        answers={200: ("A page of requests", "Found")},
        problems=_KEYED,
        key="admin",
    ),
    Operation(
        method="POST",
        path="/v1/otp-requests/search",
        summary="Find the requests for a number (for operators)",
        description="As the list, for one number, which stands in no URL.",
        body=bodies.SearchWanted,
        answers={200: ("A page of requests", "Found")},
        problems=(*_KEYED, *_BODY, "invalid_phone_number", "number_not_allowed"),
        key="admin",
    ),
    Operation(
        method="GET",
        path="/v1/otp-requests/{request_id}",
        summary="See how a request stands",
        description="`Retry-After` says when to ask again. With `wait` the answer comes when the status "
        "changes.",
        parameters=(_ID, _WAIT, _IF_NONE_MATCH),
        answers={
            200: ("The request", "OtpRequest"),
            304: ("Nothing has changed since the state of `If-None-Match`", None),
        },
        problems=(*_KEYED, "request_not_found"),
        key="send or verify",
    ),
    Operation(
        method="POST",
        path="/v1/otp-requests/{request_id}/verify",
        summary="Check a code",
        description="Only a 200 means that the code is right, and it comes once; a repetition with the same "
        "`Idempotency-Key` gets it again. A wrong code costs a check. With another `session_id` than "
        "the one it was asked for with, any code is answered like a wrong one, and costs none.",
        parameters=(_ID, _IDEMPOTENCY_KEY),
        body=bodies.CodeToVerify,
        answers={200: ("The code is right", "Verified")},
        problems=(*_KEYED, *_BODY, *_CHECK, *_REPEATED),
        key="verify",
    ),
    Operation(
        method="POST",
        path="/v1/otp-requests/{request_id}/resend",
        summary="Send the same code once more",
        description="By SMS or voice, five sends in all, 30 seconds after the first, then 60, 120, 240, and "
        "not in the last 20 seconds of the code. The code in hand stays good meanwhile; a resend that fails "
        "shows in `resend` and changes nothing else. The body may be left out.",
        parameters=(_ID, _IDEMPOTENCY_KEY),
        body=bodies.ResendWanted,
        optional_body=True,
        answers={202: ("Accepted; poll as before", "OtpRequest")},
        problems=(*_KEYED, *_BODY, *_RESEND, *_REPEATED),
        key="send",
    ),
    Operation(
        method="DELETE",
        path="/v1/otp-requests/{request_id}",
        summary="Cancel a request",
        description="Idempotent: a request that has ended is answered as it is.",
        parameters=(_ID,),
        answers={200: ("The request", "OtpRequest")},
        problems=(*_KEYED, "request_not_found"),
        key="send or verify",
    ),
    Operation(
        method="GET",
        path="/v1/otp-requests/{request_id}/history",
        summary="See a request's whole life (for operators)",
        description="Every attempt to send, check, delivery report and move with its time, oldest first. A "
        "key with the scope `admin` sees the requests of every client here.",
        parameters=(_ID,),
        answers={200: ("The history", "History")},
        problems=(*_KEYED, "request_not_found"),
        key="admin",
    ),
    Operation(
        method="POST",
        path="/v1/phone-numbers/erase",
        summary="Erase a phone number (for operators)",
        description="Erases all that concerns a number, for every client here, in one transaction, and "
        "answers how many rows of each kind that were. Its live requests end first; afterwards none of its "
        "requests is found. Idempotent: the second time there is nothing left. docs/privacy.md says what "
        "Infobip keeps.",
        body=bodies.NumberToErase,
        answers={200: ("Erased", "Erased")},
        problems=(*_KEYED, *_BODY, "invalid_phone_number"),
        key="admin",
    ),
    Operation(
        method="GET",
        path="/v1/stats",
        summary="See what was counted (for operators)",
        description="Counts of a window that ends with the running minute (of more than six hours: with the "
        "running hour), and what follows from them. Statistics follow what happens by some ten seconds. "
        "docs/statistics.md says what each figure means.",
        parameters=_query(bodies.StatsQuery),
        answers={200: ("The counts", "Statistics")},
        problems=_KEYED,
        key="admin",
    ),
    Operation(
        method="GET",
        path="/v1/alerts",
        summary="List alerts (for operators)",
        description="What is wrong now and what was, the newest first. docs/alerts.md says of each rule what "
        "it means and what to do.",
        parameters=_query(bodies.AlertsQuery),
        answers={200: ("Alerts", "Alerts")},
        problems=_KEYED,
        key="admin",
    ),
    Operation(
        method="POST",
        path="/v1/alerts/{alert_id}/acknowledge",
        summary="Acknowledge an alert (for operators)",
        description="Notes that somebody has seen it; who was first stays. Its closing is still told of.",
        parameters=(_ALERT_ID,),
        answers={200: ("The alert", "Alert")},
        problems=(*_KEYED, "alert_not_found"),
        key="admin",
    ),
    Operation(
        method="POST",
        path="/v1/alerts/{alert_id}/silence",
        summary="Silence an alert (for operators)",
        description="Sends no notices about its subject, or its whole rule, for a time: an hour unless told "
        "otherwise. The body may be left out. `otpqueue alerts unsilence` ends it.",
        parameters=(_ALERT_ID,),
        body=bodies.SilenceWanted,
        optional_body=True,
        answers={200: ("The alert", "Alert")},
        problems=(*_KEYED, *_BODY, "alert_not_found"),
        key="admin",
    ),
    Operation(
        method="POST",
        path="/v1/infobip/receipts",
        summary="Take delivery reports (for Infobip)",
        description="Called by Infobip, with the Basic credentials of OTPQUEUE_RECEIPTS_USER. Both shapes of "
        "report, in batches; duplicates and late ones change nothing.",
        body=Reports,
        answers={200: ("Taken", "Taken")},
        problems=(
            "invalid_request",
            "unauthenticated",
            "https_required",
            "database_unavailable",
            "too_busy",
            *_BODY,
            *_ANY,
        ),
        basic=True,
    ),
    Operation(
        method="POST",
        path="/request-otp",
        summary="Ask for a code (the guide's call)",
        description="For front ends written after the public guide. Problems come with the guide's "
        "`success`, `error` and `errorCode` beside the problem details.",
        parameters=(_IDEMPOTENCY_KEY,),
        body=bodies.GuideRequest,
        answers={202: ("Accepted", "GuideAccepted")},
        problems=(*_KEYED, *_BODY, *_REPEATED, "request_not_found", "invalid_phone_number", *_NEW),
        key="send",
        guide=True,
    ),
    Operation(
        method="POST",
        path="/verify-otp",
        summary="Check a code (the guide's call)",
        description="Checks the newest live request for the number and session. A code that is not accepted "
        "is a 400, whatever the reason; `errorCode` tells which. Without an API key, a number without a live "
        "request of this session is `PIN_NOT_FOUND`, whether it was never used or has a request of another "
        "session.",
        parameters=(_IDEMPOTENCY_KEY,),
        body=bodies.GuideVerify,
        answers={200: ("The code is right", "GuideVerified")},
        problems=(*_KEYED, *_BODY, *_CHECK, *_REPEATED),
        key="verify",
        guide=True,
    ),
    Operation(
        method="GET",
        path="/health",
        summary="How every part does",
        description="200 while calls can be answered (`healthy`, `degraded`), 503 when not (`unhealthy`).",
        answers={200: ("Calls can be answered", "Health"), 503: ("They cannot", "Health")},
        problems=_ANY,
    ),
    Operation(
        method="GET",
        path="/health/ready",
        summary="Whether to send calls here",
        description="As `/health`.",
        answers={200: ("Calls can be answered", "Health"), 503: ("They cannot", "Health")},
        problems=_ANY,
    ),
    Operation(
        method="GET",
        path="/health/live",
        summary="Whether the process lives",
        description="Touches nothing else.",
        answers={200: ("It does", "Alive")},
        problems=_ANY,
    ),
    Operation(
        method="GET",
        path="/metrics",
        summary="See how the service does, in figures (for Prometheus)",
        description="Counters and times of this server's processes, and what Postgres and Redis say of the "
        "whole service: docs/metrics.md. Where OTPQUEUE_METRICS_TOKEN is set, that is the bearer token, and "
        "an API key is none.",
        answers={200: ("All metrics", "Metrics")},
        problems=_KEYED,
        key="admin",
        media_type="text/plain",
    ),
)


def _object(properties: dict[str, Any], *, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


def _time(description: str) -> dict[str, Any]:
    return {"type": ["string", "null"], "format": "date-time", "description": description}


def _request() -> dict[str, Any]:
    return {
        "id": _text("UUIDv7", format="uuid"),
        "status": _text("how it stands", enum=sorted(SHOWN)),
        "reason": {
            "type": ["string", "null"],
            "enum": [*(reason.value for reason in Reason), None],
            "description": "why it ended",
        },
        "provider_code": {"type": ["string", "null"], "description": "Infobip's word for the last failure"},
        "phone_number": {
            "type": ["string", "null"],
            "description": "masked",
            "examples": ["+44********23"],
        },
        "channel": _text("how the code travels", enum=["sms", "voice"]),
        "client_reference": {"type": ["string", "null"]},
        "created_at": _text("when it was accepted", format="date-time"),
        "send_by": _text("a code that has not left by then is given up", format="date-time"),
        "sent_at": _time("when Infobip took it"),
        "expires_at": _time("when the code stops being good; null until it is sent"),
        "verified_at": _time("when the right code came"),
        "checks_left": {"type": "integer", "minimum": 0},
        "sends_left": {"type": "integer", "minimum": 0},
        "resend_after": _time("when the next resend may be asked for"),
        "resend": {
            "description": "how the newest resend stands",
            "oneOf": [
                {"type": "null"},
                _object(
                    {
                        "status": _text("", enum=["pending", "sent", "failed"]),
                        "channel": _text("", enum=["sms", "voice"]),
                        "reason": {"type": ["string", "null"]},
                    }
                ),
            ],
        },
    }


def _problem() -> dict[str, Any]:
    field_error = _object({"field": {"type": "string"}, "message": {"type": "string"}})
    return {
        "type": _text("the problem's place in the docs"),
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": _text("what is wrong here, and how to mend it"),
        "code": _text("stable; decide on this", enum=sorted(PROBLEMS)),
        "errors": {"type": "array", "items": field_error, "description": "one per field that is wrong"},
        "checks_left": {"type": "integer", "description": "with `code_incorrect`"},
        "limit": _text("with `limit_exceeded`", enum=sorted(LIMITS)),
    }


def _shown_schemas() -> dict[str, Any]:
    request, problem, optional = _request(), _problem(), ("errors", "checks_left", "limit")
    guides_own = {
        "success": {"type": "boolean", "const": False},
        "error": {"type": "string"},
        "errorCode": {"type": "string"},
    }
    yes = {"type": "boolean", "const": True}
    health = {
        "status": "`healthy`, `degraded` or `unhealthy`",
        "redis": "`connected`, `unreachable` or `refuses writes`",
        "infobip": "`connected`, `no recent traffic`, `failing: CAUSE`, `paused: CAUSE`, `not configured` or "
        "`unknown`; CAUSE is `no answer`, `answers 5xx`, `answers 401 or 403` or `answers 404`",
        "database": "`connected`, `unreachable` or `not migrated`",
        "workers": "`running`, or the queues that are `silent`, `cut off from the broker` or `starting`",
        "beat": "`running`, `starting`, `cut off from the broker`, `silent` or `unknown`",
        "sending": "`on`, `stopped` or `stopped in part`",
        "timestamp": "when the parts were checked",
    }
    skew = {
        "type": ["number", "null"],
        "description": "how far the clock of a host is ahead of Postgres's, of the host that is off most",
    }
    return {
        "OtpRequest": _object(request),
        "Found": _object(
            {
                "requests": {"type": "array", "items": _object({**request, "client": _text("who asked")})},
                "next_cursor": {"type": ["string", "null"], "description": "leads to the next page"},
            }
        ),
        "Verified": _object({"verified": yes, **request}),
        "Problem": _object(problem, optional=optional),
        "GuideProblem": _object({**problem, **guides_own}, optional=optional),
        "GuideAccepted": _object(
            {
                "success": yes,
                "message": {"type": "string"},
                "requestId": {"type": "string", "format": "uuid"},
                "statusUrl": {"type": "string"},
            }
        ),
        "GuideVerified": _object({"success": yes, "message": {"type": "string"}}),
        "Health": _object({name: _text(said) for name, said in health.items()} | {"clock_skew_s": skew}),
        "History": history.schema(),
        "Erased": numbers.schema(),
        "Alert": alerts.schema(),
        "Alerts": _object({"alerts": {"type": "array", "items": alerts.schema()}}),
        "Statistics": stats.schema(),
        "Taken": _object({"received": {"type": "integer"}, "new": {"type": "integer"}}),
        "Alive": _object({"status": {"type": "string"}}),
        "Metrics": _text("in Prometheus's text format, version 0.0.4"),
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_HEADERS = {
    "RateLimit-Policy": {
        "description": "the limits that the call was counted against: quota `q`, window `w` in seconds "
        "(draft-ietf-httpapi-ratelimit-headers-11)",
        "schema": {"type": "string"},
        "example": '"key_rate";q=100;w=1, "number_15m";q=3;w=900',
    },
    "RateLimit": {
        "description": "how they stand: `r` left, more in `t` seconds",
        "schema": {"type": "string"},
        "example": '"key_rate";r=99;t=1, "number_15m";r=2;t=900',
    },
}
_RETRY_AFTER = {
    "Retry-After": {"description": "try again after so many seconds", "schema": {"type": "integer"}}
}


def _responses(operation: Operation) -> dict[str, Any]:
    responses = _without_headers(operation)
    for status, response in responses.items():
        headers = _HEADERS if operation.key and status != "401" else {}
        if shown := headers | (_RETRY_AFTER if status in {"429", "503"} else {}):
            response["headers"] = shown
    return responses


def _without_headers(operation: Operation) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, (description, schema) in operation.answers.items():
        content = {"content": {operation.media_type: {"schema": _ref(schema)}}} if schema else {}
        responses[str(status)] = {"description": description, **content}
    guides_own = {410: 400, 409: 400, 422: 400, 404: 400}
    by_status: dict[int, list[str]] = {}
    for code in operation.problems:
        status = PROBLEMS[code].status
        if operation.guide and code not in _OPEN:
            busy = code in {"check_in_progress", "idempotency_in_progress"}
            status = 429 if busy else guides_own.get(status, status)
        by_status.setdefault(status, []).append(code)
    for status, codes in sorted(by_status.items()):
        problem = _ref("GuideProblem" if operation.guide and not set(codes) <= set(_OPEN) else "Problem")
        responses.setdefault(
            str(status),
            {
                "description": ", ".join(f"`{code}`" for code in codes),
                "content": {CONTENT_TYPE: {"schema": problem}},
            },
        )
    return responses


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "description": operation.description,
        "operationId": f"{operation.method.lower()}{operation.path.replace('/', '_').translate(_NO_BRACES)}",
        "responses": _responses(operation),
    }
    if operation.parameters:
        described["parameters"] = list(operation.parameters)
    if operation.body:
        content = {"application/json": {"schema": _ref(operation.body.__name__)}}
        described["requestBody"] = {"required": not operation.optional_body, "content": content}
    if operation.basic:
        described["security"] = [{"receipts": []}]
    if operation.key:
        described["security"] = [{"apiKey": []}, {}] if operation.guide else [{"apiKey": []}]
    return described


_NO_BRACES = str.maketrans("", "", "{}")


def query_parameters() -> dict[tuple[str, str], frozenset[str]]:
    """Return what may stand in the query of each call but the open ones, by method and path."""
    return {
        (one.method, one.path): frozenset(known["name"] for known in one.parameters if known["in"] == "query")
        for one in OPERATIONS
        if one.key or one.basic
    }


def build() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    schemas = _shown_schemas()
    for operation in OPERATIONS:
        if operation.body:
            schemas[operation.body.__name__] = operation.body.model_json_schema(by_alias=True)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "otpqueue",
            "version": version("otpqueue"),
            "description": "SMS one-time passcodes: prove that a person holds a phone number.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "description": "`otpqueue keys create`"},
                "receipts": {"type": "http", "scheme": "basic", "description": "OTPQUEUE_RECEIPTS_USER"},
            },
        },
    }
