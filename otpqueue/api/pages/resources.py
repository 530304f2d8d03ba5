"""`/verify/{link}`: the hosted page, its forms and its state. It works without its script."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import falcon

from otpqueue import clock
from otpqueue.api.http.concurrency import ConcurrencyLimit
from otpqueue.api.pages import layout
from otpqueue.api.pages.base import HostedPageBase, keep_language, redirect
from otpqueue.api.pages.browser import is_prefetch
from otpqueue.api.pages.catalogue import PageTexts, guess_country, list_error_codes
from otpqueue.domain.checking import parse_code
from otpqueue.domain.errors import (
    InvalidPhoneNumber,
    OtpqueueError,
    Unavailable,
)
from otpqueue.domain.number_policy import NumberPolicy
from otpqueue.domain.phone import COUNTRIES, WORLD
from otpqueue.domain.request import MAX_SENDS, Channel, OtpRequest, Resend, SendState, Status
from otpqueue.domain.verification_pages import PageStage, build_return_url
from otpqueue.operations.verification_pages.visit import (
    PageNotAvailable,
    PageVisit,
)
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_REFRESH_S = 2
"""How often a page without a script reloads while it waits for the code to be sent."""
_ENDED = {Status.LOCKED: "ended_locked", Status.EXPIRED: "ended_expired", Status.FAILED: "ended_failed"}

_SHOWN_BY_STAGE = frozenset({"code_incorrect", "expired", "locked", "cancelled", "failed"})
"""Errors that the stage `ended` describes."""


class PageFormRefused(OtpqueueError):
    """The form is too old, or of another page or browser. Nothing was changed."""

    code = "form"
    status = 403


@dataclass(frozen=True, kw_only=True)
class HostedPage(HostedPageBase):
    """`/verify/{link}`."""

    numbers: NumberPolicy

    def on_get(self, req: falcon.Request, resp: falcon.Response, link: str) -> None:
        """Show what the person does next, or return to the client's site after a correct code."""
        self.answer(req, resp, lambda: self._show(req, resp, link))

    def _show(self, req: falcon.Request, resp: falcon.Response, link: str) -> None:
        now = clock.now()
        secret = self.cookies.read(req, link)
        if secret is None and is_prefetch(req):
            # The link belongs to the browser in which a person opens it.
            raise Unavailable(retry_after_s=1)
        visit = self.visits.open(
            link,
            browser=secret,
            embedded=req.get_param("embed") == "1",
            address=read_address(req),
            now=now,
        )
        if visit.is_new:
            self.cookies.keep(
                req,
                resp,
                link,
                visit.browser,
                embedded=visit.page.is_embedded,
                until=visit.page.expires_at,
            )
        if visit.stage is PageStage.VERIFIED and not visit.page.is_embedded:
            resp.status = 303
            resp.set_header("Location", self.visits.build_return_url(visit, now=now))
            return
        self.show_stage(req, resp, link, visit, now=now)

    def show_stage(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        link: str,
        visit: PageVisit,
        *,
        now: datetime,
        error: OtpqueueError | None = None,
        typed: dict[str, str] | None = None,
    ) -> None:
        """Render the stage of a page, with an error of a form that was just submitted."""
        texts = layout.choose_texts(req, visit)
        page, settings = visit.page, visit.settings.page
        layout.set_policy(resp, settings, return_url=page.return_url)
        shown = (error.code, error.retry_after_s) if error else _read_error(req, visit.stage)
        values: dict[str, Any] = {
            "texts": texts,
            "stage": visit.stage.value,
            "refresh_s": _REFRESH_S if visit.stage is PageStage.SENDING else None,
            "brand": layout.describe_brand(visit, link),
            "languages": layout.list_languages(settings),
            "here": f"/verify/{link}",
            "query": keep_language(req),
            "token": self.cookies.form_token(link, visit.browser),
            "error": texts.error(shown[0], wait_s=shown[1]) if shown else None,
            "embedded": page.is_embedded,
            "origins": json.dumps(settings.origins) if page.is_embedded else None,
            "leave": build_return_url(page, error="cancelled"),
            "number": page.phone_number,
            "can_change_number": not page.has_number,
            "voice_first": page.channel is Channel.VOICE,
        }
        if visit.stage is PageStage.NUMBER:
            values |= self._number_form(req, visit, texts, typed or {})
        if visit.stage is PageStage.VERIFIED:
            values |= self._embedded_result(visit, now=now)
        if visit.request is not None:
            values |= _describe_request(visit.request, texts, now=now)
        status = 200 if error is None else 422
        layout.render(resp, f"{visit.stage.value}.html", status=status, **values)

    def _number_form(
        self, req: falcon.Request, visit: PageVisit, texts: PageTexts, typed: dict[str, str]
    ) -> dict[str, Any]:
        offered = [one for one in COUNTRIES - {WORLD} if self.numbers.is_country_allowed(one, visit.settings)]
        accepted = req.get_header("Accept-Language")
        return {
            "countries": texts.countries(offered),
            "country": typed.get("country")
            or guess_country(accepted)
            or (offered[0] if len(offered) == 1 else ""),
            "typed": typed.get("number", ""),
        }

    def _embedded_result(self, visit: PageVisit, *, now: datetime) -> dict[str, Any]:
        """Return what the script of an embedded page posts to the page around it."""
        token = self.visits.issue_token(visit, now=now)
        message = {"type": "otpqueue:verified", "token": token, "state": visit.page.state}
        return {"message": json.dumps(message), "onward": build_return_url(visit.page, token=token)}


@dataclass(frozen=True, kw_only=True)
class HostedPageForm(HostedPageBase):
    """`/verify/{link}/{action}`: the forms of the page. Each answers with a redirect back to the page."""

    page: HostedPage
    checks: ConcurrencyLimit

    def on_post(self, req: falcon.Request, resp: falcon.Response, link: str, action: str) -> None:
        """Do what the form asks for."""
        back = f"/verify/{link}{keep_language(req)}"
        self.answer(req, resp, lambda: self._submit(req, resp, link, action), back=back)

    def _submit(self, req: falcon.Request, resp: falcon.Response, link: str, action: str) -> None:
        now = clock.now()
        act = {"send": self._send, "code": self._check, "resend": self._resend, "again": self._start_again}
        if action not in act:
            raise PageNotAvailable
        form = layout.read_page_form(req)
        secret = self.cookies.read(req, link)
        visit = self.visits.act(link, browser=secret, address=read_address(req), now=now)
        if not self.cookies.is_form_token(req, link, visit.browser, form.get("token", "")):
            metrics.count(metrics.PAGES, "form_refused")
            log.warning("page_form_refused", page_id=str(visit.page.id), client_id=str(visit.page.client_id))
            raise PageFormRefused
        try:
            act[action](req, visit, form, now)
        except InvalidPhoneNumber as error:
            # Not a redirect: the number that was typed is not in a URL, and stays in the form.
            self.page.show_stage(req, resp, link, visit, now=now, error=error, typed=form)
        except OtpqueueError as error:
            redirect(req, resp, link, error=error)
        else:
            redirect(req, resp, link)

    def _send(self, req: falcon.Request, visit: PageVisit, form: dict[str, str], now: datetime) -> None:
        country = form.get("country", "").upper()
        self.visits.send_code(
            visit,
            phone_number=form.get("number"),
            country=country if country in COUNTRIES - {WORLD} else None,
            channel=_read_channel(form, visit),
            language=layout.choose_texts(req, visit).language,
            address=read_address(req),
            now=now,
        )

    def _check(self, req: falcon.Request, visit: PageVisit, form: dict[str, str], now: datetime) -> None:
        code = parse_code(form.get("code", ""))
        if code is None:
            raise CodeNotReadable
        with self.checks.slot():
            self.visits.check_code(visit, code, address=read_address(req), now=now)

    def _resend(self, _req: falcon.Request, visit: PageVisit, form: dict[str, str], now: datetime) -> None:
        self.visits.resend_code(visit, channel=_read_channel(form, visit), now=now)

    def _start_again(
        self, _req: falcon.Request, visit: PageVisit, _form: dict[str, str], now: datetime
    ) -> None:
        self.visits.start_again(visit, now=now)


class CodeNotReadable(OtpqueueError):
    """The code does not have six digits."""

    code = "code_format"
    status = 422


@dataclass(frozen=True, kw_only=True)
class HostedPageState(HostedPageBase):
    """`/verify/{link}/state`: for the script, which shows changes without reloading the page."""

    def on_get(self, req: falcon.Request, resp: falcon.Response, link: str) -> None:
        """Answer with the stage and the text that describes it. An error ends the script's polling."""
        try:
            visit = self.resume(req, link, now=clock.now())
        except Unavailable as error:
            resp.status = error.status
            resp.text = "{}"
            return
        except OtpqueueError as error:
            resp.status = error.status
            resp.text = json.dumps({"stage": "gone"})
            return
        texts = layout.choose_texts(req, visit)
        found = {"stage": visit.stage.value, "text": ""}
        if visit.request is not None:
            described = _describe_request(visit.request, texts, now=clock.now())
            found |= {"text": described["text"], "sends": described["sends"]}
        resp.text = json.dumps(found)


def read_address(req: falcon.Request) -> str | None:
    """Return the address of the person's browser, None if it is unknown."""
    address = req.context.peer.address
    return str(address) if address else None


def _read_channel(form: dict[str, str], visit: PageVisit) -> Channel:
    given = form.get("channel")
    return Channel(given) if given in {one.value for one in Channel} else visit.page.channel


def _read_error(req: falcon.Request, stage: PageStage) -> tuple[str, int | None] | None:
    """Return the code and the wait of the error in the URL, which a form's redirect put there."""
    code, wait = req.get_param("error"), req.get_param("wait") or ""
    if not code or (stage is PageStage.ENDED and code in _SHOWN_BY_STAGE):
        return None
    known = code if code in list_error_codes("en") else "unknown"
    return known, int(wait) if wait.isascii() and wait.isdecimal() and len(wait) <= 6 else None


def _describe_request(request: OtpRequest, texts: PageTexts, *, now: datetime) -> dict[str, Any]:
    number = request.phone_number or ""
    ready_at = request.resend_after
    wait_s = max(0, math.ceil((ready_at - now).total_seconds())) if ready_at else 0
    is_pending = request.resend is Resend.PENDING or request.send_state is not SendState.IDLE
    return {
        "number": number,
        "text": texts(_choose_text(request), number=number),
        "sends": request.sends,
        "checks_left": texts.count("checks_left", request.checks_left),
        "resend": "pending" if is_pending else "none" if request.sends >= MAX_SENDS else "possible",
        "wait_s": wait_s,
    }


def _choose_text(request: OtpRequest) -> str:
    status = request.status
    if status is Status.QUEUED:
        return "sending"
    if status is Status.VERIFIED:
        return "verified"
    if request.is_final:
        return _ENDED.get(status, "ended_cancelled")
    if status is Status.UNDELIVERED:
        return "undelivered"
    if status is Status.DELIVERED:
        return "delivered"
    newest = request.resend_channel if request.resend is Resend.SENT else None
    return "sent_voice" if (newest or request.channel) is Channel.VOICE else "sent_sms"
