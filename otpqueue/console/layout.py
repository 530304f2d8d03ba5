"""The layout that all pages share: authentication, templates, security headers and error pages."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

import falcon

from otpqueue import clock
from otpqueue.console.authentication import (
    HOME,
    ConsoleAuthentication,
    FormRefused,
    LoginRequired,
    Operator,
    login_url,
)
from otpqueue.console.documentation_links import link_mentions
from otpqueue.console.forms import _check_field, read_form
from otpqueue.console.rendering import load_templates
from otpqueue.domain.audit import acting_as
from otpqueue.domain.errors import (
    AlertNotFound,
    DatabaseUnavailable,
    InvalidRequest,
    MissingScope,
    OtpqueueError,
    RequestNotFound,
    TooBusy,
    Unavailable,
)
from otpqueue.operations.banner import Banner
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_STATUS: dict[type[OtpqueueError], int] = {
    RequestNotFound: 404,
    AlertNotFound: 404,
    InvalidRequest: 400,
    FormRefused: 403,
    MissingScope: 403,
    Unavailable: 503,
}


@dataclass(kw_only=True)
class PageContext:
    """One call of a logged-in operator."""

    req: falcon.Request
    resp: falcon.Response
    now: datetime
    operator: Operator
    layout: PageLayout
    form: dict[str, str] = field(default_factory=dict)
    """The fields of the form, after its token was checked."""

    def query(self, name: str) -> str | None:
        """Return a query parameter, None if it is missing or blank. Raises InvalidRequest."""
        given = self.req.get_param(name)
        return _check_field(name, given).strip() or None if given else None

    @cached_property
    def token(self) -> str:
        """The token that forms of the page must carry."""
        return self.layout.authentication.token(self.operator.session)

    def show(self, template: str, **values: Any) -> None:
        """Render a template as the answer."""
        banner = self.layout.read_banner()
        self.layout.render(
            self.resp,
            template,
            now=self.now,
            operator=self.operator,
            token=self.token,
            banner=banner,
            here=self.here,
            **values,
        )

    @property
    def here(self) -> str:
        """The URL of the page, to reload it."""
        return self.req.relative_uri

    def go(self, place: str) -> None:
        """Redirect to another page, as after every form: reloading that page repeats nothing."""
        redirect(self.resp, place)


ShowPage = Callable[[PageContext], None]


class RequestSlots(Protocol):
    """A concurrency limit."""

    def slot(self) -> AbstractContextManager[None]:
        """Occupy a slot for the duration of the block. Raises TooBusy when none is free."""


@dataclass(frozen=True, kw_only=True)
class PageLayout:
    """Answers every call to the console with a page, an error page or a redirect."""

    authentication: ConsoleAuthentication
    places: RequestSlots
    """The request slots for pages."""
    log_in_places: RequestSlots
    """The request slots for logins."""
    read_banner: Callable[[], Banner]
    redis_answers: Callable[[], bool]
    deployment: str = "otpqueue"
    """The name of the deployment, in titles and on top of every page."""

    def respond(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        show: ShowPage,
        *,
        back: str | None = None,
        for_readers: bool = False,
    ) -> None:
        """Authenticate a call, check the form of a POST, and let `show` answer.

        Without a session the answer is a redirect to the login page, which leads to the requested page after
        the login, or to `back`, the page of the form. An operator with the scope `read` alone may send only
        forms that are `for_readers`.
        """
        now = clock.now()
        try:
            session = self.authentication.session(req, now=now)
            with self.places.slot():
                operator = self.authentication.authenticate(req, resp, session, now=now)
                page = PageContext(req=req, resp=resp, now=now, operator=operator, layout=self)
                if req.method == "POST":
                    page.form = read_form(req)
                    self.authentication.check_form(req, operator.session, page.form.pop("token", ""))
                    if not (for_readers or operator.may_act):
                        raise MissingScope("This action needs an API key with the scope admin.")
                with acting_as(self.authentication.get_actor(req, resp, operator.key, operator.session)):
                    show(page)
        except LoginRequired:
            wanted = req.relative_uri if req.method == "GET" else back or HOME
            self._ask_to_log_in(req, resp, wanted)
        except OtpqueueError as error:
            self.show_error(resp, error)
        except Exception as error:
            log.error("internal_error", exc_info=error)  # noqa: TRY400 - as the API does
            self.render(resp, "error.html", status=500, title="Internal error", said=None, errors=())

    def _ask_to_log_in(self, req: falcon.Request, resp: falcon.Response, wanted: str) -> None:
        if req.get_header("Sec-Fetch-Site") == "cross-site" and req.method == "GET":
            # Browsers do not send a SameSite=Strict cookie with a link from another site. They send it with a
            # redirect by a page of the console.
            self.render(resp, "redirecting.html", wanted=wanted)
        else:
            redirect(resp, login_url(wanted))

    def show_error(self, resp: falcon.Response, error: OtpqueueError) -> None:
        """Answer with an error page."""
        if isinstance(error, DatabaseUnavailable):
            self.render(resp, "unreachable.html", status=503, redis=self.redis_answers())
            return
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400)
        if error.retry_after_s is not None:
            resp.set_header("Retry-After", str(error.retry_after_s))
        titles = {404: "Not found", 403: "Not allowed", 503: "Too busy", 400: "Invalid request"}
        errors = error.errors if isinstance(error, InvalidRequest) else ()
        said = "There is no page at this URL." if status == 404 else error.detail
        if isinstance(error, TooBusy):
            said = "All request slots of the console are in use. Try again in a moment."
        self.render(resp, "error.html", status=status, title=titles[status], said=said, errors=errors)

    def not_found(self, req: falcon.Request, resp: falcon.Response, **_: Any) -> None:  # noqa: ARG002
        """Answer a call to an unknown path."""
        self.show_error(resp, RequestNotFound())

    def refuse(self, resp: falcon.Response, error: Exception) -> None:
        """Answer a call that the server rejects before it reaches a page."""
        if getattr(error, "code", None) == "https_required":
            said = "Use https://. Replace any API key that was entered over plain HTTP."
            self.render(resp, "error.html", status=403, title="HTTPS required", said=said, errors=())
        elif isinstance(error, OtpqueueError):
            self.show_error(resp, error)
        else:
            said = str(getattr(error, "detail", None) or "The HTTP request is not valid.")
            self.render(resp, "error.html", status=400, title="Invalid request", said=said, errors=())

    def render(
        self,
        resp: falcon.Response,
        template: str,
        *,
        status: int = 200,
        now: datetime | None = None,
        **values: Any,
    ) -> None:
        """Render a template with escaping and a Content-Security-Policy that allows our own files alone."""
        resp.status = status
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", POLICY)
        values = {
            "operator": None,
            "banner": None,
            "here": HOME,
            "deployment": self.deployment,
            "token": "",
            "now": now or clock.now(),
        } | values
        resp.text = link_mentions(load_templates().get_template(template).render(values))


def redirect(resp: falcon.Response, place: str) -> None:
    """Redirect to a path of the console with 303."""
    resp.status = 303
    resp.set_header("Location", place)


@dataclass(frozen=True, kw_only=True)
class ConsolePage:
    """The base of the resource of a page."""

    layout: PageLayout

    def refuse(self, resp: falcon.Response, error: Exception) -> None:
        """Answer a call that is rejected before it reaches the resource."""
        self.layout.refuse(resp, error)
