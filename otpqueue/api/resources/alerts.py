"""`/v1/alerts`: alerts, and their acknowledgement and silencing by operators."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

from pydantic import Field

from otpqueue import clock
from otpqueue.api import tags
from otpqueue.api.auth import ApiKeyAuthentication
from otpqueue.api.bodies import AlertsQuery, SilenceWanted
from otpqueue.api.endpoints import ApiCall, ApiEndpoint, Success, serves
from otpqueue.api.responses import ClosedModel, ResponseModel, Timestamp
from otpqueue.domain.alerts import Alert, AlertState
from otpqueue.operations.alerts.admin import AlertAdmin


class AlertResponse(ClosedModel):
    """An alert, as operators see it."""

    id: UUID
    rule: str = Field(description="name of the rule; [docs/alerts.md](/docs/alerts#rules) describes it")
    subject: str | None = Field(
        description="`all`, a country, a client, a queue or a masked number; null once the number is erased"
    )
    state: AlertState
    value: float = Field(description="value of the last evaluation that had data")
    threshold: float
    window_s: int = Field(description="time window in seconds; 0 for rules about the present moment")
    sample: int = Field(description="number of events that `value` was measured from")
    opened_at: Timestamp
    closed_at: Timestamp | None
    evaluated_at: Timestamp
    acknowledged_at: Timestamp | None
    acknowledged_by: str | None
    silenced_until: Timestamp | None
    evidence: dict[str, Any] = Field(
        description="measurements of one snapshot, from when the alert opened: `value`, `sample`, `figures`, "
        "`reasons`, and `series`, the values of the window; and ids of `requests`"
    )

    @classmethod
    def of(cls, alert: Alert) -> Self:
        """Return the response for an alert."""
        return cls.model_validate(alert, from_attributes=True)


class AlertsResponse(ResponseModel):
    """A list of alerts."""

    alerts: list[AlertResponse]


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """`/v1/alerts`."""

    authentication: ApiKeyAuthentication
    desk: AlertAdmin

    @serves(
        ApiEndpoint(
            method="GET",
            path="/v1/alerts",
            operation_id="listAlerts",
            tag=tags.ALERTS,
            summary="List alerts (for operators)",
            description="Open and closed alerts, newest first. [docs/alerts.md](/docs/alerts) explains "
            "each rule, and what to do.",
            successes={200: Success(description="Alerts", model=AlertsResponse)},
            scopes=("admin",),
            query=AlertsQuery,
        )
    )
    def on_get(self, _call: ApiCall, query: AlertsQuery) -> AlertsResponse:
        """List alerts."""
        state = AlertState(query.state) if query.state else None
        found = self.desk.list(state=state, rule=query.rule, limit=query.limit)
        return AlertsResponse(alerts=[AlertResponse.of(alert) for alert in found])


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """`/v1/alerts/{alert_id}/acknowledge`."""

    authentication: ApiKeyAuthentication
    desk: AlertAdmin

    @serves(
        ApiEndpoint(
            method="POST",
            path="/v1/alerts/{alert_id}/acknowledge",
            operation_id="acknowledgeAlert",
            tag=tags.ALERTS,
            summary="Acknowledge an alert (for operators)",
            description="Stores that an operator has seen the alert. The first acknowledgement stays. A "
            "notification is still sent when the alert closes.",
            successes={200: Success(description="The alert", model=AlertResponse)},
            scopes=("admin",),
        )
    )
    def on_post(self, call: ApiCall, alert_id: UUID) -> AlertResponse:
        """Acknowledge an alert."""
        return AlertResponse.of(self.desk.ack(alert_id, by=f"client {call.caller.client}"))


@dataclass(frozen=True, kw_only=True)
class Silencing:
    """`/v1/alerts/{alert_id}/silence`."""

    authentication: ApiKeyAuthentication
    desk: AlertAdmin

    @serves(
        ApiEndpoint(
            method="POST",
            path="/v1/alerts/{alert_id}/silence",
            operation_id="silenceAlert",
            tag=tags.ALERTS,
            summary="Silence an alert (for operators)",
            description="Sends no notifications about the alert's subject, or its whole rule, for a time: "
            "one hour unless given. `otpqueue alerts unsilence` ends it earlier.",
            successes={200: Success(description="The alert", model=AlertResponse)},
            scopes=("admin",),
            body=SilenceWanted,
            body_optional=True,
        )
    )
    def on_post(self, call: ApiCall, alert_id: UUID, body: SilenceWanted) -> AlertResponse:
        """Silence an alert."""
        self.desk.silence_alert(
            alert_id,
            until=clock.now() + timedelta(seconds=body.for_s),
            by=f"client {call.caller.client}",
            reason=body.reason,
            every_subject=body.every_subject,
        )
        return AlertResponse.of(self.desk.get(alert_id))
