"""Answers, sessions and redirects of the hosted page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import falcon

from otpqueue.api.pages import layout
from otpqueue.api.pages.browser import PageCookies
from otpqueue.domain.errors import OtpqueueError, Unavailable
from otpqueue.operations.verification_pages.visit import (
    ForeignBrowser,
    PageVisit,
    VisitVerificationPage,
)
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class HostedPageBase:
    """What the resources of the page share."""

    visits: VisitVerificationPage
    cookies: PageCookies

    def refuse(self, resp: falcon.Response, error: OtpqueueError) -> None:
        """Answer a call that the server rejects before it reaches the page."""
        layout.render_error(resp, error)

    def answer(
        self, req: falcon.Request, resp: falcon.Response, work: Callable[[], None], **more: Any
    ) -> None:
        """Run `work`, and answer its errors with an error page."""
        try:
            work()
        except OtpqueueError as error:
            layout.render_error(resp, error, accepted=req.get_header("Accept-Language"), **more)
        except Exception as error:
            log.error("internal_error", exc_info=error)  # noqa: TRY400 - as the API does
            layout.render_error(resp, OtpqueueError(), accepted=req.get_header("Accept-Language"), **more)

    def resume(self, req: falcon.Request, link: str, *, now: datetime) -> PageVisit:
        """Return the visit of the browser that owns the page. Raises PageNotAvailable, ForeignBrowser."""
        secret = self.cookies.read(req, link)
        if secret is None:
            raise ForeignBrowser
        return self.visits.resume(link, browser=secret, now=now)


def keep_language(req: falcon.Request, **more: str) -> str:
    """Return the query that keeps the chosen language, with `more` parameters."""
    lang = req.get_param("lang")
    kept = {"lang": lang} if lang and lang.isalpha() and len(lang) <= 3 else {}
    found = urlencode({**kept, **more})
    return f"?{found}" if found else ""


def redirect(
    req: falcon.Request, resp: falcon.Response, link: str, *, error: OtpqueueError | None = None
) -> None:
    """Redirect to the page of a link, which then shows the error, if any."""
    more: dict[str, str] = {}
    if error is not None:
        more["error"] = (
            "busy" if isinstance(error, Unavailable) and error.code != "provider_unavailable" else error.code
        )
        if error.retry_after_s is not None and not isinstance(error, Unavailable):
            more["wait"] = str(error.retry_after_s)
    resp.status = 303
    resp.set_header("Location", f"/verify/{link}{keep_language(req, **more)}")
