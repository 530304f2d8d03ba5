"""Whether a code may be sent at all: the rules before the row, in order.

A rule looks at an applicant and raises NotAdmitted. Rules that only read come first, and share a connection;
those that count in Redis come last, without one, and are given back what they counted if nothing is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import NotAdmitted
from otpqueue.domain.guard import Counted
from otpqueue.domain.phone import PhoneNumber
from otpqueue.logs import get_logger
from otpqueue.store import clients, refusals
from otpqueue.store.engine import connection

log = get_logger(__name__)


@dataclass(kw_only=True)
class Notes:
    """What counters note of an applicant: some of it is stored with his request."""

    guard: Counted | None = None


@dataclass(frozen=True, kw_only=True)
class Applicant:
    """Who asks for a code, and for which number."""

    client_id: UUID
    settings: ClientSettings
    number: PhoneNumber
    number_hash: bytes
    client_ip_hash: bytes | None
    language: str | None
    resend: bool
    """Whether it is the code in hand that is to be sent once more."""
    now: datetime
    notes: Notes = field(default_factory=Notes)


Rule = Callable[[Connection, Applicant], None]
"""Raises NotAdmitted."""


class Counter(Protocol):
    """A rule that counts whom it admits."""

    def take(self, applicant: Applicant) -> None:
        """Count the applicant. Raises NotAdmitted, having counted nothing, or Unavailable."""

    def give_back(self, applicant: Applicant) -> None:
        """Count the applicant no more: nothing came of it. Never raises."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Decides who is sent a code."""

    engine: Engine
    rules: tuple[Rule, ...] = ()
    counters: tuple[Counter, ...] = ()

    def admit(
        self,
        *,
        client_id: UUID,
        number: PhoneNumber,
        number_hash: bytes,
        client_ip_hash: bytes | None,
        language: str | None,
        resend: bool,
        now: datetime,
    ) -> Applicant:
        """Return the applicant, counted; call `give_back` with it if nothing comes of it.

        Raises NotAdmitted, once it is stored as a refusal; DatabaseUnavailable.
        """
        with connection(self.engine) as conn:
            applicant = Applicant(
                client_id=client_id,
                settings=clients.settings_of(conn, client_id),
                number=number,
                number_hash=number_hash,
                client_ip_hash=client_ip_hash,
                language=language,
                resend=resend,
                now=now,
            )
            refused = self._broken(conn, applicant)
        try:
            if refused:
                raise refused
            self._count(applicant)
        except NotAdmitted as error:
            self.note(
                error, client_id=client_id, number_hash=number_hash, client_ip_hash=client_ip_hash, now=now
            )
            raise
        return applicant

    def _broken(self, conn: Connection, applicant: Applicant) -> NotAdmitted | None:
        """Return the first refusal, as a value: raised, it would undo what a rule has stored of it."""
        try:
            for rule in self.rules:
                rule(conn, applicant)
        except NotAdmitted as refused:
            return refused
        return None

    def _count(self, applicant: Applicant) -> None:
        taken: list[Counter] = []
        try:
            for counter in self.counters:
                counter.take(applicant)
                taken.append(counter)
        except Exception:
            for counter in taken:
                counter.give_back(applicant)
            raise

    def give_back(self, applicant: Applicant) -> None:
        """Undo what was counted: nothing came of it."""
        for counter in self.counters:
            counter.give_back(applicant)

    def note(
        self,
        error: NotAdmitted,
        *,
        client_id: UUID,
        number_hash: bytes,
        client_ip_hash: bytes | None,
        now: datetime,
    ) -> None:
        """Store a refusal, so that it can be counted and alerted on."""
        with connection(self.engine) as conn:
            refusals.add(
                conn,
                client_id=client_id,
                reason=error.reason,
                number_hash=number_hash,
                client_ip_hash=client_ip_hash,
                now=now,
            )
        log.info("otp_refused", client_id=str(client_id), reason=error.reason)
