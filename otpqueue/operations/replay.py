"""Do once what a call asks for, however often it is made: a repetition gets the first answer.

Accepting a request keeps its answer in the statement that stores it. Calls that last longer, or that find out
only at the end what to answer, hold their key under a lease meanwhile: take, then keep or release.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain.errors import (
    DatabaseUnavailable,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    RequestNotFound,
)
from otpqueue.domain.replay import IdempotentCall, StoredResponse
from otpqueue.domain.request import OtpRequest
from otpqueue.store import idempotency, requests
from otpqueue.store.accepting import KeyToKeep
from otpqueue.store.engine import connection
from otpqueue.store.idempotency import HeldKey, IdempotencyKey, UsedKey
from otpqueue.store.vault import Vault
from otpqueue.telemetry import logs

log = logs.get_logger(__name__)

_ERASED = "What this Idempotency-Key was used for has been erased."


@dataclass(frozen=True, kw_only=True)
class IdempotentResponses:
    """The answers that are kept with Idempotency-Keys."""

    engine: Engine
    vault: Vault
    keep: timedelta
    """How long an answer is replayed."""
    lease_s: float
    """How long a call holds its key; longer than any call takes. After that another may take it over."""

    def key(self, call: IdempotentCall, *, client_id: UUID) -> IdempotencyKey:
        """Return what a call's key and body are stored as."""
        return IdempotencyKey(
            client_id=client_id,
            key_hashes=self.vault.idempotency_hashes(call.name, call.key),
            fingerprints=self.vault.body_hashes(call.body),
        )

    def to_keep(
        self,
        call: IdempotentCall,
        answer: StoredResponse,
        *,
        number: str | None,
        client_id: UUID,
        now: datetime,
    ) -> KeyToKeep:
        """Return what is kept of a call whose answer is known before its work is done.

        `number` is the one in the answer, masked.
        """
        return KeyToKeep(
            key=self.key(call, client_id=client_id),
            answer=answer.hide_digits(number),
            expires_at=now + self.keep,
        )

    def answer(self, key: IdempotencyKey, used: UsedKey, *, number: str | None) -> StoredResponse:
        """Return the kept answer to a call that was made before; `number` is the one in it, masked.

        Raises IdempotencyKeyReused, IdempotencyInProgress, and RequestNotFound when the request that the
        answer is about has been erased.
        """
        # Emptied with the request, so whether the bodies agree is unknown.
        if not used.fingerprint:
            raise RequestNotFound(_ERASED)
        if not any(hmac.compare_digest(used.fingerprint, one) for one in key.fingerprints):
            raise IdempotencyKeyReused
        if used.in_progress:
            raise IdempotencyInProgress(retry_after_s=1)
        if used.answer is None:
            raise RequestNotFound(_ERASED)
        otp_id = str(used.request_id)
        logs.bind_fields(otp_id=otp_id)
        log.info("answer_replayed", otp_id=otp_id, client_id=str(key.client_id), status=used.answer.status)
        return used.answer.restore_digits(number)

    def hold(
        self,
        call: IdempotentCall | None,
        *,
        make: Callable[[OtpRequest], StoredResponse],
        client_id: UUID,
        now: datetime,
    ) -> HeldCall:
        """Hold the key of a call for `lease_s`, or find the answer to the first one.

        None is a call without key. `make` makes the answer of an accepted call. Raises as `answer` does.
        """
        if call is None:
            return HeldCall(engine=self.engine, make=make)
        key, expires_at = self.key(call, client_id=client_id), now + self.keep
        with connection(self.engine) as conn:
            found = idempotency.take(conn, key, lease_s=self.lease_s, now=now, expires_at=expires_at)
            if isinstance(found, HeldKey):
                return HeldCall(engine=self.engine, make=make, held=found, now=now, expires_at=expires_at)
            number = requests.read_number(conn, found.request_id, self.vault) if found.request_id else None
        return HeldCall(engine=self.engine, make=make, answer=self.answer(key, found, number=number))


@dataclass(kw_only=True)
class HeldCall:
    """A call that may hold its Idempotency-Key; when its block fails the key is released."""

    engine: Engine
    make: Callable[[OtpRequest], StoredResponse]
    held: HeldKey | None = None
    """None for a call without key, and for a repetition."""
    now: datetime | None = None
    expires_at: datetime | None = None
    answer: StoredResponse | None = None
    """The answer: of the first call if this one repeats it, and of this one once it is done."""

    def keep(self, conn: Connection, request: OtpRequest) -> bool:
        """Keep the answer to an accepted call, as the last statement of the transaction of its work.

        Returns False when the lease expired and another call has used the key: work that can be undone must
        be.
        """
        self.answer = self.make(request)
        if self.held is None or self.now is None or self.expires_at is None:
            return True
        return idempotency.keep(
            conn,
            self.held,
            self.answer.hide_digits(request.phone_number),
            request_id=request.id,
            now=self.now,
            expires_at=self.expires_at,
        )

    def __enter__(self) -> HeldCall:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or self.held is None:
            return
        try:
            with connection(self.engine) as conn:
                idempotency.release(conn, self.held)
        except DatabaseUnavailable:
            # The refusal matters more to the caller; the key is free when its lease has expired.
            log.warning("idempotency_key_not_released", client_id=str(self.held.key.client_id))
