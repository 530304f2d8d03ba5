"""Send the current code again, by SMS or voice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain import phone
from otpqueue.domain.errors import (
    CodeExpired,
    IdempotencyInProgress,
    NotSentYet,
    OtpqueueError,
    RequestNotFound,
    ResendInProgress,
    ResendsExhausted,
    ResendTooLate,
    ResendTooSoon,
)
from otpqueue.domain.guard import CountedSend
from otpqueue.domain.request import MAX_SENDS, RESEND_HEADROOM, Channel, OtpRequest, SendState
from otpqueue.operations.admission.admit import Admission
from otpqueue.operations.admission.applicant import Applicant
from otpqueue.operations.check_refusals import ENDED
from otpqueue.operations.replay import HeldCall
from otpqueue.store import requests
from otpqueue.store.accepting import read_facts
from otpqueue.store.engine import run, transaction
from otpqueue.store.vault import Vault
from otpqueue.telemetry import metrics, traces
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ResendCode:
    """Resends codes. The current code stays valid, whatever the outcome."""

    engine: Engine
    vault: Vault
    admission: Admission
    send_within: timedelta

    def __call__(
        self,
        request_id: UUID,
        *,
        client_id: UUID,
        channel: Channel | None,
        now: datetime,
        held: HeldCall | None = None,
    ) -> OtpRequest:
        """Make the request due again and wake a worker. `channel` defaults to that of the first send.

        The response to a `held` call is stored in the same transaction.

        Raises RequestNotFound, NotSentYet, one of the ResendRefused errors, one of the CheckRefused errors
        for a request that has ended, NotAdmitted, DatabaseUnavailable.
        """
        request, e164 = self._find(request_id, client_id)
        traces.get_current_span().add_link(request.trace_context)
        if refused := _why_not(request, now):
            raise refused
        applicant = Applicant(
            client_id=client_id,
            # That the number is not in use was no obstacle when the request was made.
            number=phone.parse_number(e164, allow_documentation=True),
            number_hashes=self.vault.number_hashes(e164),
            client_ip_hashes=None,
            language=None,
            resend=True,
            is_test=request.is_test,
            now=now,
        )
        with self.admission.attempt(applicant) as attempt:
            self.admission.judge(attempt, read_facts(self.engine, self.admission.lookup(applicant)))
            if not applicant.is_test:
                self.admission.ask_guard(attempt)
            after = self._store(
                request_id,
                client_id=client_id,
                channel=channel,
                guard=applicant.notes.guard,
                now=now,
                held=held,
            )
            attempt.stored = True
        metrics.count(metrics.RESENDS)
        log.info("otp_resend_requested", otp_id=str(request_id), client_id=str(client_id), sends=after.sends)
        return after

    def _find(self, request_id: UUID, client_id: UUID) -> tuple[OtpRequest, str]:
        found = requests.find_with_number(self.engine, request_id, client_id=client_id, vault=self.vault)
        if found is None:
            raise RequestNotFound
        return found

    def _store(
        self,
        request_id: UUID,
        *,
        client_id: UUID,
        channel: Channel | None,
        guard: CountedSend | None,
        now: datetime,
        held: HeldCall | None,
    ) -> OtpRequest:
        def work(conn: Connection) -> tuple[bool, OtpRequest | None]:
            taken = requests.resend(
                conn,
                request_id,
                client_id=client_id,
                channel=channel,
                send_by=now + self.send_within,
                now=now,
                guard=guard,
                trace_context=traces.get_current_span().context,
            )
            request = requests.find(conn, request_id, client_id=client_id, vault=self.vault)
            if taken and request and held and not held.keep(conn, request):
                raise IdempotencyInProgress(retry_after_s=1)
            return taken, request

        in_one = held is not None and held.held is not None
        taken, after = (transaction if in_one else run)(self.engine, work)
        if after is None:
            raise RequestNotFound
        if not taken:
            # A concurrent call changed the request first.
            raise _why_not(after, now) or ResendInProgress(retry_after_s=1)
        return after


def _why_not(request: OtpRequest, now: datetime) -> OtpqueueError | None:
    if request.status in ENDED:
        return ENDED[request.status]()
    if request.expires_at is None:
        return NotSentYet(retry_after_s=1)
    if request.expires_at <= now:
        return CodeExpired()
    if request.expires_at - RESEND_HEADROOM <= now:
        return ResendTooLate()
    if request.send_state is not SendState.IDLE:
        return ResendInProgress(retry_after_s=1)
    if request.sends >= MAX_SENDS:
        return ResendsExhausted()
    if request.resend_after and request.resend_after > now:
        return ResendTooSoon(retry_after_s=math.ceil((request.resend_after - now).total_seconds()))
    return None
