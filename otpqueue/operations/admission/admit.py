"""Read the facts that admission rules need, count the attempt, and record a rejection.

The rules and their order are in domain/admission.py. An attempt costs one Redis script, which counts it. The
counts are reverted if no request is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine

from otpqueue.domain.admission import (
    REASONS_OF_KNOWN_NUMBERS,
    AdmissionFacts,
    AdmissionRules,
    StoredFacts,
)
from otpqueue.domain.caps import get_cap_day
from otpqueue.domain.errors import NotAdmitted
from otpqueue.jobs import Waker, WakeUp
from otpqueue.operations.access.cache import AccessCache
from otpqueue.operations.admission.applicant import Applicant, Undo
from otpqueue.operations.admission.key_rate import CallRate
from otpqueue.operations.admission.limits import RequestLimits
from otpqueue.operations.guard.pumping_guard import PumpingGuard
from otpqueue.store import refusals
from otpqueue.store.accepting import NumberLookup
from otpqueue.store.engine import connection
from otpqueue.store.guard.tallies import GuardCount, GuardQuestion
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(kw_only=True)
class AdmissionAttempt:
    """An attempt with its facts from memory and Redis."""

    applicant: Applicant
    facts: AdmissionFacts
    refused: bool
    """Whether a rule already rejects it. A rule that comes earlier may still do so by facts in Postgres."""
    undo: list[Undo] = field(default_factory=list)
    """The callbacks that revert its counts."""
    wake_up: int | None = None
    """The state of the wake-up that the Redis script found; None if the script woke no worker."""
    is_running: bool = False
    """Whether another call with the same Idempotency-Key is running."""
    stored: bool = False
    """Whether a request was stored."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Decides whether a code may be sent."""

    engine: Engine
    access: AccessCache
    rules: AdmissionRules
    limits: RequestLimits
    guard: PumpingGuard
    waker: Waker

    @contextmanager
    def attempt(
        self, applicant: Applicant, *, rate: CallRate | None = None, mark: str | None = None
    ) -> Iterator[AdmissionAttempt]:
        """Count an attempt.

        When the block ends, wake a worker if a request was stored, else revert the counts.

        Raises LimitExceeded for the rate of the API key, DatabaseUnavailable.
        """
        attempt = self._begin(applicant, rate, mark)
        try:
            yield attempt
        finally:
            if not attempt.stored:
                for give_back in reversed(attempt.undo):
                    give_back()
            if attempt.wake_up is not None:
                # Also if no request was stored: the flag is set, so other calls rely on this wake-up.
                self.waker.follow(WakeUp(attempt.wake_up))
            elif attempt.stored:
                self.waker.wake()

    def _begin(self, applicant: Applicant, rate: CallRate | None, mark: str | None) -> AdmissionAttempt:
        snapshot = self.access.current()
        client_id = applicant.client_id
        settings = self.access.client_settings(client_id)
        facts = AdmissionFacts(
            now=applicant.now,
            client_id=client_id,
            settings=settings,
            number=applicant.number,
            language=applicant.language,
            is_test=applicant.is_test,
            is_resend=applicant.resend,
            stopped=snapshot.is_stopped(client_id=client_id, country=applicant.number.country),
            clients=len(snapshot.listed.ids),
            taken=snapshot.taken_on(get_cap_day(applicant.now)),
            judged=snapshot.current.judged.get(client_id, (0, 0)),
        )
        if self.rules.find_refusal(facts) is not None:
            # The script below counts it in the same round trip. Here, no other rule may reject the call
            # first.
            if rate is not None:
                rate.count()
            return AdmissionAttempt(applicant=applicant, facts=facts, refused=True)
        limited = self.limits.take(
            client_id=client_id,
            settings=settings,
            number_hashes=applicant.number_hashes,
            client_ip_hashes=applicant.client_ip_hashes,
            is_resend=applicant.resend,
            is_test=applicant.is_test,
            rate=rate,
            wake=(self.waker.flag_key, self.waker.nudge_key),
            mark=mark,
        )
        return AdmissionAttempt(
            applicant=applicant,
            facts=replace(facts, limit=limited.refusal) if limited.refusal else facts,
            refused=limited.refusal is not None or limited.is_running,
            is_running=limited.is_running,
            undo=[limited.give_back],
            wake_up=limited.wake_up,
        )

    def ask_guard(self, attempt: AdmissionAttempt) -> None:
        """Have the guard count a resend.

        Raises DestinationPaused, which is recorded, or DatabaseUnavailable.
        """
        with self._noting(attempt):
            attempt.undo.append(self.guard.take(attempt.applicant))

    def ask_guard_again(
        self, attempt: AdmissionAttempt, question: GuardQuestion, taken: GuardCount
    ) -> GuardQuestion:
        """Return the next question about a request that the guard has not counted. Raises as `ask_guard`."""
        with self._noting(attempt):
            return self.guard.ask_again(attempt.applicant, question, taken)

    @contextmanager
    def _noting(self, attempt: AdmissionAttempt) -> Iterator[None]:
        try:
            yield
        except NotAdmitted as refusal:
            self.note(refusal, attempt.applicant)
            raise

    def lookup(self, applicant: Applicant) -> NumberLookup:
        """Return the Postgres query of an applicant."""
        return NumberLookup(
            client_id=applicant.client_id,
            number_hashes=applicant.number_hashes,
            client_ip_hashes=applicant.client_ip_hashes,
            guesses=self.rules.guesses,
            now=applicant.now,
        )

    def judge(self, attempt: AdmissionAttempt, stored: StoredFacts) -> None:
        """Raise the rejection of an attempt, if any, and record it. `stored` are the facts from Postgres.

        Raises NotAdmitted, InvalidRequest for the language, LimitsUnavailable, DatabaseUnavailable.
        """
        refusal = self.rules.find_refusal(replace(attempt.facts, stored=stored))
        if refusal is None:
            return
        if isinstance(refusal, NotAdmitted):
            self.note(refusal, attempt.applicant)
        raise refusal

    def note(self, refusal: NotAdmitted, applicant: Applicant) -> None:
        """Store a rejection for statistics and alerts."""
        self.note_number(
            refusal,
            client_id=applicant.client_id,
            number_hash=applicant.number_hash,
            client_ip_hash=applicant.client_ip_hash,
            country=applicant.number.country,
            is_test=applicant.is_test,
            keyless=applicant.keyless,
            now=applicant.now,
        )

    def note_number(
        self,
        refusal: NotAdmitted,
        *,
        client_id: UUID,
        number_hash: bytes,
        client_ip_hash: bytes | None,
        country: str | None,
        now: datetime,
        is_test: bool = False,
        keyless: bool = False,
    ) -> None:
        """Store the rejection of a number before there is an applicant.

        Callers without an API key must not fill the table. Their rejections are one row per reason and
        minute, except for numbers that were used before.
        """
        is_counted_alone = not keyless or refusal.reason in REASONS_OF_KNOWN_NUMBERS
        with connection(self.engine) as conn:
            refusals.add(
                conn,
                client_id=client_id,
                reason=refusal.reason,
                number_hash=number_hash if is_counted_alone else None,
                client_ip_hash=client_ip_hash if is_counted_alone else None,
                country=country if is_counted_alone else None,
                is_test=is_test,
                now=now,
            )
        metrics.count(metrics.REFUSALS, refusal.reason)
        log.info("otp_refused", client_id=str(client_id), reason=refusal.reason)
