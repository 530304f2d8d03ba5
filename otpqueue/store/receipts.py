"""Queries on delivery reports: store each once, and match it to its attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine, delete, literal, select, text, true
from uuid_utils.compat import uuid7

from otpqueue.domain.receipts import Receipt
from otpqueue.domain.request import Status
from otpqueue.store.engine import fetch
from otpqueue.store.schema import receipts, send_attempts

KEPT_UNMATCHED = timedelta(hours=1)

# In one order everywhere, so that two sessions with the same reports cannot deadlock.
_ADD = text(
    """
    INSERT INTO receipts (id, message_id, delivery, status, error, done_at, price, currency, received_at)
    SELECT *, :now FROM unnest(
        CAST(:ids AS uuid[]), CAST(:message_ids AS text[]), CAST(:deliveries AS text[]),
        CAST(:statuses AS text[]), CAST(:errors AS text[]), CAST(:done AS timestamptz[]),
        CAST(:prices AS numeric[]), CAST(:currencies AS text[])
    ) AS t (id, message_id, delivery, status, error, done_at, price, currency)
    ORDER BY message_id, status, done_at
    ON CONFLICT ON CONSTRAINT receipts_once DO NOTHING
    """
)

# The best report of each message wins, in the order `delivered`, `undelivered`, `pending`, whatever arrived
# last. The price is that of the best report with a price. Only the newest accepted attempt can make a request
# undelivered. Rows are locked in id order. Data read before another session released its lock may be stale,
# so it never replaces a better status.
_MATCH_SQL = """
    WITH known AS MATERIALIZED (
        SELECT DISTINCT ON (a.request_id, a.number)
               a.request_id, a.number, r.delivery, r.status, r.error, r.done_at,
               first_value(r.price) OVER priced AS price, first_value(r.currency) OVER priced AS currency
        FROM receipts AS r JOIN send_attempts AS a ON a.external_message_id = r.message_id
        WHERE r.message_id = ANY(CAST(:message_ids AS text[]))
        WINDOW priced AS (
            PARTITION BY a.request_id, a.number
            ORDER BY r.price IS NULL, array_position(CAST(:ranks AS text[]), r.delivery),
                     r.done_at DESC NULLS LAST, r.status
        )
        ORDER BY a.request_id, a.number, array_position(CAST(:ranks AS text[]), r.delivery),
                 r.done_at DESC NULLS LAST, r.status
    ), locked AS MATERIALIZED (
        SELECT q.id FROM otp_requests AS q
        WHERE q.id IN (SELECT request_id FROM known) ORDER BY q.id FOR UPDATE
    ), matched AS (
        UPDATE receipts AS r SET request_id = a.request_id, attempt = a.number
        FROM send_attempts AS a, locked
        WHERE a.external_message_id = r.message_id AND r.request_id IS NULL AND locked.id = a.request_id
          AND r.message_id = ANY(CAST(:message_ids AS text[]))
    ), noted AS (
        UPDATE send_attempts AS a
        SET delivery = known.delivery, delivery_status = known.status, delivery_error = known.error,
            done_at = known.done_at,
            reported_at = CASE WHEN a.delivery = known.delivery THEN a.reported_at ELSE :now END,
            price = coalesce(known.price, a.price),
            currency = coalesce(known.currency, a.currency)
        FROM known, locked
        WHERE a.request_id = known.request_id AND a.number = known.number AND locked.id = a.request_id
          AND (a.delivery IS NULL OR array_position(CAST(:ranks AS text[]), known.delivery)
                                     <= array_position(CAST(:ranks AS text[]), a.delivery))
    ), verdict AS (
        SELECT known.request_id,
               bool_or(known.delivery = 'delivered') AS delivered,
               bool_or(known.delivery = 'undelivered' AND known.number = newest.number) AS undelivered
        FROM known JOIN LATERAL (
            SELECT max(a.number) AS number FROM send_attempts AS a
            WHERE a.request_id = known.request_id AND a.outcome = 'accepted'
        ) AS newest ON true
        GROUP BY known.request_id
    )
    UPDATE otp_requests AS q
    SET status = CASE WHEN verdict.delivered THEN 'delivered' ELSE 'undelivered' END, updated_at = :now
    FROM verdict, locked
    WHERE q.id = verdict.request_id AND locked.id = q.id
      AND ((verdict.delivered AND q.status IN ('sent', 'undelivered'))
           OR (NOT verdict.delivered AND verdict.undelivered AND q.status = 'sent'))
    RETURNING q.id, q.client_id, q.status
"""
_MATCH = text(_MATCH_SQL)
_MATCH_UNLOCKED = text(_MATCH_SQL.replace("ORDER BY q.id FOR UPDATE", "ORDER BY q.id FOR UPDATE SKIP LOCKED"))
_UNMATCHED = "SELECT unmatched_receipts(%(message_ids)s::text[]) AS message_id"
_RANKS = ["delivered", "undelivered", "pending"]


@dataclass(frozen=True, kw_only=True)
class MovedRequest:
    """A request that a report has moved, and its new status."""

    request_id: UUID
    client_id: UUID
    status: Status


def add(conn: Connection, reports: Sequence[Receipt], *, now: datetime) -> int:
    """Store reports that were not stored before; return how many."""
    parameters = {
        "ids": [uuid7() for _ in reports],
        "message_ids": [report.message_id for report in reports],
        "deliveries": [report.delivery.value for report in reports],
        "statuses": [report.status for report in reports],
        "errors": [report.error for report in reports],
        "done": [report.done_at for report in reports],
        "prices": [report.price for report in reports],
        "currencies": [report.currency for report in reports],
        "now": now,
    }
    return conn.execute(_ADD, parameters).rowcount


def match(
    conn: Connection, message_ids: Sequence[str], *, now: datetime, skip_locked: bool = False
) -> list[MovedRequest]:
    """Match the stored reports of these messages to their attempts and requests; return the moved requests.

    Idempotent: matched reports do not change. With `skip_locked`, reports on requests that another session
    has locked stay unmatched.
    """
    if not message_ids:
        return []
    statement = _MATCH_UNLOCKED if skip_locked else _MATCH
    rows = conn.execute(statement, {"message_ids": list(message_ids), "ranks": _RANKS, "now": now})
    return [
        MovedRequest(request_id=row.id, client_id=row.client_id, status=Status(row.status)) for row in rows
    ]


def find_unmatched(engine: Engine, message_ids: Sequence[str]) -> list[str]:
    """Return the messages among these with a report that arrived before their attempt was known.

    Raises DatabaseUnavailable.
    """
    return [row.message_id for row in fetch(engine, _UNMATCHED, {"message_ids": list(message_ids)})]


def find_matchable(conn: Connection, *, before: datetime, limit: int) -> list[str]:
    """Return the messages with a known attempt, among the newest `limit` unmatched reports.

    Only reports received before `before` count: a younger one may be about to be matched. Newest first:
    reports on messages of other senders would fill any batch of the oldest.
    """
    newest = (
        select(receipts.c.message_id)
        .where(receipts.c.request_id.is_(None), receipts.c.received_at < before)
        .order_by(receipts.c.received_at.desc())
        .limit(limit)
        .subquery("newest")
    )
    # The inner LIMIT makes it one index lookup per message, however many attempts are stored.
    known = (
        select(literal(1))
        .where(send_attempts.c.external_message_id == newest.c.message_id)
        .limit(1)
        .lateral("known")
    )
    return sorted(conn.execute(select(newest.c.message_id).distinct().join(known, true())).scalars())


def delete_unmatched(conn: Connection, *, now: datetime) -> int:
    """Delete reports without a matching attempt for an hour; return how many."""
    result = conn.execute(
        delete(receipts).where(receipts.c.request_id.is_(None), receipts.c.received_at < now - KEPT_UNMATCHED)
    )
    return result.rowcount
