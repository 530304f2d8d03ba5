"""What every page has in common: who may see it, how it is answered, what it says when something is down."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, cached_property
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import parse_qsl

import falcon
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from otpqueue import clock
from otpqueue.console import words
from otpqueue.console.door import HOME, Door, FormRefused, LogInFirst, Operator, log_in_from
from otpqueue.console.findings import resuming
from otpqueue.domain.alerts import Rule, bound
from otpqueue.domain.errors import (
    AlertNotFound,
    DatabaseUnavailable,
    FieldError,
    InvalidRequest,
    OtpqueueError,
    RequestNotFound,
    TooBusy,
    Unavailable,
)
from otpqueue.domain.typed import control_character, named
from otpqueue.logs import get_logger
from otpqueue.operations.standing import TellStanding

log = get_logger(__name__)

ASSETS = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_PAGES = (
    ("Now", "/console"),
    ("Requests", "/console/requests"),
    ("Alerts", "/console/alerts"),
    ("Countries", "/console/countries"),
    ("Settings", "/console/settings"),
)
_FIELDS_AT_MOST = 20
_FIELD = re.compile(r"[a-z_]{1,20}")
_LINE_ENDS = re.compile(r"[\t\r\n]+")
_STATUS: dict[type[OtpqueueError], int] = {
    RequestNotFound: 404,
    AlertNotFound: 404,
    InvalidRequest: 400,
    FormRefused: 403,
    Unavailable: 503,
}


@cache
def asset(name: str) -> bytes:
    """Return a file that the pages need, from this package."""
    return (files("otpqueue.console") / "assets" / name).read_bytes()


@cache
def version() -> str:
    """Return what changes with the assets, so that browsers may keep them."""
    return hashlib.sha256(b"".join(map(asset, ASSETS))).hexdigest()[:12]


def _bound(rule: Rule) -> str:
    return bound(rule, rule.threshold)


def _code_marks(text: str) -> Markup:
    """Return escaped HTML in which `marked` words stand in <code>."""
    parts = str(escape(text)).split("`")
    marked = (f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
    return Markup("".join(marked))  # noqa: S704 - every part was escaped above


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("otpqueue.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"pages": _PAGES, "version": version(), "bound": _bound, "resuming": resuming}
    environment.filters |= {
        "number": words.number,
        "share": words.share,
        "ms": words.ms,
        "span": words.span,
        "clock_time": words.clock_time,
        "ago": words.ago,
        "offset": words.offset,
        "money": words.money,
        "iso": words.iso,
        "code": _code_marks,
    }
    return environment


@dataclass(kw_only=True)
class Visit:
    """One call of one operator."""

    req: falcon.Request
    resp: falcon.Response
    now: datetime
    operator: Operator
    house: House
    form: dict[str, str] = field(default_factory=dict)
    """What was sent, after its token was looked at."""

    def query(self, name: str) -> str | None:
        """Return what stands in the query under a name, None for nothing. Raises InvalidRequest."""
        given = self.req.get_param(name)
        return _checked(name, given).strip() or None if given else None

    @cached_property
    def token(self) -> str:
        """What the page's forms bring along."""
        return self.house.door.token(self.operator.session)

    def show(self, template: str, **values: Any) -> None:
        """Answer with a page."""
        standing = self.house.standing()
        self.house.render(
            self.resp,
            template,
            now=self.now,
            operator=self.operator,
            token=self.token,
            standing=standing,
            here=self.here,
            **values,
        )

    @property
    def here(self) -> str:
        """The page's own address, to load it anew."""
        return self.req.relative_uri

    def go(self, place: str) -> None:
        """Lead on to another page, as after every form: loading that one anew does nothing twice."""
        redirect(self.resp, place)


Shown = Callable[[Visit], None]


class Places(Protocol):
    """How many calls may be in progress."""

    def place(self) -> AbstractContextManager[None]:
        """Hold a place. Raises TooBusy when all are taken."""


@dataclass(frozen=True, kw_only=True)
class House:
    """Answers every call to the console, with a page or with where to find it."""

    door: Door
    places: Places
    """Those that operators have for their pages."""
    log_in_places: Places
    """Those that anybody has who tries to log in."""
    standing: TellStanding
    redis_answers: Callable[[], bool]

    def receive(
        self, req: falcon.Request, resp: falcon.Response, shown: Shown, *, back: str | None = None
    ) -> None:
        """Have an operator's call answered by `shown`.

        The form of a POST has been looked at when it is. Who is not logged in is led there first, and from
        there to the page that was asked for, or `back` to the page that the form was on.
        """
        now = clock.now()
        try:
            session = self.door.session(req, now=now)
            with self.places.place():
                operator = self.door.enter(req, resp, session, now=now)
                visit = Visit(req=req, resp=resp, now=now, operator=operator, house=self)
                if req.method == "POST":
                    visit.form = read_form(req)
                    self.door.check_form(req, operator.session, visit.form.pop("token", ""))
                shown(visit)
        except LogInFirst:
            wanted = req.relative_uri if req.method == "GET" else back or HOME
            self._ask_to_log_in(req, resp, wanted)
        except OtpqueueError as error:
            self.explain(resp, error)
        except Exception as error:
            log.error("internal_error", exc_info=error)  # noqa: TRY400 - as the API does
            self.render(resp, "wrong.html", status=500, title="This is our fault", said=None, errors=())

    def _ask_to_log_in(self, req: falcon.Request, resp: falcon.Response, wanted: str) -> None:
        if req.get_header("Sec-Fetch-Site") == "cross-site" and req.method == "GET":
            # Browsers keep a strict cookie back from who follows a link on another site, and bring it along
            # when our own page leads to the same place.
            self.render(resp, "arriving.html", wanted=wanted)
        else:
            redirect(resp, log_in_from(wanted))

    def explain(self, resp: falcon.Response, error: OtpqueueError) -> None:
        """Answer with what is wrong, in words for people."""
        if isinstance(error, DatabaseUnavailable):
            self.render(resp, "unreachable.html", status=503, redis=self.redis_answers())
            return
        status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400)
        if error.retry_after_s is not None:
            resp.set_header("Retry-After", str(error.retry_after_s))
        titles = {404: "There is no such thing", 403: "Not done", 503: "Too busy", 400: "That cannot be"}
        errors = error.errors if isinstance(error, InvalidRequest) else ()
        said = "There is nothing at this address." if status == 404 else error.detail
        if isinstance(error, TooBusy):
            said = "The console answers few calls at a time, and these places are taken. Try again."
        self.render(resp, "wrong.html", status=status, title=titles[status], said=said, errors=errors)

    def nothing_here(self, req: falcon.Request, resp: falcon.Response, **_: Any) -> None:  # noqa: ARG002
        """Answer a call for a page that there is not."""
        self.explain(resp, RequestNotFound())

    def refuse(self, resp: falcon.Response, error: Exception) -> None:
        """Answer a call that the server refuses before it gets to a page."""
        if isinstance(error, OtpqueueError):
            self.explain(resp, error)
        elif getattr(error, "code", None) == "https_required":
            said = "Change the address to https://, and replace a key that was typed in here."
            self.render(resp, "wrong.html", status=403, title="Come by HTTPS", said=said, errors=())
        else:
            said = str(getattr(error, "detail", None) or "The call itself is not valid.")
            self.render(resp, "wrong.html", status=400, title="That cannot be", said=said, errors=())

    def render(
        self,
        resp: falcon.Response,
        template: str,
        *,
        status: int = 200,
        now: datetime | None = None,
        **values: Any,
    ) -> None:
        """Answer with a template, escaped, under a policy that runs and loads only what is ours."""
        resp.status = status
        resp.content_type = falcon.MEDIA_HTML
        resp.set_header("Content-Security-Policy", POLICY)
        shown = {"operator": None, "standing": None, "here": HOME, "token": "", "now": now or clock.now()}
        resp.text = _templates().get_template(template).render(shown | values)


def read_form(req: falcon.Request) -> dict[str, str]:
    """Return the fields of a form. Raises InvalidRequest for what is none."""
    content_type = (req.content_type or "").partition(";")[0].strip().lower()
    if content_type != falcon.MEDIA_URLENCODED:
        raise InvalidRequest([], "This is not a form of ours.")
    try:
        body = req.bounded_stream.read().decode()
        fields = parse_qsl(body, keep_blank_values=True, max_num_fields=_FIELDS_AT_MOST, errors="strict")
    except ValueError:
        raise InvalidRequest([], "This is not a form of ours.") from None
    return {name: _checked(name, value) for name, value in fields}


def _checked(name: str, text: str) -> str:
    """Return a field's text, on one line. Raises InvalidRequest for what no field of ours may hold."""
    field = name if _FIELD.fullmatch(name) else "a field"
    text = _LINE_ENDS.sub(" ", text)
    character = control_character(text)
    if character is not None:
        said = f"must not hold control characters, as {named(character)} is"
        raise InvalidRequest([FieldError(field, said)])
    return text


def redirect(resp: falcon.Response, place: str) -> None:
    """Lead to a place within the console, by GET."""
    resp.status = 303
    resp.set_header("Location", place)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What the resource of a page is."""

    house: House

    def refuse(self, resp: falcon.Response, error: Exception) -> None:
        """Answer a call that is refused before it gets here."""
        self.house.refuse(resp, error)
