"""Redeem the token of a verified page, once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain.errors import VerificationTokenInvalid
from otpqueue.domain.request import OtpRequest
from otpqueue.store import requests, verification_pages
from otpqueue.store.engine import transaction
from otpqueue.store.vault import Vault
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class VerifiedPerson:
    """What a person proved on a page."""

    page_id: UUID
    request: OtpRequest
    e164: str = field(repr=False)
    """The whole number: the client may learn it from this answer alone."""
    state: str | None


@dataclass(frozen=True, kw_only=True)
class RedeemVerificationToken:
    """Redeems tokens. A token is valid once, for its client, for a few minutes."""

    engine: Engine
    vault: Vault

    def __call__(self, token: str, *, client_id: UUID, now: datetime) -> VerifiedPerson:
        """Return the result of the token's page. Raises VerificationTokenInvalid, DatabaseUnavailable."""
        hashes = self.vault.page_hashes("token", token)

        def work(conn: Connection) -> VerifiedPerson | None:
            redeemed = verification_pages.redeem(conn, hashes, client_id=client_id, now=now)
            if redeemed is None:
                return None
            found = requests.find_with_number(
                conn, redeemed.request_id, client_id=client_id, vault=self.vault
            )
            if found is None:
                return None
            request, e164 = found
            return VerifiedPerson(page_id=redeemed.id, request=request, e164=e164, state=redeemed.state)

        verified = transaction(self.engine, work)
        if verified is None:
            metrics.count(metrics.PAGES, "token_refused")
            log.warning("page_token_refused", client_id=str(client_id))
            raise VerificationTokenInvalid
        metrics.count(metrics.PAGES, "redeemed")
        log.info(
            "page_redeemed",
            page_id=str(verified.page_id),
            client_id=str(client_id),
            otp_id=str(verified.request.id),
        )
        return verified
