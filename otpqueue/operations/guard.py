"""The pumping guard at the door: look, decide, count; the rule itself is in `domain/guard.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, Engine

from otpqueue import metrics
from otpqueue.domain import guard as rules
from otpqueue.domain.errors import DatabaseUnavailable, DestinationPaused
from otpqueue.domain.guard import EMPTY, Counted, Decision, Mode, Policy, Standing, Why
from otpqueue.domain.phone import NO_COUNTRY
from otpqueue.logs import get_logger
from otpqueue.operations.applicant import Applicant, Undo
from otpqueue.store import guard as tallies
from otpqueue.store.engine import connection, transaction
from otpqueue.store.guard import Seen, Subject

log = get_logger(__name__)

RETRY_AFTER_S = 3600
"""The same for every reason: it is not told which budget is used up, nor when it is not."""

_LOOKS = 20
"""Of several calls for the last place of a budget one gets it, the others look again."""


@dataclass(frozen=True, kw_only=True)
class PumpingGuard:
    """Counts each send before its request is stored, and refuses what no budget covers.

    In shadow mode it counts and decides the same, and refuses nothing.
    """

    engine: Engine
    mode: Mode
    policy: Policy

    @property
    def decides_at_acceptance(self) -> bool:
        """Whether a request is counted and perhaps refused before it is stored."""
        return self.mode is not Mode.OFF

    def block(self, applicant: Applicant) -> str | None:
        """Return the block to store with a request; None where the guard does not count it."""
        if self.mode is Mode.OFF or applicant.is_test:
            return None
        return rules.block_of(applicant.number.digits)

    def take(self, applicant: Applicant) -> Undo:
        """Count the applicant. Raises DestinationPaused, DatabaseUnavailable."""
        subject, now = _subject(applicant), applicant.now
        with connection(self.engine) as conn:
            seen, decision = self._look(conn, subject, now)
        # All sends of one request are counted, and perhaps verified, in one hour.
        at = seen.live_since if seen.live_since and applicant.resend else now
        if decision is None:
            decision = self._decide_chance(subject, seen, now=now, at=at)
        elif decision.allowed:
            decision = self._take(subject, seen, decision, now=now, at=at)
        verdict = "allowed" if decision.allowed else "refused"
        metrics.count(metrics.GUARD_DECISIONS, self.mode.value, verdict, decision.why.value)
        if not decision.allowed:
            self._refuse(applicant, subject, decision, at=at)
        applicant.notes.guard = Counted(block=subject.block, standing=decision.standing, at=at)
        return partial(self._give_back, subject, applicant.notes.guard)

    def _give_back(self, subject: Subject, counted: Counted) -> None:
        # What stays counted is so for a day.
        try:
            with connection(self.engine) as conn:
                tallies.give_back(
                    conn,
                    subject,
                    chance=counted.standing is Standing.NEW,
                    shadowed=counted.standing is Standing.REFUSED,
                    at=counted.at,
                )
        except DatabaseUnavailable:
            log.warning("guard_not_given_back", country=subject.country)

    def _look(self, conn: Connection, subject: Subject, now: datetime) -> tuple[Seen, Decision | None]:
        seen = tallies.look(conn, subject, now=now)
        return seen, rules.decide_known(self.policy, seen.number, seen.block, allowed=seen.excepted)

    def _take(
        self, subject: Subject, seen: Seen, decision: Decision, *, now: datetime, at: datetime
    ) -> Decision:
        """Return the decision once the send is counted, or the refusal if others were quicker."""
        with connection(self.engine) as conn:
            for _ in range(_LOOKS):
                if tallies.take(conn, subject, seen.block, decision, at=at, now=now):
                    return decision
                seen, again = self._look(conn, subject, now)
                decision = again or decision
                if not decision.allowed:
                    return decision
        return replace(decision, allowed=False, why=Why.BLOCK_BUDGET, standing=Standing.REFUSED)

    def _decide_chance(self, subject: Subject, seen: Seen, *, now: datetime, at: datetime) -> Decision:
        """Return the decision on a new block, counted if it is allowed; its try is, in any case."""
        with connection(self.engine) as conn:
            # A flood is refused here: it does not queue for the lock.
            decision = self._chance(conn, subject, seen, now)
        if decision.allowed:
            decision = transaction(self.engine, lambda conn: self._take_chance(conn, subject, now=now, at=at))
        if subject.address_hashes and not seen.number.own:
            with connection(self.engine) as conn:
                tallies.note_address(conn, subject.address_hashes[0], at=at)
        return decision

    def _take_chance(self, conn: Connection, subject: Subject, *, now: datetime, at: datetime) -> Decision:
        tallies.lock_chances(conn)
        seen = tallies.look(conn, subject, now=now)
        decision = self._chance(conn, subject, seen, now)
        if decision.allowed:
            tallies.take_chance(conn, subject, at=at)
        return decision

    def _chance(self, conn: Connection, subject: Subject, seen: Seen, now: datetime) -> Decision:
        counted = tallies.tallies(conn, (subject.country, tallies.TOTAL), now=now)
        addresses = subject.address_hashes
        return rules.decide_new(
            self.policy,
            seen.number,
            seen.block,
            country=counted.get(subject.country, EMPTY),
            total=counted.get(tallies.TOTAL, EMPTY),
            address=tallies.address(conn, addresses, now=now) if addresses else None,
        )

    def _refuse(self, applicant: Applicant, subject: Subject, decision: Decision, *, at: datetime) -> None:
        """Store a refusal and, unless it is only one of shadow mode, raise it."""
        shadow = self.mode is Mode.SHADOW
        with connection(self.engine) as conn:
            tallies.note_refused(conn, subject, sent=shadow, at=at)
            tallies.note_decision(
                conn, subject, decision, client_id=applicant.client_id, mode=self.mode, now=applicant.now
            )
        log.info(
            "guard_refused",
            client_id=str(applicant.client_id),
            mode=self.mode.value,
            why=decision.why.value,
            country=subject.country,
        )
        if not shadow:
            raise DestinationPaused("pumping_guard", retry_after_s=RETRY_AFTER_S)


def _subject(applicant: Applicant) -> Subject:
    digits = applicant.number.digits
    return Subject(
        block=rules.block_of(digits),
        country=applicant.number.country or NO_COUNTRY,
        digits=digits,
        number_hashes=applicant.number_hashes,
        address_hashes=applicant.client_ip_hashes or (),
    )
