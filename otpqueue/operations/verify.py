"""Verify a code, synchronously: count the check, ask the provider, record the result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain import phone
from otpqueue.domain.checking import Checker, CheckVerdict, Judgement
from otpqueue.domain.errors import (
    AlreadyVerified,
    CheckInProgress,
    DatabaseUnavailable,
    OtpqueueError,
    RequestCancelled,
    RequestNotFound,
)
from otpqueue.domain.request import FINAL, OtpRequest, Status
from otpqueue.domain.webhooks import StatusCallback, ignore_changes
from otpqueue.operations.check_refusals import ENDED, build_hint, build_refusal, build_verdict_error
from otpqueue.operations.check_waiters import CheckWaiters
from otpqueue.operations.replay import HeldCall
from otpqueue.store import checks, requests
from otpqueue.store.checks import OpenCheck, RecordedCheck
from otpqueue.store.engine import connection, transaction
from otpqueue.store.vault import Vault
from otpqueue.telemetry import logs, metrics, traces
from otpqueue.telemetry.traces import Attributes

log = logs.get_logger(__name__)

_SAID_OF_NO_REQUEST: tuple[type[OtpqueueError], ...] = (AlreadyVerified, RequestCancelled, RequestNotFound)
"""The reasons that callers without an API key get as those of an unknown number: their API has no others."""

_HIDDEN_FROM_KEYLESS: tuple[type[OtpqueueError], ...] = (*ENDED.values(), RequestNotFound)

_NO_CODE = "There is no code to check for this phone number and session; request a new one."
_SESSION_HINT = "If the request was made with a session id, send the same one."

_POLL_S = 0.03

_RECORD_WITHIN_S = 3.0
"""How long recording a right code is retried while Postgres is down."""

_RECORD_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedCode:
    """A code that a user typed, and the context that the caller passes with it."""

    code: str
    session_id: str | None = None
    phone_number: str | None = None
    client_ip: str | None = None


@dataclass(frozen=True, kw_only=True)
class VerifyCode:
    """Verifies codes. A code is accepted once, and a guess is counted before it is compared."""

    engine: Engine
    vault: Vault
    checker: Checker
    lease_s: float
    patience_s: float
    """How long a check waits for a concurrent one of the same request."""
    gives_hints: bool = False
    """Whether errors say that a session is missing or wrong. Not for production: an attacker reads it."""
    on_status: StatusCallback = ignore_changes
    waiters: CheckWaiters = field(default_factory=CheckWaiters, repr=False)

    def __call__(
        self,
        request_id: UUID,
        attempted: TypedCode,
        *,
        client_id: UUID,
        now: datetime,
        held: HeldCall | None = None,
    ) -> OtpRequest:
        """Return the request, verified. The response to a `held` call is stored in the same transaction.

        Raises RequestNotFound, InvalidPhoneNumber, one of the CheckRefused errors, ProviderUnavailable,
        DatabaseUnavailable.
        """
        start = time.monotonic()
        check = self._begin(request_id, attempted, client_id=client_id, now=now)
        asked = time.monotonic()
        judgement = self._ask_provider(check, attempted.code)
        answered = time.monotonic()

        def record(where: Engine | Connection) -> RecordedCheck:
            recorded = checks.record(
                where,
                check,
                judgement,
                latency_ms=round((answered - asked) * 1000),
                now=now + timedelta(seconds=answered - start),
                vault=self.vault,
            )
            if recorded is None:
                raise RequestNotFound
            return recorded

        def record_and_keep(conn: Connection) -> RecordedCheck:
            recorded = record(conn)
            if held and recorded.moved_to is Status.VERIFIED:
                # An accepted code stays accepted even if the key was lost: a person cannot type it again.
                held.keep(conn, recorded.request)
            return recorded

        # Without an Idempotency-Key this is one statement, which needs no explicit transaction.
        keyed = held is not None and held.held is not None
        recorded = self._record_reliably(
            lambda: transaction(self.engine, record_and_keep) if keyed else record(self.engine),
            check,
            judgement,
        )
        request, status = recorded.request, recorded.moved_to
        self._follow_up(request, judgement, status)
        if status is Status.VERIFIED:
            return request
        raise build_verdict_error(request, judgement.verdict)

    def _record_reliably(
        self, record: Callable[[], RecordedCheck], check: OpenCheck, judgement: Judgement
    ) -> RecordedCheck:
        """Record a verdict. A right code is recorded again if Postgres may have committed without a reply.

        Otherwise the caller would get 503 now and `already_verified` afterwards, but never 200. Losing any
        other verdict does no harm: the guess stays counted.
        """
        give_up = time.monotonic() + _RECORD_WITHIN_S
        while True:
            try:
                return record()
            except DatabaseUnavailable:
                if judgement.verdict is not CheckVerdict.CORRECT or time.monotonic() >= give_up:
                    raise
                log.warning("right_code_not_recorded", otp_id=str(check.request_id))
                time.sleep(_RECORD_PAUSE_S)

    def _follow_up(self, request: OtpRequest, judgement: Judgement, moved_to: Status | None) -> None:
        """Report a verdict and notify the client. A failure here must not hide the recorded result."""
        try:
            _report(request, judgement, moved_to)
            if moved_to in FINAL:
                self.on_status([(request.client_id, moved_to)])
        except Exception:
            log.exception("check_not_followed_up", otp_id=str(request.id))

    def _ask_provider(self, check: OpenCheck, code: str) -> Judgement:
        about: Attributes = {"otpqueue.otp_id": str(check.request_id), "otpqueue.check": check.number}
        with traces.span("check_code", attributes=about) as span:
            # Links to the trace in which the code was sent, which is that of another call.
            span.add_link(check.trace_context)
            judgement = self.checker.verify(pin_id=check.pin_id, code=code)
            span.set_attributes(
                {"otpqueue.verdict": judgement.verdict.value, "otpqueue.code": judgement.code}
            )
            if judgement.verdict in {CheckVerdict.UNJUDGED, CheckVerdict.UNKNOWN}:
                span.mark_failed(judgement.verdict.value)
        return judgement

    def newest(
        self, attempted: TypedCode, *, client_id: UUID, now: datetime, held: HeldCall | None = None
    ) -> OtpRequest:
        """Verify a code against the newest request for the number and session in `attempted`.

        Raises as a call does; RequestNotFound if there is no such request.
        """
        with connection(self.engine) as conn:
            request_id = requests.find_newest(
                conn,
                client_id=client_id,
                number_hashes=self._number_hashes(attempted) or [],
                session_hashes=self.vault.session_hashes(attempted.session_id),
            )
        return self._verify_newest(request_id, attempted, client_id=client_id, now=now, held=held)

    def newest_keyless(
        self, attempted: TypedCode, *, client_id: UUID, now: datetime, held: HeldCall | None = None
    ) -> OtpRequest:
        """Verify a code as `newest` does, for a caller without an API key.

        Unused numbers, numbers without live requests and numbers with a request of another session all raise
        RequestNotFound, after the same single query. Only the holder of its session learns how a request
        ended.
        """
        with connection(self.engine) as conn:
            request_id = requests.find_newest_keyless(
                conn,
                client_id=client_id,
                number_hashes=self._number_hashes(attempted) or [],
                session_hashes=self.vault.session_hashes(attempted.session_id),
                now=now,
            )
        hidden = _HIDDEN_FROM_KEYLESS if attempted.session_id is None else _SAID_OF_NO_REQUEST
        try:
            return self._verify_newest(request_id, attempted, client_id=client_id, now=now, held=held)
        except hidden:
            raise self._build_not_found(attempted) from None

    def _verify_newest(
        self,
        request_id: UUID | None,
        attempted: TypedCode,
        *,
        client_id: UUID,
        now: datetime,
        held: HeldCall | None,
    ) -> OtpRequest:
        if request_id is None:
            raise self._build_not_found(attempted)
        logs.bind_fields(otp_id=str(request_id))
        return self(request_id, attempted, client_id=client_id, now=now, held=held)

    def _build_not_found(self, attempted: TypedCode) -> RequestNotFound:
        is_hinted = self.gives_hints and attempted.session_id is None
        return RequestNotFound(f"{_NO_CODE} {_SESSION_HINT}" if is_hinted else _NO_CODE)

    def _begin(self, request_id: UUID, attempted: TypedCode, *, client_id: UUID, now: datetime) -> OpenCheck:
        number_hashes = self._number_hashes(attempted)
        session_hashes = self.vault.session_hashes(attempted.session_id)
        client_ip_hash = self.vault.address_hash(attempted.client_ip)
        has_session, has_number = attempted.session_id is not None, attempted.phone_number is not None
        hint = build_hint(has_session=has_session, has_number=has_number) if self.gives_hints else None

        def begin() -> OpenCheck:
            begun = checks.begin(
                self.engine,
                request_id=request_id,
                client_id=client_id,
                session_hashes=session_hashes,
                number_hashes=number_hashes,
                client_ip_hash=client_ip_hash,
                lease_s=self.lease_s,
                now=now,
                vault=self.vault,
            )
            if begun is None:
                raise RequestNotFound
            if isinstance(begun, OpenCheck):
                return begun
            if not begun.belongs:
                log.info("otp_check_foreign", otp_id=str(request_id), client_id=str(client_id))
            raise build_refusal(begun.request, belongs=begun.belongs, now=now, hint=hint)

        try:
            return begin()
        except CheckInProgress:
            if not self.waiters.enter(request_id, client_id):
                raise
        try:
            return self._wait_to(begin)
        finally:
            self.waiters.leave(request_id, client_id)

    def _wait_to(self, begin: Callable[[], OpenCheck]) -> OpenCheck:
        give_up = time.monotonic() + self.patience_s
        while True:
            time.sleep(_POLL_S)
            try:
                return begin()
            except CheckInProgress:
                if time.monotonic() >= give_up:
                    raise

    def _number_hashes(self, attempted: TypedCode) -> list[bytes] | None:
        if attempted.phone_number is None:
            return None
        # Whether the number may receive codes was decided at acceptance. Here it is only compared.
        number = phone.parse_number(attempted.phone_number, allow_documentation=True)
        return self.vault.number_hashes(number.e164)


def _report(request: OtpRequest, judgement: Judgement, moved_to: Status | None) -> None:
    metrics.count(metrics.CHECKS, judgement.verdict.value)
    fields: dict[str, Any] = {
        "otp_id": str(request.id),
        "client_id": str(request.client_id),
        "verdict": judgement.verdict.value,
        "code": judgement.code,
        "http_status": judgement.http_status,
        "status": request.status.value,
        "checks_left": request.checks_left,
    }
    if moved_to is Status.VERIFIED:
        log.info("otp_verified", **fields)
    else:
        log.info("otp_check_failed", **fields)
