"""Read a page as its client sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine

from otpqueue.domain.request import OtpRequest
from otpqueue.domain.verification_pages import PageStage, VerificationPage, get_stage
from otpqueue.store import requests, verification_pages
from otpqueue.store.engine import connection
from otpqueue.store.vault import Vault


@dataclass(frozen=True, kw_only=True)
class PageSnapshot:
    """A page and its newest request."""

    page: VerificationPage
    request: OtpRequest | None

    @property
    def stage(self) -> PageStage:
        """What the person does next."""
        return get_stage(self.page, self.request)


@dataclass(frozen=True, kw_only=True)
class FindPage:
    """Finds pages by their ids."""

    engine: Engine
    vault: Vault

    def __call__(self, page_id: UUID, *, client_id: UUID, now: datetime) -> PageSnapshot | None:
        """Return a page of this client, None if there is none or it has expired."""
        with connection(self.engine) as conn:
            page = verification_pages.find(conn, page_id, client_id=client_id, now=now, vault=self.vault)
        request = None
        if page is not None and page.request_id is not None:
            request = requests.find(self.engine, page.request_id, client_id=client_id, vault=self.vault)
        return None if page is None else PageSnapshot(page=page, request=request)
