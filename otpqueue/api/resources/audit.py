"""`/v1/audit` and `/v1/erasures`: what operators did, and proof of erasures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from pydantic import Field

from otpqueue.api import tags
from otpqueue.api.audit_bodies import AuditQuery, AuditWanted, ErasuresQuery
from otpqueue.api.auth import ApiKeyAuthentication
from otpqueue.api.endpoints import ApiCall, ApiEndpoint, Success, serves
from otpqueue.api.responses import ClosedModel, CountByLabel, ResponseModel, Timestamp
from otpqueue.domain.audit import (
    AuditEntry,
    AuditFilters,
    AuditOutcome,
    AuditSurface,
    ErasureRecord,
    OperatorAction,
)
from otpqueue.domain.errors import InvalidPhoneNumber
from otpqueue.operations.auditing import AuditTrail


class AuditEntryResponse(ClosedModel):
    """An action of an operator."""

    id: UUID
    at: Timestamp
    action: str = Field(
        description="[docs/audit.md](/docs/audit) lists the actions", examples=["number_blocked"]
    )
    outcome: AuditOutcome
    surface: AuditSurface = Field(description="where the action came from")
    actor: str = Field(description="prefix of the API key, or system user and host of the command line")
    key_id: UUID | None
    session: str | None = Field(description="short name of the console session")
    peer: str | None = Field(description="network of the caller: /24, or /48 for IPv6")
    call_id: str | None = Field(description="`X-Request-Id` of the call")
    client: str | None = Field(description="name of the client that it concerned")
    target: str | None = Field(description="what it concerned, such as a key prefix, a rule or an id")
    country: str | None
    phone_number: str | None = Field(
        description="masked number and tag, for as long as requests are kept; null once the number is erased"
    )
    request_id: UUID | None = Field(description="the request that it concerned, kept as `phone_number` is")
    reason: str | None
    details: dict[str, Any] = Field(description="more about the action; depends on `action`")

    @classmethod
    def of(cls, entry: AuditEntry) -> Self:
        """Return the response for an entry."""
        actor = entry.actor
        return cls(
            id=entry.id,
            at=entry.at,
            action=entry.action,
            outcome=entry.outcome,
            surface=actor.surface,
            actor=actor.name,
            key_id=actor.key_id,
            session=actor.session,
            peer=actor.peer,
            call_id=actor.call_id,
            client=entry.client,
            target=entry.target,
            country=entry.country,
            phone_number=entry.phone_number,
            request_id=entry.request_id,
            reason=entry.reason,
            details=dict(entry.details),
        )


class AuditResponse(ResponseModel):
    """A page of the audit trail."""

    entries: list[AuditEntryResponse]
    next_cursor: str | None = Field(description="cursor of the next page; null on the last page")


class ErasureResponse(ClosedModel):
    """Proof of an erasure. It does not contain the number."""

    id: UUID
    at: Timestamp
    by: str = Field(description="actor of the erasure")
    surface: AuditSurface | None = Field(description="null for an erasure before the audit trail")
    reason: str | None
    counts: CountByLabel = Field(description="number of erased rows of each kind")

    @classmethod
    def of(cls, record: ErasureRecord) -> Self:
        """Return the response for an erasure."""
        return cls.model_validate(record, from_attributes=True)


class ErasuresResponse(ResponseModel):
    """A list of erasures."""

    erasures: list[ErasureResponse]


@dataclass(frozen=True, kw_only=True)
class AuditEntries:
    """`/v1/audit`."""

    authentication: ApiKeyAuthentication
    trail: AuditTrail

    @serves(
        ApiEndpoint(
            method="GET",
            path="/v1/audit",
            operation_id="listAuditEntries",
            tag=tags.AUDIT,
            summary="List the audit trail (for operators)",
            description="What operators did in the console, by the API and at the command line. "
            "Newest first.",
            successes={200: Success(description="A page of entries", model=AuditResponse)},
            scopes=("admin",),
            query=AuditQuery,
        )
    )
    def on_get(self, _call: ApiCall, query: AuditQuery) -> AuditResponse:
        """List entries."""
        return _answer(self.trail, query, phone_number=None)


@dataclass(frozen=True, kw_only=True)
class AuditByNumber:
    """`/v1/audit/search`."""

    authentication: ApiKeyAuthentication
    trail: AuditTrail

    @serves(
        ApiEndpoint(
            method="POST",
            path="/v1/audit/search",
            operation_id="searchAuditEntries",
            tag=tags.AUDIT,
            summary="Search the audit trail by phone number (for operators)",
            description="As the list, for one number. The number is in the body, since URLs are logged.",
            successes={200: Success(description="A page of entries", model=AuditResponse)},
            errors=(InvalidPhoneNumber,),
            scopes=("admin",),
            body=AuditWanted,
        )
    )
    def on_post(self, _call: ApiCall, body: AuditWanted) -> AuditResponse:
        """Search entries."""
        return _answer(self.trail, body, phone_number=body.phone_number)


@dataclass(frozen=True, kw_only=True)
class Erasures:
    """`/v1/erasures`."""

    authentication: ApiKeyAuthentication
    trail: AuditTrail

    @serves(
        ApiEndpoint(
            method="GET",
            path="/v1/erasures",
            operation_id="listErasures",
            tag=tags.AUDIT,
            summary="List erasures (for operators)",
            description="Proof that numbers were erased, newest first, without the numbers.",
            successes={200: Success(description="Erasures", model=ErasuresResponse)},
            scopes=("admin",),
            query=ErasuresQuery,
        )
    )
    def on_get(self, _call: ApiCall, query: ErasuresQuery) -> ErasuresResponse:
        """List erasures."""
        found = self.trail.erasures(since=query.since, limit=query.limit)
        return ErasuresResponse(erasures=[ErasureResponse.of(one) for one in found])


def _answer(
    trail: AuditTrail, wanted: AuditQuery | AuditWanted, *, phone_number: str | None
) -> AuditResponse:
    filters = AuditFilters(
        since=wanted.since,
        until=wanted.until,
        action=OperatorAction(wanted.action) if wanted.action else None,
        surface=AuditSurface(wanted.surface) if wanted.surface else None,
        actor=wanted.actor,
        client=wanted.client,
        phone_number=phone_number,
    )
    page = trail.list(filters, cursor=wanted.cursor, limit=wanted.limit)
    return AuditResponse(
        entries=[AuditEntryResponse.of(one) for one in page.entries], next_cursor=page.next_cursor
    )
