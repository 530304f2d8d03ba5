"""The OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from otpqueue.api import tags
from otpqueue.api.endpoints import ApiEndpoint
from otpqueue.api.openapi.operations import RATE_HEADERS, RETRY_AFTER, ProblemExamples, describe_operation
from otpqueue.api.openapi.schemas import describe_models, refer_to
from otpqueue.api.openapi.webhooks import describe_webhooks

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


def build(endpoints: Sequence[ApiEndpoint]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    schemas = describe_models(endpoints)
    problems = ProblemExamples()
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = describe_operation(
            endpoint, schemas, problems
        )
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
        "webhooks": describe_webhooks(refer_to),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "examples": dict(sorted(problems.used.items())),
            "headers": RATE_HEADERS | RETRY_AFTER,
            "securitySchemes": _SECURITY_SCHEMES,
        },
    }
