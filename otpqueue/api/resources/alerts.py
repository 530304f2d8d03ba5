"""`/v1/alerts`: what is wrong now, what was, and what operators say about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import falcon

from otpqueue import clock
from otpqueue.api import bodies
from otpqueue.api.auth import Door
from otpqueue.domain.alerts import Alert, AlertState
from otpqueue.domain.errors import AlertNotFound
from otpqueue.operations.alerts.admin import AlertAdmin


def representation(alert: Alert) -> dict[str, Any]:
    """Return an alert as operators see it, in plain JSON values."""
    return {
        "id": str(alert.id),
        "rule": alert.rule,
        "subject": alert.subject,
        "state": alert.state.value,
        "value": alert.value,
        "threshold": alert.threshold,
        "window_s": alert.window_s,
        "sample": alert.sample,
        "opened_at": _time(alert.opened_at),
        "closed_at": _time(alert.closed_at),
        "evaluated_at": _time(alert.evaluated_at),
        "acknowledged_at": _time(alert.acknowledged_at),
        "acknowledged_by": alert.acknowledged_by,
        "silenced_until": _time(alert.silenced_until),
        "evidence": dict(alert.evidence),
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parse_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise AlertNotFound("The id in the path is not a UUID; use the `id` of an alert.") from None


@dataclass(frozen=True, kw_only=True)
class Alerts:
    """`/v1/alerts`."""

    door: Door
    desk: AlertAdmin

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer alerts, the newest first."""
        self.door.enter(req, "admin")
        query = bodies.read_query(req, bodies.AlertsQuery)
        state = AlertState(query.state) if query.state else None
        found = self.desk.list(state=state, rule=query.rule, limit=query.limit)
        resp.text = json.dumps({"alerts": [representation(alert) for alert in found]})


@dataclass(frozen=True, kw_only=True)
class Acknowledgement:
    """`/v1/alerts/{id}/acknowledge`."""

    door: Door
    desk: AlertAdmin

    def on_post(self, req: falcon.Request, resp: falcon.Response, alert_id: str) -> None:
        """Acknowledge an alert; the first acknowledgement stays."""
        key = self.door.admit(req, "admin")
        alert = self.desk.ack(_parse_id(alert_id), by=_named(key.client_name))
        resp.text = json.dumps(representation(alert))


@dataclass(frozen=True, kw_only=True)
class Silencing:
    """`/v1/alerts/{id}/silence`."""

    door: Door
    desk: AlertAdmin

    def on_post(self, req: falcon.Request, resp: falcon.Response, alert_id: str) -> None:
        """Send no notices about an alert's subject, or its rule, for a time; the body may be left out."""
        key = self.door.admit(req, "admin")
        given = req.content_length or req.get_header("Transfer-Encoding")
        body = bodies.read(req, bodies.SilenceWanted) if given else bodies.SilenceWanted()
        known = _parse_id(alert_id)
        self.desk.silence_alert(
            known,
            until=clock.now() + timedelta(seconds=body.for_s),
            by=_named(key.client_name),
            reason=body.reason,
            every_subject=body.every_subject,
        )
        resp.text = json.dumps(representation(self.desk.get(known)))


def _named(client: str) -> str:
    return f"client {client}"


def schema() -> dict[str, Any]:
    """Return the schema of what `representation` returns."""
    word, number = {"type": "string"}, {"type": "number"}
    maybe_word = {"type": ["string", "null"]}
    time, maybe_time = (
        {"type": "string", "format": "date-time"},
        {"type": ["string", "null"], "format": "date-time"},
    )
    properties = {
        "id": {"type": "string", "format": "uuid"},
        "rule": {**word, "description": "docs/alerts.md has a section on each"},
        "subject": {
            **maybe_word,
            "description": "`all`, a country, a client, a queue, or a number, masked; null once erased",
        },
        "state": {"type": "string", "enum": [state.value for state in AlertState]},
        "value": {**number, "description": "of the last evaluation that had data"},
        "threshold": number,
        "window_s": {"type": "integer", "description": "0 for rules that look at the moment"},
        "sample": {"type": "integer", "description": "what `value` was measured of"},
        "opened_at": time,
        "closed_at": maybe_time,
        "evaluated_at": time,
        "acknowledged_at": maybe_time,
        "acknowledged_by": maybe_word,
        "silenced_until": maybe_time,
        "evidence": {
            "type": "object",
            "description": "what was measured when it opened, of one snapshot: `value`, `sample`, `figures`, "
            "`reasons`, and `series`, the window step by step; and ids of `requests`",
        },
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
