"""Accept a request for a code: check the number, count the attempt, commit the row, wake a worker.

One Redis script and one Postgres call. The script comes first, because an attempt must be counted before
anything is stored. It also returns whether a worker must be woken once the row is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine
from uuid_utils.compat import uuid7

from otpqueue.domain import phone
from otpqueue.domain.errors import DatabaseUnavailable, IdempotencyInProgress, NumberNotAllowed
from otpqueue.domain.fixed_codes import FixedCodes
from otpqueue.domain.phone import PhoneNumber
from otpqueue.domain.replay import IdempotentCall, StoredResponse
from otpqueue.domain.request import Channel, OtpRequest, Reason
from otpqueue.operations.admission.admit import Admission, AdmissionAttempt
from otpqueue.operations.admission.applicant import Applicant
from otpqueue.operations.admission.key_rate import CallRate
from otpqueue.operations.replay import IdempotentResponses
from otpqueue.store import accepting
from otpqueue.store.accepting import AcceptResult, KeyToKeep, NewRequest
from otpqueue.store.vault import Vault
from otpqueue.telemetry import logs, metrics, traces

log = logs.get_logger(__name__)

_QUESTIONS = 20
"""Of several concurrent calls for the last send of a budget one gets it. The others ask the guard again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedCode:
    """The content of a request for a code."""

    phone_number: str
    country: str | None = None
    channel: Channel = Channel.SMS
    language: str | None = None
    session_id: str | None = None
    client_ip: str | None = None
    client_reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class RequestCode:
    """Accepts requests. A returned request reaches a final status even if any process is killed."""

    engine: Engine
    vault: Vault
    admission: Admission
    replays: IdempotentResponses
    send_within: timedelta
    max_checks: int
    allow_documentation: bool
    fixed_codes: FixedCodes = field(default_factory=FixedCodes)

    def __call__(
        self, wanted: RequestedCode, *, client_id: UUID, now: datetime, rate: CallRate | None = None
    ) -> OtpRequest:
        """Store a request as due and wake a worker. An older live one for the same person is cancelled.

        `rate` is the rate of the call, counted with the limits of the request.

        Raises InvalidPhoneNumber, InvalidRequest, NotAdmitted (recorded as a rejection), LimitsUnavailable,
        DatabaseUnavailable.
        """
        applicant, new = self._read(wanted, client_id=client_id, now=now, rate=rate)
        self._accept(applicant, new, rate=rate, keep=None)
        return new.as_accepted()

    def once(
        self,
        wanted: RequestedCode,
        *,
        call: IdempotentCall | None,
        answer: Callable[[OtpRequest], StoredResponse],
        client_id: UUID,
        now: datetime,
        rate: CallRate | None = None,
    ) -> StoredResponse:
        """Return the response to `call`: that of the first call if it is a repetition, which uses no quota.

        `call` is None without an Idempotency-Key. Only the response of an accepted call is stored. Raises as
        a call does, IdempotencyKeyReused, IdempotencyInProgress, and RequestNotFound if the request that the
        stored response is about has been erased.
        """
        applicant, new = self._read(wanted, client_id=client_id, now=now, rate=rate)
        given = answer(new.as_accepted())
        keep = None
        if call:
            number = new.phone.masked
            keep = self.replays.to_keep(call, given, number=number, client_id=client_id, now=now)
        return self._accept(applicant, new, rate=rate, keep=keep) or given

    def _accept(
        self, applicant: Applicant, new: NewRequest, *, rate: CallRate | None, keep: KeyToKeep | None
    ) -> StoredResponse | None:
        """Store a request, or return the stored response that this call repeats."""
        mark = f"{new.client_id.hex}/{keep.key.key_hashes[0].hex()}" if keep else None
        with self.admission.attempt(applicant, rate=rate, mark=mark) as attempt:
            result = self._store(new, attempt, keep)
            attempt.stored = result.accepted
        if keep is not None and result.used is not None:
            return self.replays.answer(keep.key, result.used, number=new.phone.masked)
        self._report(new, result)
        return None

    def _store(self, new: NewRequest, attempt: AdmissionAttempt, keep: KeyToKeep | None) -> AcceptResult:
        """Store a request, or find an earlier call. Raises the rejection, if any.

        One call, unless the guard is in enforce mode and must be asked again.
        """
        guard = self.admission.guard
        question = guard.question(attempt.applicant)
        for _ in range(_QUESTIONS):
            result = accepting.accept(
                self.engine,
                new,
                self.admission.lookup(attempt.applicant),
                most_wrong_in_a_row=self.admission.rules.most_wrong_in_a_row,
                vault=self.vault,
                store=not attempt.refused,
                keep=keep,
                guard=question,
            )
            if result.accepted and result.guard:
                guard.count_allowed(result.guard)
            if result.accepted or result.used:
                return result
            if attempt.is_running:
                raise IdempotencyInProgress(retry_after_s=1)
            self.admission.judge(attempt, result.facts)
            if question is None or result.guard is None:
                raise AssertionError("accept_request and the admission rules disagree")
            question = self.admission.ask_guard_again(attempt, question, result.guard)
        raise DatabaseUnavailable(retry_after_s=1)

    def _report(self, new: NewRequest, result: AcceptResult) -> None:
        metrics.count(metrics.ACCEPTED, new.channel.value)
        client_id = str(new.client_id)
        for replaced in result.replaced:
            log.info("otp_cancelled", otp_id=str(replaced), client_id=client_id, reason=Reason.REPLACED.value)
        logs.bind_fields(otp_id=str(new.id))
        log.info("otp_requested", otp_id=str(new.id), client_id=client_id, country=new.phone.country)

    def _read(
        self, wanted: RequestedCode, *, client_id: UUID, now: datetime, rate: CallRate | None
    ) -> tuple[Applicant, NewRequest]:
        number = self._number(wanted, client_id=client_id, now=now, rate=rate)
        is_test = self.fixed_codes.find_code(number.e164, now=now) is not None
        applicant = Applicant(
            client_id=client_id,
            number=number,
            number_hashes=self.vault.number_hashes(number.e164),
            client_ip_hashes=self.vault.address_hashes(wanted.client_ip),
            language=wanted.language,
            resend=False,
            is_test=is_test,
            now=now,
            keyless=rate is not None and rate.keyless,
        )
        new = NewRequest(
            id=uuid7(),
            client_id=client_id,
            phone=number,
            session_id=wanted.session_id,
            client_ip=wanted.client_ip,
            client_reference=wanted.client_reference,
            channel=wanted.channel,
            language=wanted.language,
            checks_allowed=self.max_checks,
            created_at=now,
            send_by=now + self.send_within,
            is_test=is_test,
            guard_block=self.admission.guard.block(applicant),
            trace_context=traces.get_current_span().context,
        )
        return applicant, new

    def _number(
        self, wanted: RequestedCode, *, client_id: UUID, now: datetime, rate: CallRate | None
    ) -> PhoneNumber:
        try:
            return phone.parse_number(
                wanted.phone_number, country=wanted.country, allow_documentation=self.allow_documentation
            )
        except NumberNotAllowed as error:
            if self.fixed_codes.find_code(error.e164, now=now):
                return phone.parse_number(error.e164, allow_documentation=True)
            # A rate-limited call must cost nothing in Postgres.
            if rate is not None:
                rate.count()
            self.admission.note_number(
                error,
                client_id=client_id,
                number_hash=self.vault.number_hash(error.e164),
                client_ip_hash=self.vault.address_hash(wanted.client_ip),
                country=phone.find_documentation_country(error.e164),
                now=now,
                keyless=rate is not None and rate.keyless,
            )
            raise
