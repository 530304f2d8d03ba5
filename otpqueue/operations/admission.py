"""Whether a code may be sent at all: the rules before the row, in order.

A rule looks at an applicant and raises NotAdmitted. Rules that only read come first, and share a connection;
those that count in Redis come last, without one, and are given back what they counted if nothing is stored.
Test numbers, to which nothing is sent, are looked at by `rules_for_all` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue import metrics
from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import NotAdmitted
from otpqueue.domain.guard import Counted
from otpqueue.domain.phone import PhoneNumber
from otpqueue.logs import get_logger
from otpqueue.store import clients, refusals
from otpqueue.store.engine import connection

log = get_logger(__name__)


Undo = Callable[[], None]
"""Counts somebody no more: nothing came of it. Never raises."""


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
    number_hashes: Sequence[bytes]
    """The one that is stored first; another while the look-up key is being replaced."""
    client_ip_hashes: Sequence[bytes] | None
    language: str | None
    resend: bool
    """Whether it is the code in hand that is to be sent once more."""
    is_test: bool
    """Whether the number is a test number."""
    now: datetime
    notes: Notes = field(default_factory=Notes)
    counted: list[Undo] = field(default_factory=list, compare=False, repr=False)
    """What undoes each count of him."""

    @property
    def number_hash(self) -> bytes:
        """The hash that is stored of the number."""
        return self.number_hashes[0]

    @property
    def client_ip_hash(self) -> bytes | None:
        """The hash that is stored of the end user's address."""
        return self.client_ip_hashes[0] if self.client_ip_hashes else None


Rule = Callable[[Connection, Applicant], None]
"""Raises NotAdmitted."""


class Counter(Protocol):
    """A rule that counts whom it admits."""

    def take(self, applicant: Applicant) -> Undo:
        """Count the applicant. Raises NotAdmitted, having counted nothing, or Unavailable."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Decides who is sent a code."""

    engine: Engine
    rules_for_all: tuple[Rule, ...] = ()
    rules: tuple[Rule, ...] = ()
    counters: tuple[Counter, ...] = ()

    def admit(
        self,
        *,
        client_id: UUID,
        number: PhoneNumber,
        number_hashes: Sequence[bytes],
        client_ip_hashes: Sequence[bytes] | None,
        language: str | None,
        resend: bool,
        now: datetime,
        is_test: bool = False,
    ) -> Applicant:
        """Return the applicant, counted; call `give_back` with it if nothing comes of it.

        Raises NotAdmitted, once it is stored as a refusal; DatabaseUnavailable.
        """
        with connection(self.engine) as conn:
            applicant = Applicant(
                client_id=client_id,
                settings=clients.settings_of(conn, client_id),
                number=number,
                number_hashes=number_hashes,
                client_ip_hashes=client_ip_hashes,
                language=language,
                resend=resend,
                is_test=is_test,
                now=now,
            )
            refused = self._broken(conn, applicant)
        try:
            if refused:
                raise refused
            self._count(applicant)
        except NotAdmitted as error:
            self.note(
                error,
                client_id=client_id,
                number_hash=applicant.number_hash,
                client_ip_hash=applicant.client_ip_hash,
                country=number.country,
                is_test=is_test,
                now=now,
            )
            raise
        return applicant

    def _broken(self, conn: Connection, applicant: Applicant) -> NotAdmitted | None:
        """Return the first refusal, as a value: raised, it would undo what a rule has stored of it."""
        try:
            for rule in self.rules_for_all if applicant.is_test else self.rules_for_all + self.rules:
                rule(conn, applicant)
        except NotAdmitted as refused:
            return refused
        return None

    def _count(self, applicant: Applicant) -> None:
        try:
            for counter in () if applicant.is_test else self.counters:
                applicant.counted.append(counter.take(applicant))
        except Exception:
            self.give_back(applicant)
            raise

    def give_back(self, applicant: Applicant) -> None:
        """Undo what was counted: nothing came of it."""
        while applicant.counted:
            applicant.counted.pop()()

    def note(
        self,
        error: NotAdmitted,
        *,
        client_id: UUID,
        number_hash: bytes,
        client_ip_hash: bytes | None,
        country: str | None,
        now: datetime,
        is_test: bool = False,
    ) -> None:
        """Store a refusal, so that it can be counted and alerted on."""
        with connection(self.engine) as conn:
            refusals.add(
                conn,
                client_id=client_id,
                reason=error.reason,
                number_hash=number_hash,
                client_ip_hash=client_ip_hash,
                country=country,
                is_test=is_test,
                now=now,
            )
        metrics.count(metrics.REFUSALS, error.reason)
        log.info("otp_refused", client_id=str(client_id), reason=error.reason)
