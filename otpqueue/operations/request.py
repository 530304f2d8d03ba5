"""Accept a request for a code: check the number, commit the row, wake a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine
from uuid_utils.compat import uuid7

from otpqueue import logs, metrics, traces
from otpqueue.domain import phone
from otpqueue.domain.errors import NumberNotAllowed
from otpqueue.domain.fixed_codes import FixedCodes
from otpqueue.domain.phone import PhoneNumber
from otpqueue.domain.request import Channel, OtpRequest
from otpqueue.operations.admission import Admission
from otpqueue.operations.replay import Remember
from otpqueue.store import requests
from otpqueue.store.engine import transaction
from otpqueue.store.requests import Ended
from otpqueue.store.vault import Vault

log = logs.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class CodeWanted:
    """What a caller asks for."""

    phone_number: str
    country: str | None = None
    channel: Channel = Channel.SMS
    language: str | None = None
    session_id: str | None = None
    client_ip: str | None = None
    client_reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class RequestCode:
    """Accepts requests. Once it returns, the request ends in a final state whatever process is killed."""

    engine: Engine
    vault: Vault
    admission: Admission
    wake: Callable[[], bool]
    send_within: timedelta
    max_checks: int
    allow_documentation: bool
    fixed_codes: FixedCodes = field(default_factory=FixedCodes)

    def __call__(
        self, wanted: CodeWanted, *, client_id: UUID, now: datetime, remember: Remember | None = None
    ) -> OtpRequest:
        """Store a request as due and wake a worker; an older live one for the same person is cancelled.

        `remember` is called in the same transaction.

        Raises InvalidPhoneNumber, NotAdmitted (noted as a refusal), DatabaseUnavailable.
        """
        number = self._number(wanted, client_id=client_id, now=now)
        is_test = self.fixed_codes.of(number.e164, now=now) is not None
        applicant = self.admission.admit(
            client_id=client_id,
            number=number,
            number_hashes=self.vault.number_hashes(number.e164),
            client_ip_hashes=self.vault.address_hashes(wanted.client_ip),
            language=wanted.language,
            resend=False,
            is_test=is_test,
            now=now,
        )
        new = requests.NewRequest(
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
            guard=applicant.notes.guard,
            trace_context=traces.current().context,
        )

        def store(conn: Connection) -> tuple[OtpRequest, list[Ended]]:
            stored, replaced = requests.insert_newest(conn, new, vault=self.vault)
            if remember:
                remember(conn, stored)
            return stored, replaced

        try:
            accepted, replaced = transaction(self.engine, store)
        except Exception:
            self.admission.give_back(applicant)
            raise
        metrics.count(metrics.ACCEPTED, wanted.channel.value)
        for one in replaced:
            log.info("otp_cancelled", otp_id=str(one.id), client_id=str(one.client_id), reason=one.reason)
        logs.bind(otp_id=str(new.id))
        log.info("otp_requested", otp_id=str(new.id), client_id=str(client_id), country=number.country)
        self.wake()
        return accepted

    def _number(self, wanted: CodeWanted, *, client_id: UUID, now: datetime) -> PhoneNumber:
        try:
            return phone.parse(
                wanted.phone_number, country=wanted.country, allow_documentation=self.allow_documentation
            )
        except NumberNotAllowed as error:
            if self.fixed_codes.of(error.e164, now=now):
                return phone.parse(error.e164, allow_documentation=True)
            self.admission.note(
                error,
                client_id=client_id,
                number_hash=self.vault.number_hash(error.e164),
                client_ip_hash=self.vault.address_hash(wanted.client_ip),
                country=phone.documentation_country(error.e164),
                now=now,
            )
            raise
