"""The webhooks of the OpenAPI document: the events that otpqueue posts to clients.

The worker writes them in `store/webhooks/deliveries.py`; a test compares what it posts with these models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from otpqueue.api import tags
from otpqueue.api.endpoints import HeaderParameter
from otpqueue.api.openapi import examples
from otpqueue.api.responses import ResponseModel, ShownStatus, Timestamp
from otpqueue.domain.request import Channel, Reason
from otpqueue.domain.webhooks import TEST, WebhookEvent

Referrer = Callable[[type[BaseModel]], dict[str, str]]

MEANINGS: Mapping[WebhookEvent, str] = {
    WebhookEvent.SENT: "The code was sent.",
    WebhookEvent.DELIVERED: "A delivery report confirmed delivery.",
    WebhookEvent.UNDELIVERED: "A delivery report reported a failure. `delivered` or `verified` may follow.",
    WebhookEvent.VERIFIED: "The correct code was entered. Final.",
    WebhookEvent.FAILED: "The code could not be sent. `reason` and `provider_code` say why. Final.",
    WebhookEvent.EXPIRED: "The code was not sent or not entered in time. Final.",
    WebhookEvent.LOCKED: "Too many wrong codes were entered. Final.",
    WebhookEvent.CANCELLED: "The application cancelled the request, or a newer one replaced it. Final.",
}
"""What each event reports."""

HEADERS: tuple[HeaderParameter, ...] = (
    HeaderParameter(
        name="webhook-id",
        description="id of the event, the same for each attempt; ignore an id that you have processed",
        schema={
            "type": "string",
            "format": "uuid",
            "examples": ["5f0f5a0e-1d52-4c5e-9f5e-0c9a4a1f2b11"],
        },
    ),
    HeaderParameter(
        name="webhook-timestamp",
        description="time of this attempt in Unix seconds; reject it if it is more than five minutes off",
        schema={"type": "string", "pattern": "^[0-9]+$", "examples": ["1795642508"]},
    ),
    HeaderParameter(
        name="webhook-signature",
        description="`v1,` and the Base64 of the HMAC-SHA256 over `webhook-id`, `webhook-timestamp` and the "
        "body, joined with dots; the key is the Base64-decoded secret after `whsec_`. While the secret is "
        "rotated there are two signatures with a space between them; accept the event if one matches",
        schema={"type": "string", "examples": ["v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="]},
    ),
)
"""The headers that sign an event."""


class WebhookRequestData(ResponseModel):
    """The request that an event is about."""

    id: UUID = Field(description="id of the request")
    status: ShownStatus = Field(description="the status that the event reports")
    reason: Reason | None = Field(description="why the request ended")
    provider_code: str | None = Field(description="Infobip's code for the last failure")
    phone_number: str | None = Field(description="masked; null if it can no longer be read")
    channel: Channel
    client_reference: str | None = Field(description="the client's own reference, unchanged")
    created_at: Timestamp = Field(description="when the request was accepted")
    sent_at: Timestamp | None = Field(description="when the first code was sent")
    expires_at: Timestamp | None = Field(description="expiry of the code at the time of the event")


class WebhookEventBody(ResponseModel):
    """An event: a request has reached a status."""

    type: WebhookEvent
    timestamp: Timestamp = Field(description="time of the event")
    data: WebhookRequestData


class WebhookTestData(ResponseModel):
    """The client of a test."""

    client: str = Field(description="name of the client")


class WebhookTestBody(ResponseModel):
    """A test of the receiver: `otpqueue webhooks test`."""

    type: Literal["otpqueue.test"]
    timestamp: Timestamp
    data: WebhookTestData


def describe_webhooks(refer: Referrer) -> dict[str, Any]:
    """Return the webhooks by type of event; `refer` returns the reference to a model's component."""
    described = {
        event.value: _describe_webhook(event.value, meaning, WebhookEventBody, refer)
        for event, meaning in MEANINGS.items()
    }
    meaning = "An operator tests the receiver with `otpqueue webhooks test`."
    described[TEST] = _describe_webhook(TEST, meaning, WebhookTestBody, refer)
    return described


def _describe_webhook(event: str, meaning: str, model: type[BaseModel], refer: Referrer) -> dict[str, Any]:
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
                for header in HEADERS
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": refer(model),
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
