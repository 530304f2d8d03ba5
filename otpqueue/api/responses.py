"""Response bodies: what the API answers, as pydantic models.

A model's fields are the schema in the OpenAPI document and the JSON of the answer, in this order.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from otpqueue.domain.request import MAX_SENDS, SHOWN, Channel, OtpRequest, Reason, Resend, SendState, Status


def format_timestamp(moment: datetime) -> str:
    """Return a time in UTC as ISO 8601 with milliseconds and `Z`."""
    return moment.isoformat("T", "milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[
    datetime,
    PlainSerializer(format_timestamp, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Price = Annotated[
    Decimal,
    # A binary floating-point number would not be the exact price.
    PlainSerializer(lambda price: f"{price:f}", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "description": "exact decimal number", "examples": ["0.0077"]}),
]
ShownStatus = Annotated[
    str, WithJsonSchema({"type": "string", "enum": sorted(SHOWN), "title": "RequestStatus"})
]
CountByLabel = Annotated[
    dict[str, int],
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"type": "integer"},
            "description": "counts by label",
            "title": "CountByLabel",
        }
    ),
]
AmountByCurrency = Annotated[
    dict[str, str],
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "by currency; exact decimal numbers",
            "title": "AmountByCurrency",
        }
    ),
]


class ResponseModel(BaseModel):
    """A JSON object that the API answers. Later versions may add fields."""

    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


class ClosedModel(ResponseModel):
    """A JSON object that has these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class NewestResend(ResponseModel):
    """The newest resend of a request."""

    status: Resend
    channel: Channel | None
    reason: str | None = Field(description="why it failed")


class OtpRequestResponse(ResponseModel):
    """An OTP request, as its client sees it."""

    id: UUID = Field(description="UUIDv7")
    status: ShownStatus = Field(description="`sending` while a worker sends the first code")
    reason: Reason | None = Field(description="why the request ended")
    provider_code: str | None = Field(description="Infobip's code for the last failure")
    phone_number: str | None = Field(description="masked", examples=["+44********23"])
    channel: Channel = Field(description="how the code is sent")
    client_reference: str | None = Field(description="the client's own reference, unchanged")
    created_at: Timestamp = Field(description="when the request was accepted")
    send_by: Timestamp = Field(description="deadline for sending the code")
    sent_at: Timestamp | None = Field(description="when Infobip accepted the message")
    expires_at: Timestamp | None = Field(description="when the code expires; null until it is sent")
    verified_at: Timestamp | None = Field(description="when the correct code was checked")
    checks_left: int = Field(ge=0, description="how many more codes can be checked")
    sends_left: int = Field(ge=0, description="how many more times the code can be resent")
    resend_after: Timestamp | None = Field(description="earliest time of the next resend")
    resend: NewestResend | None = Field(description="the newest resend")

    @classmethod
    def of(cls, request: OtpRequest, **more: Any) -> Self:
        """Return the response for a request; `more` are the fields that a subclass adds."""
        is_final = request.is_final
        return cls(
            id=request.id,
            status=request.shown_status,
            reason=request.reason,
            provider_code=request.provider_code,
            phone_number=request.phone_number,
            channel=request.channel,
            client_reference=request.client_reference,
            created_at=request.created_at,
            send_by=request.send_by,
            sent_at=request.sent_at,
            expires_at=request.expires_at,
            verified_at=request.verified_at,
            checks_left=request.checks_left,
            sends_left=0 if is_final else MAX_SENDS - request.sends,
            resend_after=None if is_final else request.resend_after,
            resend=_describe_resend(request),
            **more,
        )


def _describe_resend(request: OtpRequest) -> NewestResend | None:
    if request.resend is None:
        return None
    return NewestResend(status=request.resend, channel=request.resend_channel, reason=request.resend_reason)


class VerifiedMark(ResponseModel):
    """Says that the code was correct. A base class, since its field comes first."""

    verified: Literal[True] = True


class VerifiedResponse(OtpRequestResponse, VerifiedMark):
    """A request that was verified."""


class FoundRequestResponse(OtpRequestResponse):
    """A request of any client, as operators see it."""

    client: str = Field(description="name of the client that made the request")


class FoundResponse(ResponseModel):
    """A page of requests."""

    requests: list[FoundRequestResponse]
    next_cursor: str | None = Field(description="cursor of the next page; null on the last page")


def build_path(request: OtpRequest) -> str:
    """Return the path of a request."""
    return f"/v1/otp-requests/{request.id}"


def choose_retry_after_s(request: OtpRequest) -> int:
    """Return the polling interval for a live request, in seconds."""
    return 1 if request.status is Status.QUEUED or request.send_state is not SendState.IDLE else 5
