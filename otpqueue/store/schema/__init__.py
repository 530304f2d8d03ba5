"""The tables, one module a subject. `migrations/` creates them; a test compares the two.

Import a table from here. `sql/` contains the functions and triggers, which `create_all` creates, too.
"""

from __future__ import annotations

from sqlalchemy import DDL, event

from otpqueue.store.functions import create_statements, create_trigger_statements
from otpqueue.store.schema.access import access_version, api_keys, clients
from otpqueue.store.schema.admission import do_not_send, refusals, send_counts, sending_stops
from otpqueue.store.schema.alerts import (
    alert_evaluations,
    alert_history,
    alert_notices,
    alert_pending,
    alert_silences,
    alert_values,
    alerts,
)
from otpqueue.store.schema.audit import audit_entries, audit_subjects
from otpqueue.store.schema.base import metadata
from otpqueue.store.schema.checks import WRONG, check_counts, checks, erased_wrong_codes, number_guesses
from otpqueue.store.schema.guard import guard_addresses, guard_decisions, guard_exceptions, guard_tallies
from otpqueue.store.schema.privacy import erasures, seal_counts
from otpqueue.store.schema.processes import heartbeats
from otpqueue.store.schema.requests import idempotency_keys, moves, otp_requests
from otpqueue.store.schema.sending import provider_ids, receipts, send_attempts
from otpqueue.store.schema.stats import stat_events, stats_hours, stats_minutes
from otpqueue.store.schema.verification_pages import verification_pages
from otpqueue.store.schema.webhooks import webhook_deliveries, webhook_endpoints

__all__ = [
    "WRONG",
    "access_version",
    "alert_evaluations",
    "alert_history",
    "alert_notices",
    "alert_pending",
    "alert_silences",
    "alert_values",
    "alerts",
    "api_keys",
    "audit_entries",
    "audit_subjects",
    "check_counts",
    "checks",
    "clients",
    "do_not_send",
    "erased_wrong_codes",
    "erasures",
    "guard_addresses",
    "guard_decisions",
    "guard_exceptions",
    "guard_tallies",
    "heartbeats",
    "idempotency_keys",
    "metadata",
    "moves",
    "number_guesses",
    "otp_requests",
    "provider_ids",
    "receipts",
    "refusals",
    "seal_counts",
    "send_attempts",
    "send_counts",
    "sending_stops",
    "stat_events",
    "stats_hours",
    "stats_minutes",
    "verification_pages",
    "webhook_deliveries",
    "webhook_endpoints",
]

for _statement in (*create_statements(), *create_trigger_statements()):
    _escaped = _statement.replace("%", "%%")
    event.listen(metadata, "after_create", DDL(_escaped))  # type: ignore[no-untyped-call]
