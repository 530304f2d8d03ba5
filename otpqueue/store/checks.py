"""Queries on checks of codes: one at a time per request, counted before the provider is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine, text, update

from otpqueue.domain.checking import Judgement
from otpqueue.domain.request import OtpRequest, Reason, Status, find_sources
from otpqueue.store import guesses
from otpqueue.store.engine import fetch
from otpqueue.store.requests import (
    FUNCTION_COLUMNS,
    REQUEST_COLUMNS,
    build_end_values,
    filter_by_status,
    to_domain,
)
from otpqueue.store.schema import otp_requests
from otpqueue.store.vault import Vault

_r = otp_requests.c

GIVEN_BACK_AT_MOST = 3
"""How many checks of one request are returned because the provider did not judge the code."""

_BELONGS = """(
    CASE WHEN %(session_hashes)s::bytea[] IS NULL THEN r.session_hash IS NULL
         ELSE r.session_hash = ANY(%(session_hashes)s::bytea[]) IS TRUE END
    AND (%(number_hashes)s::bytea[] IS NULL OR r.number_hash = ANY(%(number_hashes)s::bytea[]))
)"""

# Postgres compares session and number byte by byte. The duration reveals nothing useful: both sides are
# HMACs, and without their key a caller cannot choose bytes or find a prefix by timing. A check of a killed
# process leaves its lease behind. The next check takes over and closes its row.
#
# If no check can begin, the row is returned unchanged, so that the caller learns the reason.
_BEGIN = f"""
    WITH taken AS (
        UPDATE otp_requests AS r
        SET checks_used = r.checks_used + 1, check_number = r.check_number + 1,
            check_lease_until = statement_timestamp() + make_interval(secs => %(lease_s)s),
            updated_at = %(now)s
        WHERE r.id = %(id)s AND r.client_id = %(client)s AND {_BELONGS}
          AND r.status IN ('delivered', 'sent', 'undelivered') AND r.pin_id IS NOT NULL
          AND r.expires_at > %(now)s AND r.checks_used < r.checks_allowed
          AND (r.check_lease_until IS NULL OR r.check_lease_until < statement_timestamp())
        RETURNING r.*
    ), abandoned AS (
        UPDATE checks AS c SET verdict = 'unknown', code = 'lease_ran_out', finished_at = %(now)s
        FROM taken WHERE c.request_id = taken.id AND c.number < taken.check_number AND c.verdict IS NULL
    ), opened AS (
        INSERT INTO checks (request_id, number, client_ip_hash, started_at)
        SELECT id, check_number, coalesce(%(client_ip_hash)s, client_ip_hash), %(now)s FROM taken
    ), guessed AS (
        INSERT INTO number_guesses AS g (client_id, number_hash, wrong_in_a_row, updated_at)
        SELECT client_id, number_hash, 1, %(now)s FROM taken
        ON CONFLICT (client_id, number_hash)
        DO UPDATE SET wrong_in_a_row = g.wrong_in_a_row + 1, updated_at = %(now)s
    )
    SELECT true AS began, true AS belongs, r.check_number, r.pin_id, {REQUEST_COLUMNS} FROM taken AS r
    UNION ALL
    SELECT false, {_BELONGS}, r.check_number, r.pin_id, {REQUEST_COLUMNS} FROM otp_requests AS r
    WHERE r.id = %(id)s AND r.client_id = %(client)s AND NOT EXISTS (SELECT FROM taken)
"""  # noqa: S608 - made of constants

_RECORD = f"""
    SELECT moved, {FUNCTION_COLUMNS}
    FROM record_check(
        %(id)s, %(number)s::smallint, %(verdict)s, %(code)s, %(http_status)s::smallint,
        %(latency_ms)s::integer, %(now)s, %(given_back_at_most)s::smallint, %(minute)s, %(shard)s::smallint
    )
"""  # noqa: S608 - made of constants

_SWEEP = text(
    """
    WITH batch AS MATERIALIZED (
        SELECT id, check_number FROM otp_requests
        WHERE check_lease_until < statement_timestamp()
        ORDER BY check_lease_until LIMIT :limit FOR UPDATE SKIP LOCKED
    ), closed AS (
        UPDATE checks AS c SET verdict = 'unknown', code = 'lease_ran_out', finished_at = :now
        FROM batch WHERE c.request_id = batch.id AND c.number <= batch.check_number AND c.verdict IS NULL
    ), freed AS (
        UPDATE otp_requests AS r SET check_lease_until = NULL, updated_at = :now
        FROM batch WHERE r.id = batch.id
        RETURNING r.id
    )
    SELECT id FROM freed
    """
)


@dataclass(frozen=True, kw_only=True)
class OpenCheck:
    """A check that has been counted and may now be sent to the provider."""

    request_id: UUID
    number: int
    pin_id: str
    trace_context: str | None = None
    """The trace of the call that requested the code."""


@dataclass(frozen=True, kw_only=True)
class NotBegun:
    """No check began: the unchanged request."""

    request: OtpRequest
    belongs: bool
    """Whether session and number match the request."""


@dataclass(frozen=True, kw_only=True)
class RecordedCheck:
    """The effect of a recorded check on its request."""

    request: OtpRequest
    moved_to: Status | None
    """Its status now; None if nothing changed: the request had ended or another check had begun."""


def begin(
    where: Engine | Connection,
    *,
    request_id: UUID,
    client_id: UUID,
    session_hashes: Sequence[bytes] | None,
    number_hashes: Sequence[bytes] | None,
    client_ip_hash: bytes | None,
    lease_s: float,
    now: datetime,
    vault: Vault,
) -> OpenCheck | NotBegun | None:
    """Count a check and lease the request for `lease_s` seconds; None if this client has no such request.

    One statement. The check counts as a wrong code of its number before the code is compared. Its address is
    that of the request unless `client_ip_hash` is given.
    """
    found = fetch(
        where,
        _BEGIN,
        {
            "id": request_id,
            "client": client_id,
            "session_hashes": session_hashes,
            "number_hashes": number_hashes,
            "client_ip_hash": client_ip_hash,
            "lease_s": lease_s,
            "now": now,
        },
    )
    if not found:
        return None
    row = found[0]
    if not row.began:
        return NotBegun(request=to_domain(row, vault), belongs=row.belongs)
    return OpenCheck(
        request_id=request_id,
        number=row.check_number,
        pin_id=row.pin_id,
        trace_context=row.trace_context,
    )


def record(
    where: Engine | Connection,
    check: OpenCheck,
    judgement: Judgement,
    *,
    latency_ms: int,
    now: datetime,
    vault: Vault,
) -> RecordedCheck | None:
    """Record a judgement, release the lease, and end the request if the judgement requires it.

    None if the request has been erased meanwhile. A correct code may be recorded again with the same `now`:
    after a broken connection it is unknown whether the statement was executed.
    """
    found = fetch(
        where,
        _RECORD,
        {
            "id": check.request_id,
            "number": check.number,
            "verdict": judgement.verdict.value,
            "code": judgement.code,
            "http_status": judgement.http_status,
            "latency_ms": latency_ms,
            "now": now,
            "given_back_at_most": GIVEN_BACK_AT_MOST,
            "minute": now.replace(second=0, microsecond=0),
            "shard": check.request_id.int % guesses.SHARDS,
        },
    )
    if not found:
        return None
    request = to_domain(found[0], vault)
    return RecordedCheck(request=request, moved_to=request.status if found[0].moved else None)


def sweep(conn: Connection, *, now: datetime, limit: int) -> int:
    """Release checks with an expired lease and close them as unknown; return how many.

    A request without remaining checks is locked.
    """
    freed = conn.execute(_SWEEP, {"now": now, "limit": limit}).scalars().all()
    if freed:
        conn.execute(
            update(otp_requests)
            .where(
                _r.id.in_(freed),
                filter_by_status(find_sources(Status.LOCKED)),
                _r.checks_used >= _r.checks_allowed,
                _r.check_lease_until.is_(None),
            )
            .values(build_end_values(Status.LOCKED, Reason.CHECKS_EXHAUSTED, now))
        )
    return len(freed)
