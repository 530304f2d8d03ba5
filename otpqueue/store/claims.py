"""The claim: which due requests a worker may send now, within the daily caps.

A worker claims and records in turns, each one call of the SQL function `pump_turn`. `sql/claim_due.sql`
describes the possible fates of a request at the claim.

Leases are set by Postgres's own clock, which is `statement_timestamp()` here; other times are arguments.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, Engine

from otpqueue.domain.caps import Caps, get_cap_day
from otpqueue.domain.phone import WORLD
from otpqueue.domain.request import Channel, SendKind, Status
from otpqueue.domain.sending import SendProgress
from otpqueue.store.attempts import AttemptKey, AttemptResult, list_request_ids, to_json
from otpqueue.store.engine import fetch
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_TURN = """
SELECT * FROM pump_turn(
    %(ids)s::uuid[], %(results)s::json, %(slots)s::integer, %(lease_s)s, %(worker)s, %(now)s, %(day)s,
    %(cap)s::integer, %(cap_per_client)s::integer, %(cap_by_share)s::integer, %(caps_by_country)s::jsonb,
    %(after)s::uuid
)
"""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A request that this worker may send now, and the number of the attempt."""

    request_id: UUID
    client_id: UUID
    attempt: int
    progress: SendProgress
    sends: int
    """Which send of the request this is; the first is 1."""
    country: str | None
    language: str | None
    channel: Channel
    digits: str = field(repr=False)
    """The number in the provider's format."""
    pin_id: str | None = field(repr=False)
    """The id of the code to resend; None for a new code."""
    is_test: bool = False
    """Whether the number is a test number. Nothing is sent to it."""
    trace_context: str | None = None
    """The trace that the send continues."""
    guard_block: str | None = None
    """The block in which the pumping guard counts it."""
    guard_counted: int = 0
    """How many sends of the request the guard has counted."""
    created_at: datetime
    number_hash: bytes = field(repr=False)
    client_ip_hash: bytes | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class PumpTurn:
    """The result of one turn of a pump."""

    claims: list[Claim]
    moved: set[AttemptKey]
    """Attempts that moved their request."""
    locked: set[AttemptKey]
    """Attempts of requests that another session had locked. They must be recorded again."""
    next_due: datetime | None = None
    """If nothing was due: when the next request falls due. In the past if another session holds it."""
    last_served: UUID | None = None
    """The client that had the last turn. The next claim starts after it."""


def take_turn(
    on: Engine | Connection,
    results: Sequence[AttemptResult] = (),
    *,
    slots: int,
    lease_s: float,
    worker: str,
    now: datetime,
    vault: Vault,
    caps: Caps | None = None,
    after: UUID | None = None,
) -> PumpTurn:
    """Record `results`, then claim up to `slots` requests that are due, for `lease_s` seconds.

    Clients take turns, starting after the client `after`, where the last claim ended. Each client's oldest
    requests come first. Requests that another worker is claiming and requests under a stop are skipped. One
    transaction, one round trip. Raises DatabaseUnavailable.
    """
    caps = caps or Caps()
    rows = fetch(
        on,
        _TURN,
        {
            "ids": list_request_ids(results) if results else None,
            "results": to_json(results) if results else None,
            "slots": slots,
            "lease_s": lease_s,
            "worker": worker,
            "now": now,
            "day": get_cap_day(now),
            "cap": caps.overall,
            "cap_per_client": caps.per_client,
            "cap_by_share": caps.by_share,
            "caps_by_country": json.dumps(dict(caps.by_country)),
            "after": after,
        },
    )
    turn = PumpTurn(claims=[], moved=set(), locked=set(), last_served=after)
    for row in rows:
        match row.fate:
            case "send":
                if claimed := _opened(row, vault):
                    turn.claims.append(claimed)
            case "moved":
                turn.moved.add((row.request_id, row.attempt))
            case "locked":
                turn.locked.add((row.request_id, row.attempt))
            case "over_cap" | "blocked":
                _report(row)
            case None:
                return replace(turn, next_due=row.next_due, last_served=row.client_id)
    return turn


def claim(
    on: Engine | Connection,
    *,
    slots: int,
    lease_s: float,
    worker: str,
    now: datetime,
    vault: Vault,
    caps: Caps | None = None,
) -> list[Claim]:
    """Claim without recording. Raises DatabaseUnavailable."""
    return take_turn(on, slots=slots, lease_s=lease_s, worker=worker, now=now, vault=vault, caps=caps).claims


def _report(row: Any) -> None:
    about = {"otp_id": str(row.request_id), "client_id": str(row.client_id)}
    if row.fate == "over_cap":
        log.warning("otp_over_daily_cap", **about, country=row.country or WORLD)
    else:
        log.info("otp_number_blocked", **about)


def _opened(row: Any, vault: Vault) -> Claim | None:
    try:
        number = vault.unseal(row.number_sealed, key_id=row.seal_key_id, row_id=row.request_id)
    except (KeyError, InvalidTag):
        # One row with a missing key must not fail the attempts of the others.
        log.warning(
            "number_not_opened",
            otp_id=str(row.request_id),
            client_id=str(row.client_id),
            seal_key_id=row.seal_key_id,
        )
        return None
    return Claim(
        request_id=row.request_id,
        client_id=row.client_id,
        attempt=row.attempt,
        progress=SendProgress(
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
