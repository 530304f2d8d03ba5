"""Create a verification page: check what the client asks for, and store it under the hash of its link."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine
from uuid_utils.compat import uuid7

from otpqueue.domain import phone
from otpqueue.domain.errors import ReturnUrlNotRegistered
from otpqueue.domain.number_policy import find_language_refusal
from otpqueue.domain.request import Channel
from otpqueue.operations.access.cache import AccessCache
from otpqueue.operations.verification_pages.limits import PageLimits
from otpqueue.store import verification_pages
from otpqueue.store.engine import run
from otpqueue.store.vault import Vault
from otpqueue.store.verification_pages import NewPage
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

SECRET_BYTES = 32
"""Links, cookies and tokens have 256 random bits."""


@dataclass(frozen=True, kw_only=True)
class WantedPage:
    """What a client asks for."""

    return_url: str
    phone_number: str | None = None
    country: str | None = None
    channel: Channel = Channel.SMS
    language: str | None = None
    state: str | None = None
    client_reference: str | None = None


@dataclass(frozen=True, kw_only=True)
class CreatedPage:
    """A new page."""

    id: UUID
    link: str = field(repr=False)
    """The secret of its link, which is stored nowhere."""
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class CreateVerificationPage:
    """Creates pages. No code is sent before a person asks for it on the page."""

    engine: Engine
    vault: Vault
    access: AccessCache
    limits: PageLimits
    lifetime: timedelta

    def __call__(self, wanted: WantedPage, *, client_id: UUID, now: datetime) -> CreatedPage:
        """Store a page.

        The admission rules apply when the person requests a code, not here. Raises ReturnUrlNotRegistered,
        InvalidPhoneNumber, InvalidRequest, LimitExceeded, LimitsUnavailable, DatabaseUnavailable.
        """
        settings = self.access.client_settings(client_id)
        if not settings.page.allows_return_to(wanted.return_url):
            raise ReturnUrlNotRegistered
        if refused := find_language_refusal(wanted.language, settings):
            raise refused
        number = None
        if wanted.phone_number is not None:
            number = phone.parse_number(wanted.phone_number, country=wanted.country, allow_documentation=True)
        self.limits.count_page(client_id, settings)
        link = secrets.token_urlsafe(SECRET_BYTES)
        new = NewPage(
            id=uuid7(),
            client_id=client_id,
            link_hash=self.vault.page_hashes("link", link)[0],
            e164=number.e164 if number else None,
            channel=wanted.channel,
            language=wanted.language,
            return_url=wanted.return_url,
            state=wanted.state,
            client_reference=wanted.client_reference,
            created_at=now,
            expires_at=now + self.lifetime,
        )
        run(self.engine, lambda conn: verification_pages.add(conn, new, self.vault))
        metrics.count(metrics.PAGES, "created")
        log.info("page_created", page_id=str(new.id), client_id=str(client_id))
        return CreatedPage(id=new.id, link=link, expires_at=new.expires_at)
