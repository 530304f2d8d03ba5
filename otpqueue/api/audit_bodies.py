"""Queries and bodies of the calls that read the audit trail."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from otpqueue.api.bodies import JsonBody, Moment, Number, Text
from otpqueue.domain.audit import AuditSurface, OperatorAction

_ACTIONS = [one.value for one in OperatorAction]
_SURFACES = [one.value for one in AuditSurface]


def _check_action(text: str) -> str:
    if text not in _ACTIONS:
        raise ValueError("must be one of the actions in docs/audit.md")
    return text


def _check_surface(text: str) -> str:
    if text not in _SURFACES:
        raise ValueError(f"must be one of {', '.join(_SURFACES)}")
    return text


# A strict model would accept only the enum's members, not their names.
ActionName = Annotated[
    str,
    AfterValidator(_check_action),
    WithJsonSchema({"type": "string", "enum": _ACTIONS, "title": "OperatorAction"}),
]
SurfaceName = Annotated[
    str,
    AfterValidator(_check_surface),
    WithJsonSchema({"type": "string", "enum": _SURFACES, "title": "AuditSurface"}),
]


class AuditFilterFields(BaseModel):
    """The filters of the audit trail."""

    since: Moment | None = Field(
        None,
        description="at or after this time; ISO 8601, with a zone",
        examples=["2026-03-01T12:00:00Z"],
    )
    until: Moment | None = Field(None, description="before this time")
    action: ActionName | None = Field(None, description="an action", examples=["number_blocked"])
    surface: SurfaceName | None = Field(None, description="where the actions came from")
    actor: Text | None = Field(None, description="beginning of the actor's name", examples=["oq_k7m2p9xw"])
    client: Text | None = Field(None, description="name of a client that the actions concerned")
    cursor: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        None, description="`next_cursor` of the previous page; needs the same filters"
    )


class AuditQuery(AuditFilterFields):
    """The query of `GET /v1/audit`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(50, ge=1, le=500, description="maximum number of entries on a page")


class AuditWanted(AuditFilterFields, JsonBody):
    """A search of the audit trail for a number."""

    phone_number: Number = Field(description="E.164", examples=["+447700900123"])
    limit: int = Field(50, ge=1, le=500, description="maximum number of entries on a page")


class ErasuresQuery(BaseModel):
    """The query of `GET /v1/erasures`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: Moment | None = Field(
        None,
        description="at or after this time; ISO 8601, with a zone",
        examples=["2026-03-01T12:00:00Z"],
    )
    limit: int = Field(100, ge=1, le=500, description="maximum number of erasures; the newest are returned")
