"""Send the code in hand once more, by SMS or voice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue import metrics, traces
from otpqueue.domain import phone
from otpqueue.domain.errors import (
    CodeExpired,
    NotSentYet,
    OtpqueueError,
    RequestNotFound,
    ResendInProgress,
    ResendsExhausted,
    ResendTooSoon,
)
from otpqueue.domain.request import MAX_SENDS, Channel, OtpRequest, SendState
from otpqueue.logs import get_logger
from otpqueue.operations.admission import Admission
from otpqueue.operations.replay import Remember
from otpqueue.operations.verify import ENDED
from otpqueue.store import requests
from otpqueue.store.engine import run, transaction
from otpqueue.store.vault import Vault

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ResendCode:
    """Resends codes. The code in hand stays good meanwhile, and whatever becomes of it."""

    engine: Engine
    vault: Vault
    admission: Admission
    wake: Callable[[], bool]
    send_within: timedelta

    def __call__(
        self,
        request_id: UUID,
        *,
        client_id: UUID,
        channel: Channel | None,
        now: datetime,
        remember: Remember | None = None,
    ) -> OtpRequest:
        """Make the request due once more and wake a worker; `channel` is the first one's unless given.

        `remember` is called in the same transaction.

        Raises RequestNotFound, NotSentYet, ResendTooSoon, ResendInProgress, ResendsExhausted, one of the
        CheckRefused errors for a request that has ended, NotAdmitted, DatabaseUnavailable.
        """

        def read(conn: Connection) -> tuple[OtpRequest, str] | None:
            return requests.find_with_number(conn, request_id, client_id=client_id, vault=self.vault)

        found = run(self.engine, read)
        if found is None:
            raise RequestNotFound
        request, e164 = found
        traces.current().link(request.trace_context)
        if refused := _why_not(request, now):
            raise refused
        applicant = self.admission.admit(
            client_id=client_id,
            # That nobody has such a number was no obstacle when the request was made.
            number=phone.parse(e164, allow_documentation=True),
            number_hashes=self.vault.number_hashes(e164),
            client_ip_hashes=None,
            language=None,
            resend=True,
            is_test=request.is_test,
            now=now,
        )

        def work(conn: Connection) -> tuple[bool, OtpRequest | None]:
            taken = requests.resend(
                conn,
                request_id,
                client_id=client_id,
                channel=channel,
                send_by=now + self.send_within,
                now=now,
                guard=applicant.notes.guard,
                trace_context=traces.current().context,
            )
            request = requests.find(conn, request_id, client_id=client_id, vault=self.vault)
            if taken and request and remember:
                remember(conn, request)
            return taken, request

        try:
            taken, after = (transaction if remember else run)(self.engine, work)
            if after is None:
                raise RequestNotFound
            if not taken:
                # Another call was quicker.
                raise _why_not(after, now) or ResendInProgress(retry_after_s=1)
        except Exception:
            self.admission.give_back(applicant)
            raise
        metrics.count(metrics.RESENDS)
        log.info("otp_resend_requested", otp_id=str(request_id), client_id=str(client_id), sends=after.sends)
        self.wake()
        return after


def _why_not(request: OtpRequest, now: datetime) -> OtpqueueError | None:
    if request.status in ENDED:
        return ENDED[request.status]()
    if request.expires_at is None:
        return NotSentYet(retry_after_s=1)
    if request.expires_at <= now:
        return CodeExpired()
    if request.send_state is not SendState.IDLE:
        return ResendInProgress(retry_after_s=1)
    if request.sends >= MAX_SENDS:
        return ResendsExhausted()
    if request.resend_after and request.resend_after > now:
        return ResendTooSoon(retry_after_s=math.ceil((request.resend_after - now).total_seconds()))
    return None
