"""The OpenAPI document, built from the endpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from otpqueue.api import examples, idempotency, tags, webhook_events
from otpqueue.api.endpoints import ANY_CALL_ERRORS, ApiEndpoint, Errors, HeaderParameter
from otpqueue.api.problems import CONTENT_TYPE, PROBLEM_DETAILS, ProblemFormat
from otpqueue.api.webhook_events import WebhookEventBody, WebhookTestBody
from otpqueue.domain.errors import OtpqueueError
from otpqueue.domain.webhooks import TEST

_DESCRIPTION = """\
SMS one-time passcodes: prove that a person has access to a phone number.

1. Request a code with `sendCode`. The API answers at once, and a worker sends the code.
2. Poll the request with `getRequest`, or receive [webhooks](/docs/webhooks).
3. Check what the person typed with `verifyCode`. Only status 200 means that the code is correct.

**Authentication.** Send `Authorization: Bearer <api key>`. `otpqueue keys create` creates a key. The security
requirement of each call names the scopes of which the key needs one.

**Errors** are `application/problem+json` (RFC 9457). Programs should use `code`. The page of
[problem codes](/docs/problems) has the cause and remedy of each. `Retry-After` says how many seconds to wait
before a retry.

**Idempotency.** Send an `Idempotency-Key`, a new UUID for each new call, and repeat the call if no answer
arrives. For 24 hours a repeated call gets the first answer, with `Idempotent-Replayed: true`, and nothing is
done twice.

**Times** are UTC in ISO 8601. Ignore fields that you do not know: later versions may add fields to answers.
Every answer has an `X-Request-Id`: the caller's own, if it sent one, which also is in the logs.
"""
_IDEMPOTENCY_KEY = HeaderParameter(
    name=idempotency.HEADER,
    description="1 to 255 printable ASCII characters; a new key for each new call. For 24 hours a repeated "
    "call with the same key gets the first answer, with `Idempotent-Replayed: true`, once the call was "
    "accepted",
    schema={"type": "string", "minLength": 1, "maxLength": idempotency.LONGEST, "pattern": "^[ -~]+$"},
)
_RATE_HEADERS = {
    "RateLimit-Policy": {
        "description": "limits that the call was counted against: quota `q`, window `w` in seconds "
        "(draft-ietf-httpapi-ratelimit-headers-11)",
        "schema": {"type": "string"},
        "example": '"key_rate";q=100;w=1, "number_15m";q=3;w=900',
    },
    "RateLimit": {
        "description": "what remains of these limits: `r` calls, reset in `t` seconds",
        "schema": {"type": "string"},
        "example": '"key_rate";r=99;t=1, "number_15m";r=2;t=900',
    },
}
_RETRY_AFTER = {
    "Retry-After": {"description": "seconds to wait before a retry", "schema": {"type": "integer"}}
}
_REFERENCE = "#/components/schemas/{model}"
_SERVERS = [
    {"url": "/", "description": "the server of this document"},
    {
        "url": "https://{host}",
        "description": "another deployment",
        "variables": {"host": {"default": "otp.example.com", "description": "host name, and port if needed"}},
    },
]
_SECURITY_SCHEMES = {
    "apiKey": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "oq_PREFIX_SECRET",
        "description": "API key of a client: `otpqueue keys create`",
    },
    "metricsToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "value of OTPQUEUE_METRICS_TOKEN; if it is set, API keys are not accepted",
    },
    "receipts": {
        "type": "http",
        "scheme": "basic",
        "description": "OTPQUEUE_RECEIPTS_USER and OTPQUEUE_RECEIPTS_PASSWORD",
    },
}
_NAMES = {
    "Alerts": "AlertList",
    "Alive": "Liveness",
    "Breakdown": "StatisticsGroup",
    "Counts": "StatisticsCounts",
    "Dimension": "StatisticsDimension",
    "Durations": "DurationFigures",
    "Erased": "ErasedRows",
    "Figures": "StatisticsFigures",
    "Found": "OtpRequestPage",
    "FoundRequest": "ListedOtpRequest",
    "NewestResend": "ResendResult",
    "Reason": "EndReason",
    "Reports": "DeliveryReports",
    "Resend": "ResendStatus",
    "ResendWanted": "ResendOptions",
    "SearchWanted": "NumberSearch",
    "SilenceWanted": "SilenceOptions",
    "Taken": "ReceivedReports",
    "Tally": "StatisticsTally",
    "Verified": "VerifiedOtpRequest",
    "WebhookEvent": "WebhookEventType",
    "WebhookEventBody": "WebhookEvent",
    "WebhookRequestData": "WebhookEventData",
    "WebhookTestBody": "WebhookTest",
}
"""Components with names for callers, where the name of the class serves the code."""


class ComponentSchema(GenerateJsonSchema):
    """Generates schemas with components named after their models, without titles of fields."""

    def normalize_name(self, name: str) -> str:
        """Return the name of a model's component: `OtpRequest` for OtpRequestResponse."""
        return super().normalize_name(_component_name(name))

    def field_title_should_be_set(self, _schema: Any) -> bool:
        """Return False: a title would repeat the name of the field."""
        return False


def _component_name(name: str) -> str:
    if name in _NAMES:
        return _NAMES[name]
    short = re.sub(r"(Response|Body)$", "", name)
    return _NAMES.get(short, short)


def build(endpoints: Sequence[ApiEndpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    schemas = _describe_models(endpoints)
    problems = _ProblemExamples()
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _describe(endpoint, schemas, problems)
    used = {endpoint.tag for endpoint in endpoints} | {tags.WEBHOOKS}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "otpqueue",
            "version": version("otpqueue"),
            "summary": "SMS one-time passcodes",
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": _SERVERS,
        "tags": [{"name": tag.name, "description": tag.description} for tag in tags.ALL if tag in used],
        "externalDocs": {"description": "Documentation", "url": "/docs"},
        "paths": paths,
        "webhooks": _describe_webhooks(),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "examples": dict(sorted(problems.used.items())),
            "headers": _RATE_HEADERS | _RETRY_AFTER,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }


def _describe_models(endpoints: Sequence[ApiEndpoint]) -> dict[str, Any]:
    """Return the schemas of all models by component; those of queries have the prefix `query:`."""
    models: dict[type[BaseModel], JsonSchemaMode] = {
        PROBLEM_DETAILS.model: "serialization",
        WebhookEventBody: "serialization",
        WebhookTestBody: "serialization",
    }
    for endpoint in endpoints:
        models[endpoint.problem_format.model] = "serialization"
        models |= {one.model: "serialization" for one in endpoint.successes.values() if one.model}
        if endpoint.body:
            models[endpoint.body] = "validation"
        if endpoint.query:
            models[endpoint.query] = "validation"
    _, schemas = models_json_schema(
        list(models.items()), by_alias=True, ref_template=_REFERENCE, schema_generator=ComponentSchema
    )
    found: dict[str, Any] = schemas["$defs"]
    for body in {endpoint.body for endpoint in endpoints if endpoint.body}:
        for field in found[_component_name(body.__name__)]["properties"].values():
            # openapi-typescript takes a field with a default for a required one.
            if (default := field.pop("default", None)) is not None:
                shown = default if isinstance(default, str) else json.dumps(default)
                field["description"] += f"; `{shown}` unless given"
    shared: dict[str, Any] = {}
    for schema in found.values():
        # The key of a component is its name.
        schema.pop("title", None)
        for name, part in schema.items():
            schema[name] = _share(part, shared)
    return shared | found


def _share(part: Any, shared: dict[str, Any]) -> Any:
    """Move the schemas that have a title into components of that name; return `part` with references."""
    if isinstance(part, list):
        return [_share(one, shared) for one in part]
    if not isinstance(part, dict):
        return part
    part = {name: _share(one, shared) for name, one in part.items()}
    title = part.get("title")
    if not isinstance(title, str):
        return part
    own = {name: part.pop(name) for name in ("default", "examples", "description") if name in part}
    if "enum" not in part:
        shared[title] = {"description": own.pop("description", title), **part}
    else:
        shared[title] = part
    del shared[title]["title"]
    return {"$ref": _REFERENCE.format(model=title), **own}


class _ProblemExamples:
    """The examples of problems, each stored once as a component."""

    def __init__(self) -> None:
        self.used: dict[str, Any] = {}

    def refer(self, form: ProblemFormat, error: type[OtpqueueError]) -> dict[str, str]:
        """Return a reference to the example of an error in a format."""
        prefix = "" if form.model is PROBLEM_DETAILS.model else _component_name(form.model.__name__) + "_"
        name = f"{prefix}{error.code}"
        self.used[name] = {
            "summary": error.title,
            "value": examples.build_problem(error, form),
        }
        return {"$ref": f"#/components/examples/{name}"}


def _describe(endpoint: ApiEndpoint, schemas: dict[str, Any], problems: _ProblemExamples) -> dict[str, Any]:
    described: dict[str, Any] = {
        "tags": [endpoint.tag.name],
        "summary": endpoint.summary,
        "description": endpoint.description,
        "operationId": endpoint.operation_id,
        "responses": _describe_responses(endpoint, problems),
    }
    if parameters := _describe_parameters(endpoint, schemas):
        described["parameters"] = parameters
    if endpoint.body:
        content: dict[str, Any] = {"schema": _reference(endpoint.body)}
        if body := examples.BODIES.get(endpoint.operation_id):
            content["examples"] = {name: {"value": value} for name, value in body.items()}
        described["requestBody"] = {
            "required": not endpoint.body_optional,
            "content": {"application/json": content},
        }
    if endpoint.access.security:
        described["security"] = list(_describe_security(endpoint))
    return described


def _describe_security(endpoint: ApiEndpoint) -> Iterable[dict[str, list[str]]]:
    """Yield the alternatives: each scope of which the API key needs one."""
    for requirement in endpoint.access.security:
        if "apiKey" in requirement and endpoint.scopes:
            yield from ({"apiKey": [scope]} for scope in endpoint.scopes)
        else:
            yield dict(requirement)


def _describe_parameters(endpoint: ApiEndpoint, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": parameter.description,
            "schema": {"type": "string", "format": "uuid"},
            "example": examples.PATH_PARAMETERS[name],
        }
        for name, parameter in endpoint.path_parameters.items()
    ]
    if endpoint.query:
        for name, field in schemas.pop(_component_name(endpoint.query.__name__))["properties"].items():
            schema = _drop_null(field)
            description = schema.pop("description")
            found.append({"name": name, "in": "query", "description": description, "schema": schema})
    headers = endpoint.headers + ((_IDEMPOTENCY_KEY,) if endpoint.accepts_idempotency_key else ())
    found += [
        {"name": one.name, "in": "header", "description": one.description, "schema": dict(one.schema)}
        for one in headers
    ]
    return found


def _drop_null(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a query parameter, which can be absent but not null."""
    schema = dict(field)
    if schema.get("default", 0) is None:
        del schema["default"]
    others = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(others) == 1:
        del schema["anyOf"]
        schema = others[0] | schema
    return schema


def _describe_responses(endpoint: ApiEndpoint, problems: _ProblemExamples) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, success in endpoint.successes.items():
        responses[str(status)] = {"description": success.description}
        if success.model:
            content: dict[str, Any] = {"schema": _reference(success.model)}
            if found := examples.RESPONSES.get(endpoint.operation_id, {}).get(status):
                content["examples"] = {name: {"value": value} for name, value in found.items()}
            responses[str(status)]["content"] = {success.media_type: content}
    for status, errors in sorted(_errors_by_status(endpoint).items()):
        is_general = set(errors) <= set(ANY_CALL_ERRORS)
        form = PROBLEM_DETAILS if is_general else endpoint.problem_format
        responses.setdefault(
            str(status),
            {
                "description": ", ".join(f"`{error.code}`" for error in errors),
                "content": {
                    CONTENT_TYPE: {
                        "schema": _reference(form.model),
                        "examples": {error.code: problems.refer(form, error) for error in errors},
                    }
                },
            },
        )
    for name, response in responses.items():
        headers = list(_RATE_HEADERS) if endpoint.access.is_rated and name != "401" else []
        headers += list(_RETRY_AFTER) if name in {"429", "503"} else []
        if headers:
            response["headers"] = {one: {"$ref": f"#/components/headers/{one}"} for one in headers}
    return responses


def _errors_by_status(endpoint: ApiEndpoint) -> dict[int, Errors]:
    by_status: dict[int, Errors] = {}
    for error in endpoint.all_errors:
        status = endpoint.problem_format.status_of(error)
        by_status[status] = (*by_status.get(status, ()), error)
    for error in ANY_CALL_ERRORS:
        by_status[error.status] = (*by_status.get(error.status, ()), error)
    return by_status


def _describe_webhooks() -> dict[str, Any]:
    described = {
        event.value: _describe_webhook(event.value, meaning, WebhookEventBody)
        for event, meaning in webhook_events.MEANINGS.items()
    }
    meaning = "An operator tests the receiver with `otpqueue webhooks test`."
    described[TEST] = _describe_webhook(TEST, meaning, WebhookTestBody)
    return described


def _describe_webhook(event: str, meaning: str, model: type[BaseModel]) -> dict[str, Any]:
    verb = re.sub(r"\W|_", " ", event.rpartition(".")[2]).title().replace(" ", "")
    return {
        "post": {
            "tags": [tags.WEBHOOKS.name],
            "summary": event,
            "description": f"{meaning} Verify the signature over the raw body before you parse it. An event "
            "can arrive twice, with the same `webhook-id`. A webhook is not proof of identity: accept a "
            "person only after a 200 to your own call of `verifyCode`.",
            "operationId": f"on{verb}",
            "security": [],
            "parameters": [
                {
                    "name": header.name,
                    "in": "header",
                    "required": True,
                    "description": header.description,
                    "schema": dict(header.schema),
                }
                for header in webhook_events.HEADERS
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": _reference(model),
                        "examples": {"event": {"value": examples.build_event(event)}},
                    }
                },
            },
            "responses": {
                "2XX": {"description": "The event is accepted."},
                "410": {"description": "The endpoint is disabled at once, and the operator is notified."},
                "default": {"description": "The event is retried for about a day."},
            },
        }
    }


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=_component_name(model.__name__))}
