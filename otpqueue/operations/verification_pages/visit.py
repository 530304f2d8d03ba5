"""What the person does on a verification page: open it, request a code, enter it, return.

The page belongs to the first browser that opens it. That browser has a secret in a cookie, which is also the
session id of the page's requests. Without the secret nothing on the page can be seen or done.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import AlreadyVerified, OtpqueueError, RequestNotFound
from otpqueue.domain.number_policy import find_language_refusal
from otpqueue.domain.request import Channel, OtpRequest
from otpqueue.domain.verification_pages import PageStage, VerificationPage, build_return_url, get_stage
from otpqueue.operations.access.cache import AccessCache
from otpqueue.operations.cancel import CancelRequest
from otpqueue.operations.request import RequestCode, RequestedCode
from otpqueue.operations.resend import ResendCode
from otpqueue.operations.verification_pages.create import SECRET_BYTES
from otpqueue.operations.verification_pages.limits import PageLimits
from otpqueue.operations.verify import TypedCode, VerifyCode
from otpqueue.store import requests, verification_pages
from otpqueue.store.engine import connection, run
from otpqueue.store.vault import Vault
from otpqueue.store.verification_pages import FoundPage
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


class PageNotAvailable(OtpqueueError):
    """This link has expired or does not exist."""

    code = "page_not_available"
    status = 404


class ForeignBrowser(OtpqueueError):
    """Another browser opened this link first."""

    code = "page_of_another_browser"
    status = 403


@dataclass(frozen=True, kw_only=True)
class PageVisit:
    """A page in its browser, at one moment."""

    page: VerificationPage
    request: OtpRequest | None
    """The newest request of the page."""
    settings: ClientSettings
    browser: str = field(repr=False)
    """The secret in the browser's cookie."""
    is_new: bool = False
    """Whether this call opened the page, so that the cookie must be set."""

    @property
    def stage(self) -> PageStage:
        """What the person does next."""
        return get_stage(self.page, self.request)


@dataclass(frozen=True, kw_only=True)
class VisitVerificationPage:
    """Serves visitors of pages. Codes follow the same rules as those of `/v1/otp-requests`."""

    engine: Engine
    vault: Vault
    access: AccessCache
    limits: PageLimits
    request: RequestCode
    resend: ResendCode
    verify: VerifyCode
    cancel: CancelRequest
    token_lifetime: timedelta

    def open(
        self, link: str, *, browser: str | None, embedded: bool, address: str | None, now: datetime
    ) -> PageVisit:
        """Return the visit of a browser. The first one that comes owns the page.

        `browser` is the secret in its cookie. Raises PageNotAvailable, ForeignBrowser, LimitExceeded,
        DatabaseUnavailable.
        """
        if browser is not None:
            return self.resume(link, browser=browser, now=now)
        self.limits.count_action(address)
        found = self._find(link, now=now)
        page = found.page
        if found.browser_hash is not None:
            raise self._refuse(page)
        browser = secrets.token_urlsafe(SECRET_BYTES)
        browser_hash = self.vault.page_hashes("browser", browser)[0]
        settings = self.access.client_settings(page.client_id)
        embedded = embedded and bool(settings.page.origins)
        bound = run(
            self.engine,
            lambda conn: verification_pages.bind_browser(
                conn, page.id, browser_hash, embedded=embedded, now=now
            ),
        )
        if not bound:
            raise self._refuse(page)
        metrics.count(metrics.PAGES, "opened")
        log.info("page_opened", page_id=str(page.id), client_id=str(page.client_id))
        opened = replace(page, is_opened=True, is_embedded=embedded)
        return PageVisit(page=opened, request=None, settings=settings, browser=browser, is_new=True)

    def resume(self, link: str, *, browser: str | None, now: datetime) -> PageVisit:
        """Return the visit of the browser that owns the page.

        Raises PageNotAvailable, ForeignBrowser, DatabaseUnavailable.
        """
        found = self._find(link, now=now)
        page = found.page
        if browser is None or not self._owns(found, browser):
            raise self._refuse(page)
        request = None
        if page.request_id is not None:
            request = requests.find(self.engine, page.request_id, client_id=page.client_id, vault=self.vault)
        settings = self.access.client_settings(page.client_id)
        return PageVisit(page=page, request=request, settings=settings, browser=browser)

    def act(self, link: str, *, browser: str | None, address: str | None, now: datetime) -> PageVisit:
        """Return the visit of a browser that submits a form. Raises as `resume`, LimitExceeded."""
        self.limits.count_action(address)
        return self.resume(link, browser=browser, now=now)

    def send_code(
        self,
        visit: PageVisit,
        *,
        phone_number: str | None,
        country: str | None,
        channel: Channel,
        language: str,
        address: str | None,
        now: datetime,
    ) -> None:
        """Request a code for the client's number, or for `phone_number` if the client gave none.

        `language` is that of the page, and of the message if the client chose none and allows it. Does
        nothing while the page has a live request. Raises as RequestCode, and LimitExceeded.
        """
        page = visit.page
        if visit.stage not in {PageStage.NUMBER, PageStage.CONFIRM, PageStage.ENDED}:
            return
        self.limits.count_request(page.id)
        with connection(self.engine) as conn:
            given = verification_pages.read_number(conn, page.id, self.vault)
        wanted = RequestedCode(
            phone_number=given or phone_number or "",
            country=None if given else country,
            channel=channel,
            language=page.language or (None if find_language_refusal(language, visit.settings) else language),
            session_id=visit.browser,
            client_ip=address,
            client_reference=page.client_reference,
        )
        request = self.request(wanted, client_id=page.client_id, now=now)
        run(self.engine, lambda conn: verification_pages.set_request(conn, page.id, request.id))

    def resend_code(self, visit: PageVisit, *, channel: Channel, now: datetime) -> None:
        """Send the code again. Raises as ResendCode."""
        self.resend(self._request_id(visit), client_id=visit.page.client_id, channel=channel, now=now)

    def check_code(self, visit: PageVisit, code: str, *, address: str | None, now: datetime) -> None:
        """Check the code that the person entered. Raises as VerifyCode."""
        page = visit.page
        typed = TypedCode(code=code, session_id=visit.browser, client_ip=address)
        try:
            request = self.verify(self._request_id(visit), typed, client_id=page.client_id, now=now)
        except AlreadyVerified:
            # A second click, or a repeated request after a lost response.
            return
        metrics.count(metrics.PAGES, "verified")
        log.info("page_verified", page_id=str(page.id), client_id=str(page.client_id), otp_id=str(request.id))

    def start_again(self, visit: PageVisit, *, now: datetime) -> None:
        """Cancel the request, so that the person can give another number or request a new code."""
        page, request = visit.page, visit.request
        if request is None or visit.stage in {PageStage.VERIFIED, PageStage.REDEEMED}:
            return
        request_id = request.id
        if not request.is_final:
            ended = self.cancel(request_id, client_id=page.client_id, now=now)
            if get_stage(page, ended) is PageStage.VERIFIED:
                return
        run(self.engine, lambda conn: verification_pages.clear_request(conn, page.id, request_id))

    def issue_token(self, visit: PageVisit, *, now: datetime) -> str | None:
        """Return a new token for the client, which replaces an earlier one; None once one was redeemed.

        It is valid for `token_lifetime`, and the page that long after the correct code.
        """
        page, request = visit.page, visit.request
        if request is None or request.verified_at is None or visit.stage is not PageStage.VERIFIED:
            return None
        page_until = max(page.expires_at, request.verified_at + self.token_lifetime)
        token = secrets.token_urlsafe(SECRET_BYTES)
        token_hash = self.vault.page_hashes("token", token)[0]

        def work(conn: Connection) -> bool:
            return verification_pages.store_token(
                conn,
                page.id,
                token_hash,
                expires_at=min(now + self.token_lifetime, page_until),
                page_until=page_until,
            )

        return token if run(self.engine, work) else None

    def build_return_url(self, visit: PageVisit, *, now: datetime) -> str:
        """Return where the browser goes after a correct code, with a new token."""
        return build_return_url(visit.page, token=self.issue_token(visit, now=now))

    def _find(self, link: str, *, now: datetime) -> FoundPage:
        found = None
        if _SECRET.fullmatch(link):
            hashes = self.vault.page_hashes("link", link)
            with connection(self.engine) as conn:
                found = verification_pages.find_by_link(conn, hashes, now=now, vault=self.vault)
        if found is None:
            metrics.count(metrics.PAGES, "not_available")
            raise PageNotAvailable
        return found

    def _owns(self, found: FoundPage, browser: str) -> bool:
        if found.browser_hash is None or not _SECRET.fullmatch(browser):
            return False
        hashes = self.vault.page_hashes("browser", browser)
        return any(hmac.compare_digest(one, found.browser_hash) for one in hashes)

    def _refuse(self, page: VerificationPage) -> ForeignBrowser:
        metrics.count(metrics.PAGES, "foreign")
        log.warning("page_foreign", page_id=str(page.id), client_id=str(page.client_id))
        return ForeignBrowser()

    def _request_id(self, visit: PageVisit) -> UUID:
        if visit.request is None:
            raise RequestNotFound
        return visit.request.id
