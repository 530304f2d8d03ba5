"""Queries of a code's checks: one at a time per request, counted before the provider is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CTE, Connection, and_, case, delete, func, literal, null, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from otpqueue.domain.checking import Judgement, Verdict
from otpqueue.domain.request import CHECKABLE, Reason, Status, sources
from otpqueue.store import guesses
from otpqueue.store.requests import ending, in_status
from otpqueue.store.schema import check_counts, checks, number_guesses, otp_requests

_r = otp_requests.c
_g = number_guesses.c

_GUESSED = frozenset({Verdict.CORRECT, Verdict.WRONG, Verdict.UNKNOWN})
"""Verdicts on a code that was compared, or may have been."""

GIVEN_BACK_AT_MOST = 3
"""How many checks of one request may be given back because the provider could not judge."""

# Session and number are compared here, in Postgres, byte by byte until they differ. The time of that tells
# nothing: both sides are HMACs, and without their key nobody can choose bytes, nor find a prefix by its time.
# A check whose process died leaves its lease behind: the next check takes over and closes its row.
_BEGIN = text(
    """
    WITH taken AS (
        UPDATE otp_requests AS r
        SET checks_used = r.checks_used + 1, check_number = r.check_number + 1,
            check_lease_until = statement_timestamp() + make_interval(secs => :lease_s), updated_at = :now
        WHERE r.id = :id AND r.client_id = :client_id
          AND (CAST(:session_hashes AS bytea[]) IS NULL AND r.session_hash IS NULL
               OR r.session_hash = ANY(CAST(:session_hashes AS bytea[])))
          AND (CAST(:number_hashes AS bytea[]) IS NULL
               OR r.number_hash = ANY(CAST(:number_hashes AS bytea[])))
          AND r.status = ANY(CAST(:checkable AS text[])) AND r.pin_id IS NOT NULL AND r.expires_at > :now
          AND r.checks_used < r.checks_allowed
          AND (r.check_lease_until IS NULL OR r.check_lease_until < statement_timestamp())
        RETURNING r.id, r.pin_id, r.check_number, r.client_id, r.number_hash, r.client_ip_hash,
                  r.trace_context
    ), abandoned AS (
        UPDATE checks AS c SET verdict = 'unknown', code = 'lease_ran_out', finished_at = :now
        FROM taken WHERE c.request_id = taken.id AND c.number < taken.check_number AND c.verdict IS NULL
    ), opened AS (
        INSERT INTO checks (request_id, number, client_ip_hash, started_at)
        SELECT id, check_number, coalesce(:client_ip_hash, client_ip_hash), :now FROM taken
    ), guessed AS (
        INSERT INTO number_guesses AS g (client_id, number_hash, wrong_in_a_row, updated_at)
        SELECT client_id, number_hash, 1, :now FROM taken
        ON CONFLICT (client_id, number_hash)
        DO UPDATE SET wrong_in_a_row = g.wrong_in_a_row + 1, updated_at = :now
    )
    SELECT pin_id, check_number, trace_context FROM taken
    """
)

_SWEEP = text(
    """
    WITH batch AS MATERIALIZED (
        SELECT id, check_number FROM otp_requests
        WHERE check_lease_until < statement_timestamp()
        ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
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
    """A check that has been counted and may now be put to the provider."""

    request_id: UUID
    number: int
    pin_id: str
    trace_context: str | None = None
    """Where the trace of the call that had the code sent goes on."""


def begin(
    conn: Connection,
    *,
    request_id: UUID,
    client_id: UUID,
    session_hashes: Sequence[bytes] | None,
    number_hashes: Sequence[bytes] | None,
    client_ip_hash: bytes | None,
    lease_s: float,
    now: datetime,
) -> OpenCheck | None:
    """Count a check and hold back any other for `lease_s` seconds; None if the request cannot be checked now.

    One statement: the check is counted before anybody compares the code, as a wrong one of its number, too.
    It is taken to come from where the request came from unless `client_ip_hash` says otherwise.
    """
    row = conn.execute(
        _BEGIN,
        {
            "id": request_id,
            "client_id": client_id,
            "session_hashes": session_hashes,
            "number_hashes": number_hashes,
            "client_ip_hash": client_ip_hash,
            "lease_s": lease_s,
            "now": now,
            "checkable": sorted(status.value for status in CHECKABLE),
        },
    ).one_or_none()
    if row is None:
        return None
    return OpenCheck(
        request_id=request_id,
        number=row.check_number,
        pin_id=row.pin_id,
        trace_context=row.trace_context,
    )


def record(
    conn: Connection, check: OpenCheck, judgement: Judgement, *, latency_ms: int, now: datetime
) -> Status | None:
    """Record a judgement, let the next check in, and move the request if the judgement ends it.

    Returns the request's status after that, None when the request had ended (or, for all but a correct code,
    gone on to another check) before: then nothing moved. For a correct code that is the single use.
    """
    noted = (
        update(checks)
        .where(
            checks.c.request_id == check.request_id,
            checks.c.number == check.number,
            or_(checks.c.verdict.is_(None), checks.c.code == "lease_ran_out"),
        )
        .values(
            verdict=judgement.verdict.value,
            code=judgement.code,
            http_status=judgement.http_status,
            latency_ms=latency_ms,
            finished_at=now,
        )
        .returning(checks.c.request_id)
        .cte("noted")
    )
    conditions = [_r.id == check.request_id, in_status(CHECKABLE)]
    if judgement.verdict is not Verdict.CORRECT:
        conditions.append(_r.check_number == check.number)
    moved = (
        update(otp_requests)
        .where(*conditions)
        .values(check_lease_until=None, **_consequence(judgement.verdict, now))
        .returning(_r.status, _r.client_id, _r.number_hash)
        .cte("moved")
    )
    counts = _counts(check, judgement.verdict, noted=noted, moved=moved, now=now)
    status = conn.execute(select(moved.c.status).add_cte(noted, *counts)).scalar_one_or_none()
    return Status(status) if status else None


def _counts(check: OpenCheck, verdict: Verdict, *, noted: CTE, moved: CTE, now: datetime) -> list[CTE]:
    """Return what a judgement changes in the counts of guesses: `begin` has counted a wrong one."""
    if verdict not in _GUESSED:
        return [_not_guessed(noted, now)]
    counted = _count_in_its_minute(check, wrong=verdict is not Verdict.CORRECT, noted=noted, now=now)
    if verdict is not Verdict.CORRECT:
        return [counted]
    # Only if it was accepted: a right code that came too late proves nothing.
    its = and_(_g.client_id == moved.c.client_id, _g.number_hash == moved.c.number_hash)
    forgotten = delete(number_guesses).where(its, _g.unlocked_at.is_(None))
    # What an operator has forgiven stays forgiven.
    kept = update(number_guesses).where(its, _g.unlocked_at.is_not(None))
    kept = kept.values(wrong_in_a_row=0, updated_at=now)
    return [counted, forgotten.cte("forgotten"), kept.cte("kept")]


def _not_guessed(noted: CTE, now: datetime) -> CTE:
    return (
        update(number_guesses)
        .where(
            _r.id == noted.c.request_id,
            _g.client_id == _r.client_id,
            _g.number_hash == _r.number_hash,
        )
        .values(wrong_in_a_row=func.greatest(_g.wrong_in_a_row - 1, 0), updated_at=now)
        .cte("not_guessed")
    )


def _count_in_its_minute(check: OpenCheck, *, wrong: bool, noted: CTE, now: datetime) -> CTE:
    new = select(
        _r.client_id,
        literal(now.replace(second=0, microsecond=0)),
        literal(check.request_id.int % guesses.SHARDS),
        literal(1),
        literal(int(wrong)),
    ).where(_r.id == noted.c.request_id)
    columns = ["client_id", "minute", "shard", "checks", "wrong"]
    adding = insert(check_counts).from_select(columns, new)
    return adding.on_conflict_do_update(
        index_elements=columns[:3],
        set_={name: check_counts.c[name] + adding.excluded[name] for name in columns[3:]},
    ).cte("counted")


def sweep(conn: Connection, *, now: datetime, limit: int) -> int:
    """Free requests whose check's lease ran out, and close those checks as unknown; return how many.

    A request whose last check that was is locked.
    """
    freed = conn.execute(_SWEEP, {"now": now, "limit": limit}).scalars().all()
    if freed:
        conn.execute(
            update(otp_requests)
            .where(
                _r.id.in_(freed),
                in_status(sources(Status.LOCKED)),
                _r.checks_used >= _r.checks_allowed,
                _r.check_lease_until.is_(None),
            )
            .values(ending(Status.LOCKED, Reason.CHECKS_EXHAUSTED, now))
        )
    return len(freed)


def _consequence(verdict: Verdict, now: datetime) -> dict[str, Any]:
    if verdict is Verdict.CORRECT:
        return ending(Status.VERIFIED, Reason.CODE_CORRECT, now) | {"verified_at": now}
    if verdict is Verdict.EXPIRED:
        return ending(Status.EXPIRED, Reason.PROVIDER_EXPIRED, now)
    if verdict is Verdict.EXHAUSTED:
        return ending(Status.LOCKED, Reason.PROVIDER_LOCKED, now)
    if verdict is Verdict.UNJUDGED:
        back = case((_r.checks_given_back < GIVEN_BACK_AT_MOST, 1), else_=0)
        spent = and_(_r.checks_given_back >= GIVEN_BACK_AT_MOST, _r.checks_used >= _r.checks_allowed)
        return _locked_if(spent, now) | {
            "checks_used": _r.checks_used - back,
            "checks_given_back": _r.checks_given_back + back,
        }
    return _locked_if(_r.checks_used >= _r.checks_allowed, now)


def _locked_if(condition: Any, now: datetime) -> dict[str, Any]:
    locked = ending(Status.LOCKED, Reason.CHECKS_EXHAUSTED, now)
    kept = {name: getattr(_r, name) for name in locked} | {"updated_at": now}
    return {
        name: case((condition, null() if value is None else value), else_=kept[name])
        for name, value in locked.items()
    }
