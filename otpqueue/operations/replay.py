"""Idempotency: do once what a call asks for; a repeated call gets the first response.

An accepted request stores its response in the same statement. Calls that take longer, or that know their
response only at the end, hold their key with a lease meanwhile: hold, then keep or release.
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

_ERASED = "The request that this Idempotency-Key was used for has been erased."


@dataclass(frozen=True, kw_only=True)
class IdempotentResponses:
    """The responses that are stored with Idempotency-Keys."""

    engine: Engine
    vault: Vault
    keep: timedelta
    """How long a response is replayed."""
    lease_s: float
    """How long a call holds its key, longer than any call takes. After that another call may take it over."""

    def key(self, call: IdempotentCall, *, client_id: UUID) -> IdempotencyKey:
        """Return the stored form of a call's key and body."""
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
        """Return what to store of a call if its response is known before its work is done.

        `number` is the masked number in the response.
        """
        return KeyToKeep(
            key=self.key(call, client_id=client_id),
            answer=answer.hide_digits(number),
            expires_at=now + self.keep,
        )

    def answer(self, key: IdempotencyKey, used: UsedKey, *, number: str | None) -> StoredResponse:
        """Return the stored response to a repeated call. `number` is the masked number in it.

        Raises IdempotencyKeyReused, IdempotencyInProgress, and RequestNotFound if the request that the
        response is about has been erased.
        """
        # Erasure also clears the hash of the body, so whether the bodies agree is unknown.
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
        """Hold the key of a call for `lease_s`, or find the response to the first call.

        `call` is None without a key. `make` builds the response of an accepted call. Raises as `answer` does.
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
    """A call that may hold its Idempotency-Key. The key is released when the block raises."""

    engine: Engine
    make: Callable[[OtpRequest], StoredResponse]
    held: HeldKey | None = None
    """None for a call without a key, and for a repeated call."""
    now: datetime | None = None
    expires_at: datetime | None = None
    answer: StoredResponse | None = None
    """The response of the first call if this one repeats it, and of this one once it is done."""

    def keep(self, conn: Connection, request: OtpRequest) -> bool:
        """Store the response to an accepted call, as the last statement of the transaction of its work.

        Returns False if the lease expired and another call has used the key. Work that can be undone must
        then be rolled back.
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
            # The original error matters more to the caller. The key is free when its lease expires.
            log.warning("idempotency_key_not_released", client_id=str(self.held.key.client_id))
