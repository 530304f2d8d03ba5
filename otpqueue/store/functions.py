"""The SQL functions and triggers, one file each in `sql/`.

Functions are code, not data. Migrations add the tables and columns that they use. After the last migration,
every `otpqueue migrate` creates all of them again in the form of this version.

A trigger is created once, because creating it locks its table: by the newest migration that defines it. A
migration that changes a trigger loads the file, and the older one keeps the former text.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

# In this order: a function may call earlier ones.
FUNCTIONS = (
    "guard_number",
    "guard_tally",
    "guard_facts",
    "guard_allows",
    "guard_count",
    "guard_take",
    "guard_note_refusal",
    "guard_claim_facts",
    "guard_count_claims",
    "idempotency_key_is_free",
    "admission_facts",
    "accept_request",
    "record_check",
    "stops_in_force",
    "next_due",
    "due_countries",
    "due_clients",
    "lock_due",
    "count_sends",
    "take_off_counts",
    "fit_under_caps",
    "give_back_sends",
    "claim_due",
    "record_attempts",
    "pump_turn",
    "unmatched_receipts",
)
# Those that triggers call, after the functions that they call. A trigger depends on each: only the migration
# that drops the trigger can drop the function.
TRIGGER_FUNCTIONS = (
    "stat_bucket",
    "stat_ms",
    "access_version_raise",
    "audit_entries_refuse_change",
    "checks_tell_statistics",
    "idempotency_keys_forget_answer",
    "otp_requests_count_ends",
    "otp_requests_note_moves",
    "otp_requests_tell_client",
    "otp_requests_tell_made",
    "otp_requests_tell_moved",
    "refusals_tell_first",
    "refusals_tell_more",
    "send_attempts_tell_statistics",
)
TRIGGERS = (
    "api_keys_access",
    "audit_entries_append_only",
    "audit_entries_not_truncated",
    "checks_statistics",
    "clients_access",
    "idempotency_keys_forget",
    "otp_requests_guard",
    "otp_requests_made_statistics",
    "otp_requests_moved_statistics",
    "otp_requests_moves",
    "otp_requests_webhooks",
    "refusals_first_statistics",
    "refusals_more_statistics",
    "send_attempts_statistics",
)

_FOLDER = Path(__file__).parent / "sql"


def create_statements() -> Iterator[str]:
    """Yield the `CREATE OR REPLACE FUNCTION` statement of each function, in order."""
    for name in (*FUNCTIONS, *TRIGGER_FUNCTIONS):
        yield (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")


def create_trigger_statements() -> Iterator[str]:
    """Yield the `CREATE TRIGGER` statement of each trigger."""
    for name in TRIGGERS:
        yield create_trigger_statement(name)


def create_trigger_statement(name: str) -> str:
    """Return the `CREATE TRIGGER` statement of one trigger."""
    return (_FOLDER / "triggers" / f"{name}.sql").read_text(encoding="utf-8")
