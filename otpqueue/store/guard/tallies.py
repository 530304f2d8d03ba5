"""Queries of the pumping guard: tallies of blocks, countries and addresses, and its decisions.

Sends are counted in the hour in which their request was accepted: in enforce mode before the request is
stored (`take`), in shadow mode after the claim (`count_claims`). A trigger on `otp_requests` counts the
outcomes. The statements are SQL functions, in `sql/guard_*.sql`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, func

from otpqueue.domain.guard import (
    EMPTY,
    OWN_SENDS,
    TOTAL,
    BlockTally,
    CountedAs,
    GuardDecision,
    GuardFacts,
    GuardMode,
    GuardPolicy,
    NumberFacts,
    SendWindow,
    truncate_to_hour,
)
from otpqueue.domain.guard_batch import BatchSend
from otpqueue.store.engine import fetch
from otpqueue.store.schema import guard_tallies

_TAKE = """
    SELECT facts, counted, counted_at FROM guard_take(
        %(numbers)s, %(addresses)s, %(block)s, %(country)s, %(digits)s, %(resend)s, %(now)s,
        %(policy)s::jsonb, %(chances)s
    )
"""
_NOTE_REFUSAL = """
    SELECT guard_note_refusal(
        %(client)s, %(block)s, %(country)s, %(address)s, %(counted_at)s, %(now)s, %(mode)s, %(reason)s,
        %(at_risk)s::integer, %(budget)s
    )
"""
_CLAIM_FACTS = """
    SELECT guard_claim_facts(
        %(numbers)s, %(others)s::bytea[], %(blocks)s, %(countries)s, %(addresses)s::bytea[], %(now)s
    ) AS facts
"""
_COUNT_CLAIMS = """
    SELECT guard_count_claims(
        %(ids)s, %(sends)s::smallint[], %(blocks)s, %(standings)s, %(reasons)s, %(at_risks)s::integer[],
        %(budgets)s::float8[], %(tried)s, %(mode)s, %(now)s
    ) AS counted
"""


@dataclass(frozen=True, kw_only=True)
class GuardSubject:
    """The subject of a decision."""

    block: str
    country: str
    digits: str
    number_hashes: Sequence[bytes]
    address_hashes: Sequence[bytes]
    """Empty if the address is unknown."""


@dataclass(frozen=True, kw_only=True)
class GuardCount:
    """The facts about a send, and whether it was counted."""

    facts: GuardFacts
    counted: CountedAs | None
    """None if nothing was counted."""
    counted_at: datetime
    """It is counted in the hour of this time."""


@dataclass(frozen=True, kw_only=True)
class ClaimedSend:
    """A claimed send."""

    request_id: UUID
    nth: int
    """Which send of its request it is; the first is 1."""
    number_hashes: Sequence[bytes]
    """One, or two during a look-up key rotation."""
    send: BatchSend


@dataclass(frozen=True, kw_only=True)
class ClaimFacts:
    """The facts that the guard needs to decide on a batch of sends."""

    numbers: Mapping[str, NumberFacts]
    """By their digits."""
    tallies: Mapping[str, BlockTally]
    addresses: Mapping[bytes, SendWindow]
    excepted: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class GuardQuestion:
    """The guard's input for counting a send when its request is stored."""

    country: str
    digits: str = field(repr=False)
    policy: str
    """In the form of `format_policy`."""
    chances: bool = False
    """Whether the chance of a new block may be counted, which one transaction at a time does."""

    def as_json(self) -> str:
        """Return the question in the form that `accept_request` accepts."""
        question = {"country": self.country, "digits": self.digits, "chances": self.chances}
        return json.dumps(question | {"policy": json.loads(self.policy)})


def format_policy(policy: GuardPolicy) -> str:
    """Return the budgets in the form that the SQL functions accept."""
    return json.dumps(asdict(policy) | {"own_sends": OWN_SENDS})


def take(
    engine: Engine, subject: GuardSubject, *, policy: str, resend: bool, chances: bool, now: datetime
) -> GuardCount:
    """Count a send if it is allowed, in one statement; `policy` is in the form of `format_policy`.

    The chance of a new block is counted only with `chances`, which lets one transaction at a time do so.
    Raises DatabaseUnavailable.
    """
    (row,) = fetch(
        engine,
        _TAKE,
        {
            "numbers": list(subject.number_hashes),
            "addresses": list(subject.address_hashes),
            "block": subject.block,
            "country": subject.country,
            "digits": subject.digits,
            "resend": resend,
            "now": now,
            "policy": policy,
            "chances": chances,
        },
    )
    return parse_taken(row.facts, row.counted, row.counted_at)


def parse_taken(facts: Mapping[str, Any], counted: str | None, counted_at: datetime) -> GuardCount:
    """Return the result of `guard_take`."""
    return GuardCount(
        facts=parse_facts(facts), counted=CountedAs(counted) if counted else None, counted_at=counted_at
    )


def give_back(conn: Connection, subject: GuardSubject, *, chance: bool, at: datetime) -> None:
    """Subtract a send again: its request was not stored."""
    t = guard_tallies.c
    for name in [TOTAL, subject.country, subject.block] if chance else [subject.block]:
        conn.execute(
            guard_tallies.update()
            .where(t.subject == name, t.hour == truncate_to_hour(at))
            .values(sent=func.greatest(t.sent - 1, t.verified))
        )


def note_refusal(
    engine: Engine,
    subject: GuardSubject,
    decision: GuardDecision,
    *,
    client_id: UUID,
    mode: GuardMode,
    counted_at: datetime,
    now: datetime,
) -> None:
    """Store a refusal; those of a minute for one reason share a row. Raises DatabaseUnavailable."""
    fetch(
        engine,
        _NOTE_REFUSAL,
        {
            "client": client_id,
            "block": subject.block,
            "country": subject.country,
            "address": next(iter(subject.address_hashes), None) if decision.tries_new_block else None,
            "counted_at": counted_at,
            "now": now,
            "mode": mode.value,
            "reason": decision.why.value,
            "at_risk": decision.at_risk,
            "budget": float(decision.budget),
        },
    )


def read_claim_facts(engine: Engine, claimed: Sequence[ClaimedSend], *, now: datetime) -> ClaimFacts:
    """Return the facts for deciding on a batch, in one statement. Raises DatabaseUnavailable."""
    (row,) = fetch(
        engine,
        _CLAIM_FACTS,
        {
            "numbers": [one.number_hashes[0] for one in claimed],
            "others": [one.number_hashes[1] if len(one.number_hashes) > 1 else None for one in claimed],
            "blocks": [one.send.block for one in claimed],
            "countries": [one.send.country for one in claimed],
            "addresses": [one.send.address for one in claimed],
            "now": now,
        },
    )
    facts = row.facts
    return ClaimFacts(
        numbers={
            one.send.digits: NumberFacts(verified=verified, own=own)
            for one, (verified, own) in zip(claimed, facts["numbers"], strict=True)
        },
        tallies={subject: _tally(found) for subject, found in facts["tallies"].items()},
        # Omitted if no block of the batch is new.
        addresses={
            one.send.address: SendWindow(sent=tries, verified=verified)
            for one, (tries, verified) in zip(claimed, facts["addresses"], strict=False)
            if one.send.address
        },
        excepted=tuple(facts["excepted"]),
    )


def count_claims(
    engine: Engine, decided: Sequence[tuple[ClaimedSend, GuardDecision]], *, mode: GuardMode, now: datetime
) -> set[UUID]:
    """Count a batch of sends by their decisions, in one statement; refusals are stored with `mode`.

    All are of different requests. Returns the requests with a send that was not counted before. Raises
    DatabaseUnavailable.
    """
    (row,) = fetch(
        engine,
        _COUNT_CLAIMS,
        {
            "ids": [claimed.request_id for claimed, _ in decided],
            "sends": [claimed.nth for claimed, _ in decided],
            "blocks": [claimed.send.block for claimed, _ in decided],
            "standings": [decision.counted_as.value for _, decision in decided],
            "reasons": [decision.why.value for _, decision in decided],
            "at_risks": [decision.at_risk for _, decision in decided],
            "budgets": [float(decision.budget) for _, decision in decided],
            "tried": [decision.tries_new_block for _, decision in decided],
            "mode": mode.value,
            "now": now,
        },
    )
    return set(row.counted)


def parse_facts(found: Mapping[str, Any]) -> GuardFacts:
    """Return the facts from the result of the SQL function `guard_facts`."""
    address = found.get("address")
    return GuardFacts(
        number=NumberFacts(verified=found["verified"], own=found["own"]),
        block=_tally(found["block"]),
        excepted=found["excepted"],
        country=_tally(found.get("country")),
        total=_tally(found.get("total")),
        address=SendWindow(**address) if address else None,
    )


def _tally(found: Mapping[str, Any] | None) -> BlockTally:
    if not found:
        return EMPTY
    return BlockTally(
        now=SendWindow(sent=found["now_sent"], verified=found["now_verified"]),
        hour=SendWindow(sent=found["hour_sent"], verified=found["hour_verified"]),
        day=SendWindow(sent=found["day_sent"], verified=found["day_verified"]),
        best_hour=found["best_hour"],
        best_day=found["best_day"],
        refused=found["refused"],
    )
