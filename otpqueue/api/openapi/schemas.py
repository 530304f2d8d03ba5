"""The schemas of the OpenAPI document, from the models of bodies, queries and answers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from otpqueue.api.endpoints import ApiEndpoint
from otpqueue.api.openapi.webhooks import WebhookEventBody, WebhookTestBody
from otpqueue.api.problems import PROBLEM_DETAILS

_REFERENCE = "#/components/schemas/{model}"
_NAMES = {
    "Alerts": "AlertList",
    "Alive": "Liveness",
    "Audit": "AuditPage",
    "AuditWanted": "AuditSearch",
    "Breakdown": "StatisticsGroup",
    "Counts": "StatisticsCounts",
    "Dimension": "StatisticsDimension",
    "Durations": "DurationFigures",
    "Erased": "ErasedRows",
    "Erasures": "ErasureList",
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
        return super().normalize_name(name_component(name))

    def field_title_should_be_set(self, _schema: Any) -> bool:
        """Return False: a title would repeat the name of the field."""
        return False


def name_component(name: str) -> str:
    """Return the name of a component from the name of its class."""
    if name in _NAMES:
        return _NAMES[name]
    short = re.sub(r"(Response|Body)$", "", name)
    return _NAMES.get(short, short)


def describe_models(endpoints: Sequence[ApiEndpoint]) -> dict[str, Any]:
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
        for field in found[name_component(body.__name__)]["properties"].values():
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


def drop_null(field: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a query parameter, which can be absent but not null."""
    schema = dict(field)
    if schema.get("default", 0) is None:
        del schema["default"]
    others = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    if len(others) == 1:
        del schema["anyOf"]
        schema = others[0] | schema
    return schema


def refer_to(model: type[BaseModel]) -> dict[str, str]:
    """Return a reference to the component of a model."""
    return {"$ref": _REFERENCE.format(model=name_component(model.__name__))}
