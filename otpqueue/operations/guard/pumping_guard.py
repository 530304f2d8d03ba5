"""The pumping guard. In enforce mode it decides at acceptance; in shadow mode after the claim, in batches.

The rule itself is in `domain/guard.py`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial

from sqlalchemy import Engine

from otpqueue.domain import guard as rules
from otpqueue.domain.errors import DatabaseUnavailable, DestinationPaused
from otpqueue.domain.guard import CountedAs, CountedSend, GuardDecision, GuardMode, GuardPolicy, GuardReason
from otpqueue.domain.guard_batch import BatchSend, GuardBatch
from otpqueue.domain.phone import NO_COUNTRY
from otpqueue.operations.admission.applicant import Applicant, Undo
from otpqueue.store.claims import Claim
from otpqueue.store.engine import connection
from otpqueue.store.guard import tallies
from otpqueue.store.guard.tallies import ClaimedSend, GuardCount, GuardQuestion, GuardSubject
from otpqueue.store.vault import Vault
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

RETRY_AFTER_S = 3600
"""The same for every reason: a caller must not learn which budget is used up, or until when."""

_LOOKS = 20
"""Of several concurrent calls for the last send of a budget one gets it. The others read the facts again."""

_MISSED = 1000
"""How many claims that could not be counted are kept for the next batch."""


@dataclass(frozen=True, kw_only=True)
class PumpingGuard:
    """Decides at acceptance. In enforce mode it counts each send before its request is stored, or rejects it.

    In shadow mode it only returns the block to store. `GuardClaims` counts the send once it is claimed.
    """

    engine: Engine
    mode: GuardMode
    policy: GuardPolicy

    def block(self, applicant: Applicant) -> str | None:
        """Return the block to store with a request; None if the guard does not count it."""
        if self.mode is GuardMode.OFF or applicant.is_test:
            return None
        return rules.get_block(applicant.number.digits)

    def question(self, applicant: Applicant) -> GuardQuestion | None:
        """Return the guard's check to run when a request is stored; None if there is none."""
        if self.mode is not GuardMode.ENFORCE or applicant.is_test:
            return None
        subject = _subject(applicant)
        return GuardQuestion(country=subject.country, digits=subject.digits, policy=self._policy_json)

    def count_allowed(self, taken: GuardCount) -> None:
        """Count a decision that let a request be stored."""
        _count_decisions(self.mode, allowed=True, why=rules.decide_send(self.policy, taken.facts).why)

    def ask_again(self, applicant: Applicant, question: GuardQuestion, taken: GuardCount) -> GuardQuestion:
        """Return the next check of a request that the first check did not count.

        It was a probe of a new block, or a concurrent call used the budget. Raises DestinationPaused for a
        send that is not allowed, DatabaseUnavailable.
        """
        decision = rules.decide_send(self.policy, taken.facts)
        if not decision.allowed:
            _count_decisions(self.mode, allowed=False, why=decision.why)
            self._refuse(applicant, _subject(applicant), taken, decision)
        return replace(question, chances=decision.counted_as is CountedAs.NEW)

    def take(self, applicant: Applicant) -> Undo:
        """Count the send of a resend in enforce mode. Raises DestinationPaused, DatabaseUnavailable."""
        subject = _subject(applicant)
        if self.mode is not GuardMode.ENFORCE:
            applicant.notes.guard = None if self.mode is GuardMode.OFF else CountedSend(block=subject.block)
            return _nothing
        taken, decision = self._decide(applicant, subject)
        _count_decisions(self.mode, allowed=decision.allowed, why=decision.why)
        if not decision.allowed:
            self._refuse(applicant, subject, taken, decision)
        counted = CountedSend(block=subject.block, counted_as=decision.counted_as, at=taken.counted_at)
        applicant.notes.guard = counted
        return partial(
            self._give_back, subject, chance=counted.counted_as is CountedAs.NEW, at=taken.counted_at
        )

    def _decide(self, applicant: Applicant, subject: GuardSubject) -> tuple[GuardCount, GuardDecision]:
        """Return the decision. An allowed send is counted.

        One statement, except for a probe of a new block or a concurrent change. Rejected sends do not wait
        for the lock of the probes.
        """
        chances = False
        for _ in range(_LOOKS):
            taken = tallies.take(
                self.engine,
                subject,
                policy=self._policy_json,
                resend=applicant.resend,
                chances=chances,
                now=applicant.now,
            )
            decision = rules.decide_send(self.policy, taken.facts)
            if taken.counted or not decision.allowed:
                return taken, decision
            chances = decision.counted_as is CountedAs.NEW
        return taken, replace(
            decision, allowed=False, why=GuardReason.BLOCK_BUDGET, counted_as=CountedAs.REFUSED
        )

    @cached_property
    def _policy_json(self) -> str:
        return tallies.format_policy(self.policy)

    def _give_back(self, subject: GuardSubject, *, chance: bool, at: datetime) -> None:
        # A count that is not reverted lasts one day.
        try:
            with connection(self.engine) as conn:
                tallies.give_back(conn, subject, chance=chance, at=at)
        except DatabaseUnavailable:
            log.warning("guard_not_given_back", country=subject.country)

    def _refuse(
        self, applicant: Applicant, subject: GuardSubject, taken: GuardCount, decision: GuardDecision
    ) -> None:
        """Store a rejection and raise it."""
        tallies.note_refusal(
            self.engine,
            subject,
            decision,
            client_id=applicant.client_id,
            mode=self.mode,
            counted_at=taken.counted_at,
            now=applicant.now,
        )
        _log_refused(str(applicant.client_id), subject.country, decision.why, mode=self.mode, sends=1)
        raise DestinationPaused("pumping_guard", retry_after_s=RETRY_AFTER_S)


class GuardClaims:
    """Evaluates claimed sends in shadow mode: what enforce mode would have decided.

    A batch costs two statements of any size. Sends that enforce mode counted at acceptance are skipped.
    """

    def __init__(self, *, engine: Engine, vault: Vault, policy: GuardPolicy) -> None:
        self._engine, self._vault, self._policy = engine, vault, policy
        self._missed: deque[Claim] = deque()

    def decide(self, claims: Sequence[Claim], now: datetime) -> None:
        """Evaluate and count the sends that were not counted before. Never raises.

        A retry of a send is not counted again. Claims that could not be counted are counted with the next
        batch.
        """
        # One claim per request, the newest: only that can still be counted.
        newest = {claim.request_id: claim for claim in (*self._take_missed(), *filter(_is_uncounted, claims))}
        batch = list(newest.values())
        if not batch:
            return
        try:
            self._decide(batch, now)
        except DatabaseUnavailable:
            log.warning("guard_not_counted", claims=len(batch))
            self._missed.extend(batch[-_MISSED:])
            metrics.count(metrics.GUARD_UNCOUNTED, by=len(batch[:-_MISSED]))
        except Exception:
            # Sends must continue after any error here. These claims are dropped, since they may be its cause.
            log.exception("guard_crashed", claims=len(batch))
            metrics.count(metrics.GUARD_UNCOUNTED, by=len(batch))

    def _take_missed(self) -> Iterator[Claim]:
        while self._missed:
            yield self._missed.popleft()

    def _decide(self, claims: Sequence[Claim], now: datetime) -> None:
        claimed = [self._claimed(claim) for claim in claims]
        facts = tallies.read_claim_facts(self._engine, claimed, now=now)
        batch = GuardBatch(
            self._policy,
            numbers=facts.numbers,
            tallies=facts.tallies,
            addresses=facts.addresses,
            excepted=facts.excepted,
            now=now,
        )
        decided = [(one, batch.decide(one.send)) for one in claimed]
        counted = tallies.count_claims(self._engine, decided, mode=GuardMode.SHADOW, now=now)
        made = [
            (str(claim.client_id), claim.country or NO_COUNTRY, decision)
            for claim, (_, decision) in zip(claims, decided, strict=True)
            if claim.request_id in counted
        ]
        verdicts = Counter((decision.allowed, decision.why) for _, _, decision in made)
        for (allowed, why), sends in verdicts.items():
            _count_decisions(GuardMode.SHADOW, allowed=allowed, why=why, by=sends)
        refused = Counter((client, country, one.why) for client, country, one in made if not one.allowed)
        for (client, country, why), sends in refused.items():
            _log_refused(client, country, why, mode=GuardMode.SHADOW, sends=sends)

    def _claimed(self, claim: Claim) -> ClaimedSend:
        # During hash key rotation rows of the number may have either hash.
        replacing = len(self._vault.marks) > 1
        return ClaimedSend(
            request_id=claim.request_id,
            nth=claim.sends,
            number_hashes=(
                self._vault.number_hashes(f"+{claim.digits}") if replacing else [claim.number_hash]
            ),
            send=BatchSend(
                digits=claim.digits,
                block=claim.guard_block or rules.get_block(claim.digits),
                country=claim.country or NO_COUNTRY,
                address=claim.client_ip_hash if claim.sends == 1 else None,
                at=claim.created_at,
            ),
        )


def _is_uncounted(claim: Claim) -> bool:
    return claim.guard_block is not None and claim.guard_counted < claim.sends and not claim.is_test


def _subject(applicant: Applicant) -> GuardSubject:
    digits = applicant.number.digits
    return GuardSubject(
        block=rules.get_block(digits),
        country=applicant.number.country or NO_COUNTRY,
        digits=digits,
        number_hashes=applicant.number_hashes,
        address_hashes=applicant.client_ip_hashes or (),
    )


def _count_decisions(mode: GuardMode, *, allowed: bool, why: GuardReason, by: int = 1) -> None:
    verdict = "allowed" if allowed else "refused"
    metrics.count(metrics.GUARD_DECISIONS, mode.value, verdict, why.value, by=by)


def _log_refused(client_id: str, country: str, why: GuardReason, *, mode: GuardMode, sends: int) -> None:
    log.info(
        "guard_refused", client_id=client_id, mode=mode.value, why=why.value, country=country, sends=sends
    )


def _nothing() -> None:
    """Undo nothing: nothing was counted."""
