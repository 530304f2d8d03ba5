"""Alerts, stored as an evaluation would store them."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import text

from otpqueue import clock
from otpqueue.domain.alerts import derive_tag
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts

_ALERT = text(
    """
    INSERT INTO alerts (id, rule, subject, state, value, threshold, window_s, sample, evaluated_at, opened_at,
                        evidence, number_hash)
    VALUES (:id, 'number_requests', :subject, 'open', 13, 10, 3600, 13, :now, :now, CAST(:evidence AS jsonb),
            :number_hash)
    """
)
_VALUE = text("INSERT INTO alert_values (alert_id, at, value, sample) VALUES (:id, :at, :value, 13)")


def open_alert(
    parts: Parts,
    *,
    subject: str = "all",
    number_hash: bytes | None = None,
    requests: list[str],
    reasons: dict[str, int] | None = None,
) -> UUID:
    """Store an open alert with evidence, and what was found since; return its id.

    It is about the number with a hash if one is given, else about a subject.
    """
    alert_id, now = uuid4(), clock.now()
    points = [
        {"at": (now - timedelta(minutes=back)).isoformat(), "value": back % 7, "sample": 5}
        for back in range(15, 0, -1)
    ]
    evidence = {
        "value": 13,
        "sample": 13,
        "figures": {"accepted": 11, "refused": 2},
        "reasons": reasons or {"limit_number_15m": 2},
        "requests": requests,
        "series": {"unit": "count", "step_s": 60, "points": points},
    }
    with connection(parts.engine) as conn:
        conn.execute(
            _ALERT,
            {
                "id": alert_id,
                "subject": derive_tag(number_hash) if number_hash else subject,
                "number_hash": number_hash,
                "now": now,
                "evidence": json.dumps(evidence),
            },
        )
        for back in (3, 2, 1):
            conn.execute(_VALUE, {"id": alert_id, "at": now - timedelta(minutes=back), "value": 10 + back})
    return alert_id
