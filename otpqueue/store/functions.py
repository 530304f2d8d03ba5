"""The SQL functions of the hot path: one file each in `sql/`, created again by every `otpqueue migrate`.

They are code, not data. A migration adds the tables and columns that they use. After the last migration, all
of them are created in the form of this version.
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

_FOLDER = Path(__file__).parent / "sql"


def create_statements() -> Iterator[str]:
    """Yield the `CREATE OR REPLACE FUNCTION` statement of each function, in order."""
    for name in FUNCTIONS:
        yield (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")
