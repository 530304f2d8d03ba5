"""The OpenAPI document, built from the endpoints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from otpqueue.api import idempotency
from otpqueue.api.endpoints import ANY_CALL_ERRORS, ApiEndpoint, Errors, HeaderParameter
from otpqueue.api.problems import CONTENT_TYPE, PROBLEM_DETAILS

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


class ComponentSchema(GenerateJsonSchema):
    """Generates schemas with components named after their models, without titles of fields."""

    def normalize_name(self, name: str) -> str:
        """Return the name of a model's component: `OtpRequest` for OtpRequestResponse."""
        return super().normalize_name(_component_name(name))

    def field_title_should_be_set(self, _schema: Any) -> bool:
        """Return False: a title would repeat the name of the field."""
        return False


def _component_name(name: str) -> str:
    return re.sub(r"(Response|Body)$", "", name)


def build(endpoints: Sequence[ApiEndpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _describe(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "otpqueue",
            "version": version("otpqueue"),
            "description": "SMS one-time passcodes: prove that a person has access to a phone number.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": _describe_models(endpoints),
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "description": "`otpqueue keys create`"},
                "receipts": {"type": "http", "scheme": "basic", "description": "OTPQUEUE_RECEIPTS_USER"},
            },
        },
    }


def _describe_models(endpoints: Sequence[ApiEndpoint]) -> dict[str, Any]:
    models: dict[type[BaseModel], JsonSchemaMode] = {PROBLEM_DETAILS.model: "serialization"}
    for endpoint in endpoints:
        models[endpoint.problem_format.model] = "serialization"
        models |= {one.model: "serialization" for one in endpoint.successes.values() if one.model}
        if endpoint.body:
            models[endpoint.body] = "validation"
    _, schemas = models_json_schema(
        list(models.items()), by_alias=True, ref_template=_REFERENCE, schema_generator=ComponentSchema
    )
    found: dict[str, Any] = schemas["$defs"]
    return found


def _describe(endpoint: ApiEndpoint) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": endpoint.summary,
        "description": endpoint.description,
        "operationId": f"{endpoint.method.lower()}{re.sub('[{}]', '', endpoint.path.replace('/', '_'))}",
        "responses": _describe_responses(endpoint),
    }
    if parameters := _describe_parameters(endpoint):
        described["parameters"] = parameters
    if endpoint.body:
        content = {"application/json": {"schema": _reference(endpoint.body)}}
        described["requestBody"] = {"required": not endpoint.body_optional, "content": content}
    if endpoint.access.security:
        described["security"] = [dict(one) for one in endpoint.access.security]
    return described


def _describe_parameters(endpoint: ApiEndpoint) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": parameter.description,
            "schema": {"type": "string", "format": "uuid"},
        }
        for name, parameter in endpoint.path_parameters.items()
    ]
    if endpoint.query:
        fields = endpoint.query.model_json_schema(schema_generator=ComponentSchema)["properties"]
        for name, field in fields.items():
            schema = {key: value for key, value in field.items() if key != "description"}
            found.append({"name": name, "in": "query", "description": field["description"], "schema": schema})
    headers = endpoint.headers + ((_IDEMPOTENCY_KEY,) if endpoint.accepts_idempotency_key else ())
    found += [
        {"name": one.name, "in": "header", "description": one.description, "schema": dict(one.schema)}
        for one in headers
    ]
    return found


def _describe_responses(endpoint: ApiEndpoint) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, success in endpoint.successes.items():
        model = success.model
        content = {"content": {success.media_type: {"schema": _reference(model)}}} if model else {}
        responses[str(status)] = {"description": success.description, **content}
    for status, found in sorted(_errors_by_status(endpoint).items()):
        is_general = set(found) <= set(ANY_CALL_ERRORS)
        model = (PROBLEM_DETAILS if is_general else endpoint.problem_format).model
        responses.setdefault(
            str(status),
            {
                "description": ", ".join(f"`{error.code}`" for error in found),
                "content": {CONTENT_TYPE: {"schema": _reference(model)}},
            },
        )
    for name, response in responses.items():
        headers = _RATE_HEADERS if endpoint.access.is_rated and name != "401" else {}
        if shown := headers | (_RETRY_AFTER if name in {"429", "503"} else {}):
            response["headers"] = shown
    return responses


def _errors_by_status(endpoint: ApiEndpoint) -> dict[int, Errors]:
    by_status: dict[int, Errors] = {}
    for error in endpoint.all_errors:
        status = endpoint.problem_format.status_of(error)
        by_status[status] = (*by_status.get(status, ()), error)
    for error in ANY_CALL_ERRORS:
        by_status[error.status] = (*by_status.get(error.status, ()), error)
    return by_status


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=_component_name(model.__name__))}
