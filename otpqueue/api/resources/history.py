"""`/v1/otp-requests/{request_id}/history`: the history of a request, for operators."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Self
from uuid import UUID

from pydantic import Field

from otpqueue.api import tags
from otpqueue.api.auth import ApiKeyAuthentication
from otpqueue.api.endpoints import ApiCall, ApiEndpoint, Success, serves
from otpqueue.api.responses import ClosedModel, Price, ShownStatus, Timestamp
from otpqueue.domain.history import EventKind, History
from otpqueue.operations.history import ReadHistory


class AcceptedDetails(ClosedModel):
    """Of a request that was accepted."""

    client: str
    phone_number: str | None
    channel: str
    country: str | None
    language: str | None


class ClaimDetails(ClosedModel):
    """Of an attempt to send that a worker claimed."""

    number: int
    kind: str
    channel: str
    worker: str


class AttemptDetails(ClaimDetails):
    """Of an attempt to send that ended."""

    claimed_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp
    outcome: str
    retryable: bool | None
    code: str | None
    http_status: int | None
    latency_ms: int | None
    evidence: str | None
    delivery: str | None
    delivery_status: str | None
    delivery_error: str | None
    done_at: Timestamp | None
    price: Price | None
    currency: str | None


class StartedCheckDetails(ClosedModel):
    """Of a check that started."""

    number: int


class CheckDetails(StartedCheckDetails):
    """Of a check that ended."""

    started_at: Timestamp
    finished_at: Timestamp
    verdict: str
    code: str | None
    http_status: int | None
    latency_ms: int | None


class ReceiptDetails(ClosedModel):
    """Of a delivery report."""

    attempt: int | None
    received_at: Timestamp
    done_at: Timestamp | None
    delivery: str
    status: str
    error: str | None
    price: Price | None
    currency: str | None


class TransitionDetails(ClosedModel):
    """Of a change of the status, or of a resend."""

    was: str | None
    became: str
    reason: str | None


class HistoryEventResponse(ClosedModel):
    """Something that happened to a request."""

    at: Timestamp
    after_ms: int = Field(description="milliseconds since the request was accepted")
    kind: EventKind
    summary: str = Field(description="one line for a person")
    # Every model has fields of its own and no others, so exactly one matches. The longer of two comes first:
    # generated clients try them in this order.
    details: (
        AcceptedDetails
        | AttemptDetails
        | ClaimDetails
        | CheckDetails
        | StartedCheckDetails
        | ReceiptDetails
        | TransitionDetails
    ) = Field(description="the details of this `kind`")


class HistoryResponse(ClosedModel):
    """A request and everything that happened to it, as operators see it."""

    id: UUID
    client: str = Field(description="name of the client that made the request")
    status: ShownStatus
    reason: str | None
    provider_code: str | None
    phone_number: str | None = Field(description="masked")
    country: str | None
    language: str | None
    channel: str
    created_at: Timestamp
    send_by: Timestamp
    sent_at: Timestamp | None
    expires_at: Timestamp | None
    verified_at: Timestamp | None
    finished_at: Timestamp | None
    sends: int
    checks_used: int
    checks_allowed: int
    events: list[HistoryEventResponse]

    @classmethod
    def of(cls, history: History) -> Self:
        """Return the response for a history."""
        head = {name: getattr(history, name) for name in cls.model_fields}
        events = [
            {
                "at": event.at,
                "after_ms": (event.at - history.created_at) // timedelta(milliseconds=1),
                "kind": event.kind,
                "summary": event.summary,
                "details": dict(event.details),
            }
            for event in history.events
        ]
        return cls.model_validate(head | {"status": history.shown_status, "events": events})


@dataclass(frozen=True, kw_only=True)
class RequestHistory:
    """`/v1/otp-requests/{request_id}/history`."""

    authentication: ApiKeyAuthentication
    history: ReadHistory

    @serves(
        ApiEndpoint(
            method="GET",
            path="/v1/otp-requests/{request_id}/history",
            operation_id="getRequestHistory",
            tag=tags.REQUESTS,
            summary="History of a request (for operators)",
            description="Every attempt to send, check, delivery report and change of status with its time, "
            "oldest first. A key with the scope `admin` can read requests of every client here.",
            successes={200: Success(description="The history", model=HistoryResponse)},
            scopes=("admin",),
        )
    )
    def on_get(self, _call: ApiCall, request_id: UUID) -> HistoryResponse:
        """Answer with the history of a request of any client."""
        return HistoryResponse.of(self.history(request_id))
