"""The personal data in each table, its retention and its erasure: one entry for every table of the schema.

Erasing, purging and rotating the look-up key read nothing else, so an entry here covers all three. Tests
compare the entries with the schema and with the table in docs/privacy.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Table, and_, case, func, or_, text
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from otpqueue.domain.request import FINAL
from otpqueue.store import schema

Columns = ReadOnlyColumnCollection[str, Any]
Merge = Callable[[Columns, Columns], Mapping[str, Any]]
"""Takes the columns of the remaining row and of the row merged into it; returns new values by column."""


class OnErase(StrEnum):
    """What an erasure does to a number's rows."""

    DELETED = "deleted"
    ANONYMISED = "made anonymous"
    """The row stays for statistics; the columns in `cleared` are set to null."""
    EMPTIED = "emptied"
    """The row stays in force. A trigger clears the link to the number when the row's request is deleted."""
    KEPT = "kept"
    """The row stays, on the person's behalf or by law; docs/privacy.md gives the reason."""
    UNCONCERNED = "not concerned"
    """No column leads to a number."""


@dataclass(frozen=True, kw_only=True)
class Holding:
    """One table and its personal data. Columns are given by name."""

    table: Table
    on_erase: OnErase
    counted_as: str | None = None
    """The table's name in the result of an erasure; the table's own name by default."""

    number_hash: str | None = None
    """The look-up hash of a phone number."""
    request_id: str | None = None
    """The request that a row belongs to, with which it is deleted."""
    sealed: str | None = None
    """The column sealed under `seal_key_id`: the number itself, unless the table has no number."""
    other_hashes: tuple[str, ...] = ()
    """Other columns hashed with the look-up key: of sessions, addresses, API keys."""
    cleared: tuple[str, ...] = ()
    """The columns set to null if `on_erase` is ANONYMISED, including `number_hash`."""
    names_requests: str | None = None
    """A JSON column with a list `requests` of request ids, from which erased requests are removed."""
    frees: tuple[str, ...] = ()
    """Columns that are unique together with `number_hash`: set to null when it is replaced or cleared."""
    merge: Merge | None = None
    """For one row per number: merges the columns when a number's two rows become one."""

    age: str | None = None
    """The start of a row's retention; None if it is deleted with its request, or kept while in force."""
    kept: timedelta | None = None
    """The retention; None for the setting, which is the upper limit except for `evidence`."""
    audit: bool = False
    """Whether the setting is OTPQUEUE_AUDIT_RETENTION_DAYS instead of OTPQUEUE_RETENTION_DAYS."""
    only: ColumnElement[bool] | None = None
    """The condition for rows that may be purged."""
    evidence: bool = False
    """Whether rows are evidence of data processing, without personal data. They outlast the retention."""

    @property
    def name(self) -> str:
        """The table's name in the result of an erasure."""
        return self.counted_as or str(self.table.name)

    def column(self, name: str) -> Column[Any]:
        """Return a column of the table."""
        return self.table.c[name]

    def kept_for(self, retention: timedelta) -> timedelta:
        """Return how long rows are kept."""
        if self.kept is None:
            return retention
        return self.kept if self.evidence else min(self.kept, retention)

    @property
    def said_to_be_kept(self) -> str:
        """The retention of rows, in the words of docs/privacy.md."""
        if self.request_id is not None and self.age is None:
            return "with its request"
        if self.age is None:
            return "while in force"
        if self.kept is None:
            return f"`OTPQUEUE_{'AUDIT_' if self.audit else ''}RETENTION_DAYS`"
        if not self.kept:
            return "until it expires"
        hours = round(self.kept / timedelta(hours=1))
        return f"{hours // 24} days" if hours % 24 == 0 and hours > 24 else f"{hours} h"


def _longer(row: Columns, joining: Columns) -> Mapping[str, Any]:
    """Of two entries of the do-not-send list, take the one without an end, or with the later end."""
    longer = and_(row.until.is_not(None), or_(joining.until.is_(None), joining.until > row.until))
    return {
        name: case((longer, joining[name]), else_=row[name]) for name in ("reason", "until", "created_at")
    }


HOLDINGS: tuple[Holding, ...] = (
    Holding(table=schema.clients, on_erase=OnErase.UNCONCERNED),
    Holding(table=schema.access_version, on_erase=OnErase.UNCONCERNED),
    Holding(table=schema.api_keys, on_erase=OnErase.UNCONCERNED, other_hashes=("key_hash",)),
    Holding(
        table=schema.otp_requests,
        counted_as="requests",
        on_erase=OnErase.DELETED,
        number_hash="number_hash",
        sealed="number_sealed",
        other_hashes=("session_hash", "client_ip_hash"),
        age="finished_at",
        only=schema.otp_requests.c.status.in_(sorted(status.value for status in FINAL)),
    ),
    Holding(
        table=schema.send_attempts,
        counted_as="attempts",
        on_erase=OnErase.DELETED,
        request_id="request_id",
    ),
    Holding(
        table=schema.checks,
        on_erase=OnErase.DELETED,
        request_id="request_id",
        other_hashes=("client_ip_hash",),
    ),
    # `expire` deletes those without a matching attempt after an hour.
    Holding(table=schema.receipts, on_erase=OnErase.DELETED, request_id="request_id"),
    Holding(table=schema.moves, on_erase=OnErase.DELETED, request_id="request_id"),
    # Response and fingerprint.
    Holding(
        table=schema.idempotency_keys,
        on_erase=OnErase.EMPTIED,
        other_hashes=("key_hash", "fingerprint"),
        age="expires_at",
        kept=timedelta(0),
    ),
    # Kept, or an erasure would allow more guesses. A few wrong codes expire in time, a lock never is:
    # 15 is the lowest limit that a setting can have.
    Holding(
        table=schema.number_guesses,
        on_erase=OnErase.KEPT,
        number_hash="number_hash",
        merge=lambda row, joining: {
            "wrong_in_a_row": row.wrong_in_a_row + joining.wrong_in_a_row,
            "unlocked_at": func.greatest(row.unlocked_at, joining.unlocked_at),
            "updated_at": func.greatest(row.updated_at, joining.updated_at),
        },
        age="updated_at",
        only=schema.number_guesses.c.wrong_in_a_row < 15,
    ),
    # For as long as they count against new requests.
    Holding(
        table=schema.erased_wrong_codes,
        on_erase=OnErase.KEPT,
        number_hash="number_hash",
        other_hashes=("client_ip_hash",),
        age="until",
        kept=timedelta(0),
    ),
    Holding(table=schema.check_counts, on_erase=OnErase.UNCONCERNED, age="minute"),
    Holding(
        table=schema.refusals,
        on_erase=OnErase.DELETED,
        number_hash="number_hash",
        frees=("minute",),
        other_hashes=("client_ip_hash",),
        age="created_at",
        kept=timedelta(days=7),
    ),
    Holding(table=schema.send_counts, on_erase=OnErase.UNCONCERNED, age="day"),
    Holding(
        table=schema.sending_stops,
        on_erase=OnErase.UNCONCERNED,
        age="resumed_at",
        only=schema.sending_stops.c.resumed_at.is_not(None),
        kept=timedelta(days=1096),
        evidence=True,
    ),
    # A person who wants to be erased does not want messages either.
    Holding(
        table=schema.do_not_send,
        on_erase=OnErase.KEPT,
        number_hash="number_hash",
        sealed="number_sealed",
        merge=_longer,
        age="until",
        only=schema.do_not_send.c.until.is_not(None),
        kept=timedelta(0),
    ),
    Holding(table=schema.guard_tallies, on_erase=OnErase.UNCONCERNED, age="hour"),
    Holding(
        table=schema.guard_addresses,
        on_erase=OnErase.UNCONCERNED,
        other_hashes=("address_hash",),
        age="hour",
        kept=timedelta(days=2),
    ),
    Holding(table=schema.guard_decisions, on_erase=OnErase.UNCONCERNED, age="minute"),
    Holding(table=schema.guard_exceptions, on_erase=OnErase.UNCONCERNED, age="until", kept=timedelta(0)),
    # Facts about the deployment stay; the link to this number is removed.
    Holding(
        table=schema.alerts,
        on_erase=OnErase.ANONYMISED,
        number_hash="number_hash",
        cleared=("number_hash", "subject", "evidence"),
        names_requests="evidence",
        age="closed_at",
        only=schema.alerts.c.closed_at.is_not(None),
    ),
    Holding(
        table=schema.alert_pending,
        on_erase=OnErase.DELETED,
        number_hash="number_hash",
        age="evaluated_at",
        kept=timedelta(days=2),
    ),
    Holding(table=schema.alert_values, on_erase=OnErase.UNCONCERNED, age="at"),
    Holding(table=schema.alert_history, on_erase=OnErase.UNCONCERNED, age="at"),
    Holding(table=schema.alert_notices, on_erase=OnErase.UNCONCERNED, age="created_at"),
    Holding(
        table=schema.alert_silences,
        on_erase=OnErase.DELETED,
        number_hash="number_hash",
        age="until",
    ),
    Holding(table=schema.alert_evaluations, on_erase=OnErase.UNCONCERNED, age="at", kept=timedelta(days=2)),
    Holding(table=schema.provider_ids, on_erase=OnErase.UNCONCERNED),
    Holding(
        table=schema.erasures,
        on_erase=OnErase.UNCONCERNED,
        age="at",
        kept=timedelta(days=1096),
        evidence=True,
    ),
    # Entries identify no number: that link is a row of `audit_subjects`.
    Holding(
        table=schema.audit_entries,
        on_erase=OnErase.UNCONCERNED,
        age="at",
        audit=True,
        # As the trigger that refuses every other change.
        only=schema.audit_entries.c.at < func.now() - text("interval '30 days'"),
        evidence=True,
    ),
    Holding(
        table=schema.audit_subjects,
        on_erase=OnErase.DELETED,
        number_hash="number_hash",
        age="at",
    ),
    # Events are deleted within seconds, when they are added up. Events and sums contain no personal data, so
    # the counts of a request stay when it is erased or purged.
    Holding(table=schema.stat_events, on_erase=OnErase.UNCONCERNED),
    Holding(table=schema.stats_minutes, on_erase=OnErase.UNCONCERNED, age="at", kept=timedelta(days=7)),
    Holding(table=schema.stats_hours, on_erase=OnErase.UNCONCERNED, age="at"),
    Holding(table=schema.webhook_endpoints, on_erase=OnErase.UNCONCERNED, sealed="secrets_sealed"),
    Holding(table=schema.webhook_deliveries, on_erase=OnErase.DELETED, request_id="request_id"),
    Holding(
        table=schema.verification_pages,
        on_erase=OnErase.DELETED,
        number_hash="number_hash",
        request_id="request_id",
        sealed="number_sealed",
        other_hashes=("link_hash", "browser_hash", "token_hash"),
        age="expires_at",
        kept=timedelta(0),
    ),
    # A process deletes its row when it ends. The row of a killed process is deleted after an hour.
    Holding(table=schema.heartbeats, on_erase=OnErase.UNCONCERNED),
    Holding(table=schema.seal_counts, on_erase=OnErase.UNCONCERNED),
)
"""In the order in which migrations create the tables: dependent tables follow their parents."""
