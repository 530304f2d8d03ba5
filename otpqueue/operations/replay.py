"""Do once what a call asks for, however often it is made: a repetition gets the first answer."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue import logs
from otpqueue.domain.errors import (
    DatabaseUnavailable,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    RequestNotFound,
)
from otpqueue.domain.replay import Answer, Call
from otpqueue.domain.request import OtpRequest
from otpqueue.store import idempotency
from otpqueue.store.engine import connection
from otpqueue.store.idempotency import Held, Key
from otpqueue.store.vault import Vault

log = logs.get_logger(__name__)

Remember = Callable[[Connection, OtpRequest], None]
"""What an operation calls in the transaction of its work, last, when it has accepted: the answer is kept."""


@dataclass(frozen=True, kw_only=True)
class Once:
    """Stands before an operation: a repetition never reaches it, nor its limits, nor Redis."""

    engine: Engine
    vault: Vault
    keep: timedelta
    """How long an answer is replayed."""
    lease_s: float
    """After so long a call whose process was killed may be made again; longer than any call takes."""

    def __call__(
        self,
        call: Call | None,
        work: Callable[[Remember | None], OtpRequest],
        *,
        answer: Callable[[OtpRequest], Answer],
        client_id: UUID,
        now: datetime,
        undoable: bool = True,
    ) -> Answer:
        """Return the answer to `call`, the first one if it is a repetition; None is a call without a key.

        Only what `work` remembers is kept: a call that is refused lets go of its key. Work that took longer
        than the lease is undone if another call has used the key meanwhile, unless it is not `undoable`.

        Raises IdempotencyKeyReused, IdempotencyInProgress, RequestNotFound (what the answer speaks of has
        been erased), DatabaseUnavailable, and what `work` raises.
        """
        if call is None:
            return answer(work(None))
        expires_at = now + self.keep
        key = Key(
            client_id=client_id,
            key_hashes=self.vault.idempotency_hashes(call.name, call.key),
            fingerprints=self.vault.body_hashes(call.body),
        )
        held = self._take(key, now=now, expires_at=expires_at)
        if isinstance(held, Answer):
            return held
        given: list[Answer] = []

        def remember(conn: Connection, request: OtpRequest) -> None:
            given.append(answer(request))
            kept = idempotency.keep(
                conn, held, given[-1], request_id=request.id, now=now, expires_at=expires_at
            )
            if not kept and undoable:
                raise IdempotencyInProgress(retry_after_s=1)

        try:
            request = work(remember)
        except Exception:
            self._release(held)
            raise
        return given[-1] if given else answer(request)

    def _take(self, key: Key, *, now: datetime, expires_at: datetime) -> Held | Answer:
        with connection(self.engine) as conn:
            found = idempotency.take(conn, key, lease_s=self.lease_s, now=now, expires_at=expires_at)
        if isinstance(found, Held):
            return found
        if not any(hmac.compare_digest(found.fingerprint, one) for one in key.fingerprints):
            raise IdempotencyKeyReused
        if found.in_progress:
            raise IdempotencyInProgress(retry_after_s=1)
        if found.answer is None:
            raise RequestNotFound("What this Idempotency-Key was used for has been erased.")
        otp_id = str(found.request_id)
        logs.bind(otp_id=otp_id)
        log.info("answer_replayed", otp_id=otp_id, client_id=str(key.client_id), status=found.answer.status)
        return found.answer

    def _release(self, held: Held) -> None:
        try:
            with connection(self.engine) as conn:
                idempotency.release(conn, held)
        except DatabaseUnavailable:
            # The refusal matters more to the caller; the key is free when its lease has run out.
            log.warning("idempotency_key_not_released", client_id=str(held.key.client_id))
