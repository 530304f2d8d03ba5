"""The operations of the OpenAPI document, from the endpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from otpqueue.api import idempotency
from otpqueue.api.endpoints import ANY_CALL_ERRORS, ApiEndpoint, Errors, HeaderParameter
from otpqueue.api.openapi import examples
from otpqueue.api.openapi.schemas import drop_null, name_component, refer_to
from otpqueue.api.problems import CONTENT_TYPE, PROBLEM_DETAILS, ProblemFormat
from otpqueue.domain.errors import OtpqueueError

_IDEMPOTENCY_KEY = HeaderParameter(
    name=idempotency.HEADER,
    description="1 to 255 printable ASCII characters; a new key for each new call. For 24 hours a repeated "
    "call with the same key gets the first answer, with `Idempotent-Replayed: true`, once the call was "
    "accepted",
    schema={"type": "string", "minLength": 1, "maxLength": idempotency.LONGEST, "pattern": "^[ -~]+$"},
)
RATE_HEADERS = {
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
RETRY_AFTER = {
    "Retry-After": {"description": "seconds to wait before a retry", "schema": {"type": "integer"}}
}


class ProblemExamples:
    """The examples of problems, each stored once as a component."""

    def __init__(self) -> None:
        self.used: dict[str, Any] = {}

    def refer(self, form: ProblemFormat, error: type[OtpqueueError]) -> dict[str, str]:
        """Return a reference to the example of an error in a format."""
        prefix = "" if form.model is PROBLEM_DETAILS.model else name_component(form.model.__name__) + "_"
        name = f"{prefix}{error.code}"
        self.used[name] = {
            "summary": error.title,
            "value": examples.build_problem(error, form),
        }
        return {"$ref": f"#/components/examples/{name}"}


def describe_operation(
    endpoint: ApiEndpoint, schemas: dict[str, Any], problems: ProblemExamples
) -> dict[str, Any]:
    """Return the operation of an endpoint. Takes the schema of its query out of `schemas`."""
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
        content: dict[str, Any] = {"schema": refer_to(endpoint.body)}
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
        for name, field in schemas.pop(name_component(endpoint.query.__name__))["properties"].items():
            schema = drop_null(field)
            description = schema.pop("description")
            found.append({"name": name, "in": "query", "description": description, "schema": schema})
    headers = endpoint.headers + ((_IDEMPOTENCY_KEY,) if endpoint.accepts_idempotency_key else ())
    found += [
        {"name": one.name, "in": "header", "description": one.description, "schema": dict(one.schema)}
        for one in headers
    ]
    return found


def _describe_responses(endpoint: ApiEndpoint, problems: ProblemExamples) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, success in endpoint.successes.items():
        responses[str(status)] = {"description": success.description}
        if success.model:
            content: dict[str, Any] = {"schema": refer_to(success.model)}
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
                        "schema": refer_to(form.model),
                        "examples": {error.code: problems.refer(form, error) for error in errors},
                    }
                },
            },
        )
    for name, response in responses.items():
        headers = list(RATE_HEADERS) if endpoint.access.is_rated and name != "401" else []
        headers += list(RETRY_AFTER) if name in {"429", "503"} else []
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
