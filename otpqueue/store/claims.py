"""The claim: which requests that are due a worker may send now, within the caps, as one statement.

It is also where those end that may not be sent any more: over a cap, or to a number that was blocked after
the request was accepted. They end at once, so that their callers learn it and nobody waits behind them.

| fate          | what becomes of the request                                                                |
|---------------|--------------------------------------------------------------------------------------------|
| `send`        | claimed, and counted                                                                       |
| `over_cap`    | ends: one of its three counts stood at its cap before                                      |
| `blocked`     | ends: its number is on the do-not-send list                                                |
| `later`       | stays due: it did not fit beside the older ones of this batch; the next claim decides      |
| `uncounted`   | stays due: the day has no count yet for its client or country; `claim` opens it            |

Leases are set by Postgres's own clock, which is `statement_timestamp()` here; other times are arguments.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, Row, text

from otpqueue.domain.caps import Caps, Scope, day_of
from otpqueue.domain.phone import WORLD
from otpqueue.domain.request import Channel, Reason, SendKind, Status
from otpqueue.domain.sending import Progress
from otpqueue.logs import get_logger
from otpqueue.store.send_counts import ALL, Subject, open_counts
from otpqueue.store.stops import not_stopped
from otpqueue.store.vault import Vault

log = get_logger(__name__)

# `due` locks requests and waits for nobody; `counts` then waits for the counts, in their order, and reads
# them as they are once it has them: all claims of a moment stand in line there, each for as long as it takes
# to commit. That is what makes the caps exact. Ranks count the older ones of the batch as sent, whatever
# their own fate, so one that does not fit is only left for later; the oldest has rank 1 everywhere, so each
# claim brings something forward.
#
# `blocked` compares hashes as they are stored. While the look-up key is being replaced, a request that was
# accepted under the one key does not match an entry that was made since under the other, until both are
# hashed anew. Acceptance looks by both: only a number that is blocked while its code waits is sent that code.
_CLAIM = text(
    f"""
    WITH due AS MATERIALIZED (
        SELECT r.id, r.client_id, coalesce(r.country, :world) AS country, r.number_hash, r.is_test,
               r.next_attempt_at
        FROM otp_requests AS r
        WHERE r.send_state = 'due' AND r.next_attempt_at <= :now AND r.send_by > :now AND {not_stopped("r")}
        ORDER BY r.next_attempt_at
        LIMIT :slots
        FOR UPDATE OF r SKIP LOCKED
    ), seen AS MATERIALIZED (
        SELECT due.*, EXISTS (
            SELECT FROM do_not_send AS d
            WHERE d.number_hash = due.number_hash AND (d.until IS NULL OR d.until > :now)
        ) AS blocked
        FROM due
    ), counted AS MATERIALIZED (
        SELECT id, client_id::text AS client, country,
               row_number() OVER (ORDER BY next_attempt_at, id) AS nth,
               row_number() OVER (PARTITION BY client_id ORDER BY next_attempt_at, id) AS nth_of_client,
               row_number() OVER (PARTITION BY country ORDER BY next_attempt_at, id) AS nth_of_country
        FROM seen WHERE NOT blocked AND NOT is_test
    ), capped AS (
        SELECT 'all' AS scope, '' AS subject, CAST(:cap AS integer) AS cap
        UNION ALL
        SELECT 'client', c.id::text, coalesce((c.settings ->> 'daily_cap')::integer, :cap_per_client)
        FROM clients AS c WHERE c.id IN (SELECT client_id FROM seen)
        UNION ALL
        SELECT DISTINCT 'country', country,
               coalesce(caps ->> country, caps ->> '*')::integer
        FROM seen, CAST(:caps_by_country AS jsonb) AS caps
    ), counts AS MATERIALIZED (
        SELECT c.scope, c.subject, capped.cap - c.taken AS room
        FROM send_counts AS c JOIN capped ON capped.scope = c.scope AND capped.subject = c.subject
        WHERE c.day = :day AND EXISTS (SELECT FROM counted)
        ORDER BY c.scope, c.subject
        FOR UPDATE OF c
    ), fates AS MATERIALIZED (
        SELECT seen.id, seen.client_id, seen.country, CASE
                   WHEN seen.blocked THEN 'blocked'
                   WHEN seen.is_test THEN 'send'
                   WHEN whole.scope IS NULL OR client.scope IS NULL OR country.scope IS NULL THEN 'uncounted'
                   WHEN least(whole.room, client.room, country.room) <= 0 THEN 'over_cap'
                   WHEN counted.nth > whole.room OR counted.nth_of_client > client.room
                        OR counted.nth_of_country > country.room THEN 'later'
                   ELSE 'send'
               END AS fate, counted.id IS NOT NULL AS counts
        FROM seen
        LEFT JOIN counted ON counted.id = seen.id
        LEFT JOIN counts AS whole ON whole.scope = 'all'
        LEFT JOIN counts AS client ON client.scope = 'client' AND client.subject = counted.client
        LEFT JOIN counts AS country ON country.scope = 'country' AND country.subject = counted.country
    ), taken AS (
        SELECT scope, subject, count(*) AS number
        FROM fates CROSS JOIN LATERAL (
            VALUES ('all', ''), ('client', client_id::text), ('country', country)
        ) AS of (scope, subject)
        WHERE fate = 'send' AND counts
        GROUP BY scope, subject
    ), reserved AS (
        UPDATE send_counts AS c SET taken = c.taken + taken.number
        FROM taken WHERE c.day = :day AND c.scope = taken.scope AND c.subject = taken.subject
    ), ended AS (
        UPDATE otp_requests AS r
        SET status = CASE WHEN r.status = 'queued' THEN 'failed' ELSE r.status END,
            reason = CASE WHEN r.status = 'queued' THEN why.reason ELSE r.reason END,
            finished_at = CASE WHEN r.status = 'queued' THEN :now ELSE r.finished_at END,
            resend = CASE WHEN r.resend = 'pending' THEN 'failed' ELSE r.resend END,
            resend_reason = CASE WHEN r.resend = 'pending' THEN why.reason ELSE r.resend_reason END,
            send_state = 'idle', next_attempt_at = NULL, updated_at = :now
        FROM fates JOIN (
            VALUES ('over_cap', :daily_cap), ('blocked', :number_not_allowed)
        ) AS why (fate, reason) ON why.fate = fates.fate
        WHERE r.id = fates.id
    ), claimed AS (
        UPDATE otp_requests AS r
        SET send_state = 'claimed', next_attempt_at = NULL, updated_at = :now,
            lease_until = statement_timestamp() + make_interval(secs => :lease_s),
            attempt = r.attempt + 1, tries = r.tries + 1
        FROM fates WHERE r.id = fates.id AND fates.fate = 'send'
        RETURNING r.id, r.attempt, r.tries, r.unknowns, r.send_by, r.country, r.language, r.status,
                  r.send_kind, r.sends, r.pin_id, coalesce(r.resend_channel, r.channel) AS channel,
                  r.number_sealed, r.seal_key_id, r.is_test, r.trace_context,
                  r.guard_block, r.guard_counted, r.created_at, r.number_hash, r.client_ip_hash
    ), numbered AS (
        INSERT INTO send_attempts (request_id, number, worker, claimed_at, kind, channel)
        SELECT id, attempt, :worker, :now, send_kind, channel FROM claimed
    )
    SELECT fates.fate, fates.id AS request_id, fates.client_id, fates.country AS counted_country, claimed.*
    FROM fates LEFT JOIN claimed ON claimed.id = fates.id
    """  # noqa: S608 - a condition of ours
)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A request that this worker may send now, and the number of the attempt."""

    request_id: UUID
    client_id: UUID
    attempt: int
    progress: Progress
    sends: int
    """Which send of the request this is, the first is 1."""
    country: str | None
    language: str | None
    channel: Channel
    digits: str = field(repr=False)
    """The number as the provider wants it."""
    pin_id: str | None = field(repr=False)
    """The code to send once more; None for a fresh one."""
    is_test: bool = False
    """Whether it is for a test number, to which nothing is sent."""
    trace_context: str | None = None
    """Where the trace of the call that wants it sent goes on."""
    guard_block: str | None = None
    """The block that the pumping guard counts it in."""
    guard_counted: int = 0
    """How many sends of the request the guard has counted."""
    created_at: datetime
    number_hash: bytes = field(repr=False)
    client_ip_hash: bytes | None = field(repr=False)


def claim(
    conn: Connection,
    *,
    slots: int,
    lease_s: float,
    worker: str,
    now: datetime,
    vault: Vault,
    caps: Caps | None = None,
) -> list[Claim]:
    """Claim up to `slots` requests that are due, oldest first, each for `lease_s` seconds.

    Requests that another worker is claiming at this moment are passed over, and so are those for which
    sending is stopped. One statement, run again where the day's first codes of a client or country are among
    them.
    """
    caps, day = caps or Caps(), day_of(now)
    parameters = {
        "slots": slots,
        "lease_s": lease_s,
        "worker": worker,
        "now": now,
        "day": day,
        "world": WORLD,
        "cap": caps.overall,
        "cap_per_client": caps.per_client,
        "caps_by_country": json.dumps(dict(caps.by_country)),
        "daily_cap": Reason.DAILY_CAP.value,
        "number_not_allowed": Reason.NUMBER_NOT_ALLOWED.value,
    }
    while True:
        rows = conn.execute(_CLAIM, parameters).all()
        _report(rows)
        uncounted = [subject for row in rows if row.fate == "uncounted" for subject in _subjects(row)]
        if uncounted:
            open_counts(conn, day, uncounted)
        claims = [found for row in rows if row.fate == "send" and (found := _opened(row, vault)) is not None]
        # Run again only while nothing is claimed: were that undone by a deadlock, claims would be forgotten.
        if claims or not uncounted:
            return claims


def _subjects(row: Row[*tuple[Any, ...]]) -> tuple[Subject, ...]:
    return ALL, (Scope.CLIENT, str(row.client_id)), (Scope.COUNTRY, row.counted_country)


def _report(rows: Sequence[Row[*tuple[Any, ...]]]) -> None:
    for row in rows:
        about = {"otp_id": str(row.request_id), "client_id": str(row.client_id)}
        if row.fate == "over_cap":
            log.warning("otp_over_daily_cap", **about, country=row.counted_country)
        elif row.fate == "blocked":
            log.info("otp_number_blocked", **about)


def _opened(row: Row[*tuple[Any, ...]], vault: Vault) -> Claim | None:
    try:
        number = vault.unseal(row.number_sealed, key_id=row.seal_key_id, row_id=row.id)
    except (KeyError, InvalidTag):
        # One row whose key was taken away must not take the attempts of the others along.
        log.warning(
            "number_not_opened",
            otp_id=str(row.id),
            client_id=str(row.client_id),
            seal_key_id=row.seal_key_id,
        )
        return None
    return Claim(
        request_id=row.id,
        client_id=row.client_id,
        attempt=row.attempt,
        progress=Progress(
            tries=row.tries, unknowns=row.unknowns, send_by=row.send_by, first=row.status == Status.QUEUED
        ),
        sends=row.sends,
        country=row.country,
        language=row.language,
        channel=Channel(row.channel),
        pin_id=row.pin_id if row.send_kind == SendKind.RESEND else None,
        digits=number.removeprefix("+"),
        is_test=row.is_test,
        trace_context=row.trace_context,
        guard_block=row.guard_block,
        guard_counted=row.guard_counted,
        created_at=row.created_at,
        number_hash=row.number_hash,
        client_ip_hash=row.client_ip_hash,
    )
