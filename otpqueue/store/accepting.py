"""Accept a request for a code: one call of `sql/accept_request.sql`, one round trip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from otpqueue.domain.admission import StoredFacts
from otpqueue.domain.limits import GuessPolicy
from otpqueue.domain.phone import PhoneNumber
from otpqueue.domain.replay import StoredResponse
from otpqueue.domain.request import Channel, OtpRequest, SendState, Status
from otpqueue.store.engine import fetch
from otpqueue.store.guard.tallies import GuardCount, GuardQuestion, parse_taken
from otpqueue.store.idempotency import IdempotencyKey, UsedKey
from otpqueue.store.vault import Vault

_ACCEPT = """
    SELECT * FROM accept_request(
        %(store)s, %(client)s, %(numbers)s, %(addresses)s, %(now)s,
        %(number_since)s, %(number_before)s::integer, %(address_since)s, %(address_before)s::integer,
        %(most_in_a_row)s::integer,
        %(id)s, %(sealed)s, %(seal_key)s, %(country)s, %(sessions)s, %(address)s, %(reference)s,
        %(channel)s, %(language)s, %(checks)s::integer, %(send_by)s, %(is_test)s, %(guard_block)s,
        %(guard)s::jsonb, %(trace_context)s,
        %(key_hashes)s, %(fingerprints)s, %(key_expires_at)s, %(answer)s::jsonb
    )
"""
_FACTS = """
    SELECT * FROM admission_facts(
        %(client)s, %(numbers)s, %(addresses)s, %(now)s,
        %(number_since)s, %(number_before)s::integer, %(address_since)s, %(address_before)s::integer
    )
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLookup:
    """The number and address to look up, and the windows in which wrong codes count."""

    client_id: UUID
    number_hashes: Sequence[bytes]
    """The hash to store first. A second one during a look-up key rotation."""
    client_ip_hashes: Sequence[bytes] | None
    guesses: GuessPolicy
    now: datetime

    def parameters(self) -> dict[str, Any]:
        """Return the arguments that both SQL functions accept."""
        number, address = self.guesses.number, self.guesses.client_ip
        return {
            "client": self.client_id,
            "numbers": list(self.number_hashes),
            "addresses": list(self.client_ip_hashes or ()),
            "now": self.now,
            "number_since": number.get_start(self.now) if number else None,
            "number_before": number.amount - 1 if number else 0,
            "address_since": address.get_start(self.now) if address else None,
            "address_before": address.amount - 1 if address else 0,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRequest:
    """The columns of a request at acceptance."""

    id: UUID
    client_id: UUID
    phone: PhoneNumber
    session_id: str | None
    client_ip: str | None
    client_reference: str | None
    channel: Channel
    language: str | None
    checks_allowed: int
    created_at: datetime
    send_by: datetime
    is_test: bool = False
    guard_block: str | None = None
    """The block in which the pumping guard counts it; None if the guard is off."""
    trace_context: str | None = None
    """The trace that the send continues."""

    def as_accepted(self) -> OtpRequest:
        """Return the request after it was stored."""
        return OtpRequest(
            id=self.id,
            client_id=self.client_id,
            phone_number=self.phone.masked,
            channel=self.channel,
            status=Status.QUEUED,
            send_state=SendState.DUE,
            reason=None,
            provider_code=None,
            client_reference=self.client_reference,
            created_at=self.created_at,
            send_by=self.send_by,
            sent_at=None,
            expires_at=None,
            verified_at=None,
            checks_allowed=self.checks_allowed,
            checks_used=0,
            check_in_flight=False,
            sends=1,
            resend=None,
            resend_channel=None,
            resend_reason=None,
            resend_after=None,
            updated_at=self.created_at,
            is_test=self.is_test,
            trace_context=self.trace_context,
        )


@dataclass(frozen=True, kw_only=True)
class KeyToKeep:
    """An Idempotency-Key, and the answer to keep with it if the request is accepted."""

    key: IdempotencyKey
    answer: StoredResponse = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptResult:
    """The outcome of accepting a request."""

    accepted: bool
    facts: StoredFacts
    replaced: tuple[UUID, ...] = ()
    """The live requests of the same client, number and session that it cancelled."""
    used: UsedKey | None = None
    """The earlier call with the same Idempotency-Key. Nothing else was read then."""
    guard: GuardCount | None = None
    """The pumping guard's facts, and whether it counted the send; None if the guard was not asked."""


def accept(
    engine: Engine,
    new: NewRequest,
    lookup: NumberLookup,
    *,
    most_wrong_in_a_row: int,
    vault: Vault,
    store: bool = True,
    keep: KeyToKeep | None = None,
    guard: GuardQuestion | None = None,
) -> AcceptResult:
    """Store a request as due unless a fact refuses it, and cancel a live one for the same number and session.

    With a guard question, the request is stored only if the guard counts it. Without `store`, only the facts
    and the use of the Idempotency-Key are read. More than `most_wrong_in_a_row` consecutive wrong codes lock
    the number.

    Raises DatabaseUnavailable.
    """
    key_id, sealed = vault.seal(new.phone.e164, row_id=new.id) if store else (None, None)
    parameters = lookup.parameters() | {
        "store": store,
        "most_in_a_row": most_wrong_in_a_row,
        "id": new.id,
        "sealed": sealed,
        "seal_key": key_id,
        "country": new.phone.country,
        "sessions": vault.session_hashes(new.session_id),
        "address": lookup.client_ip_hashes[0] if lookup.client_ip_hashes else None,
        "reference": new.client_reference,
        "channel": new.channel.value,
        "language": new.language,
        "checks": new.checks_allowed,
        "send_by": new.send_by,
        "is_test": new.is_test,
        "guard_block": new.guard_block,
        "guard": guard.as_json() if guard else None,
        "trace_context": new.trace_context,
        "key_hashes": list(keep.key.key_hashes) if keep else None,
        "fingerprints": list(keep.key.fingerprints) if keep else None,
        "key_expires_at": keep.expires_at if keep else None,
        "answer": json.dumps(_stored(keep.answer)) if keep else None,
    }
    # Of several sessions that store the same number or use the same key, one succeeds per try.
    (row,) = fetch(engine, _ACCEPT, parameters, retry_unique=True)
    return AcceptResult(
        accepted=row.accepted,
        facts=StoredFacts() if row.repeated else _facts(row),
        replaced=tuple(row.replaced or ()),
        used=_used(row) if row.repeated else None,
        guard=parse_taken(row.guard_facts, row.counted_as, row.counted_at) if row.guard_facts else None,
    )


def read_facts(engine: Engine, lookup: NumberLookup) -> StoredFacts:
    """Return the stored facts about a number and an address. Raises DatabaseUnavailable."""
    (row,) = fetch(engine, _FACTS, lookup.parameters())
    return _facts(row)


def _facts(row: Any) -> StoredFacts:
    return StoredFacts(
        blocked=row.blocked,
        wrong_in_a_row=row.wrong_in_a_row,
        number_nth=row.number_nth,
        address_nth=row.address_nth,
    )


def _used(row: Any) -> UsedKey:
    return UsedKey(
        fingerprint=row.kept_fingerprint,
        in_progress=row.kept_in_progress,
        answer=StoredResponse(**row.kept_answer, replayed=True) if row.kept_answer else None,
        request_id=row.kept_request_id,
    )


def _stored(answer: StoredResponse) -> dict[str, Any]:
    return {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}
