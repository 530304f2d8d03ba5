"""Who may see a page: the session's cookie, the key behind it, and where a visitor wanted to go."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import falcon

from otpqueue.console.sessions import IDLE, Session, Sessions
from otpqueue.domain.errors import LimitExceeded, MissingScope, OtpqueueError, Unauthenticated
from otpqueue.logs import get_logger
from otpqueue.operations.log_in import LogIn
from otpqueue.store.clients import ApiKey

log = get_logger(__name__)

HOME = "/console"
LOG_IN = "/console/log-in"
REFRESH_HEADER = "X-Console-Refresh"
"""What our script sends with a page that nobody asked for."""

_NAME = "otpqueue_console"
_INSIDE = re.compile(r"/console(?:[/?][!-~]*)?")
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_KEY = 200
_LONGEST_PLACE = 2000


class LogInFirst(Exception):
    """Nobody is logged in."""


class FormRefused(OtpqueueError):
    """This form is not of this session, or too old. Nothing was done: go back, reload the page, try again."""

    code = "form_refused"


@dataclass(frozen=True, kw_only=True)
class Operator:
    """Who looks at a page."""

    key: ApiKey
    session: Session

    @property
    def name(self) -> str:
        """The operator for records: the prefix of the key, which tells it from others and opens nothing."""
        return f"console {self.key.prefix}"


@dataclass(frozen=True, kw_only=True)
class Door:
    """Lets operators in, by the cookie of their session."""

    log_in: LogIn
    sessions: Sessions
    https_required: bool

    def session(self, req: falcon.Request, *, now: datetime) -> Session:
        """Return the session of a call, by its cookie alone. Raises LogInFirst."""
        session = self._session(req, now)
        if session is None or session.key_id is None:
            raise LogInFirst
        return session

    def enter(
        self, req: falcon.Request, resp: falcon.Response, session: Session, *, now: datetime
    ) -> Operator:
        """Return who calls in a session.

        The key is looked up with every page: a session ends with its key. Raises LogInFirst,
        DatabaseUnavailable.
        """
        if session.key_id is None:
            raise LogInFirst
        try:
            key = self.log_in.again(session.key_id, now=now)
        except (Unauthenticated, MissingScope):
            self._forget(req, resp)
            raise LogInFirst from None
        if not req.get_header(REFRESH_HEADER):
            used = session.used(now)
            if used is not session:
                self._keep(req, resp, used)
        return Operator(key=key, session=session)

    def visitor(self, req: falcon.Request, resp: falcon.Response, *, now: datetime) -> Session:
        """Return the session of who is about to log in: a fresh one unless there is one."""
        session = self._session(req, now)
        if session is None or session.key_id is not None:
            session = Session.new(now)
            self._keep(req, resp, session)
        return session

    def check_form(self, req: falcon.Request, session: Session | None, token: str) -> None:
        """Raise FormRefused unless a form came from a page of ours that this session was shown."""
        # Browsers say where a form stood. It is no more than a second look: not every one does.
        site = req.get_header("Sec-Fetch-Site") or "same-origin"
        if site != "same-origin" or session is None or not self.sessions.is_form_of(session, token):
            raise FormRefused

    def waiting(self, req: falcon.Request, *, now: datetime) -> Session | None:
        """Return the session that a log-in form must be of."""
        session = self._session(req, now)
        return session if session and session.key_id is None else None

    def knows(self, api_key: str) -> bool:
        """Return whether a key is an operator's, as far as that can be said without asking Postgres."""
        return 0 < len(api_key) <= _LONGEST_KEY and self.log_in.is_known(api_key)

    def open(self, req: falcon.Request, resp: falcon.Response, api_key: str, *, now: datetime) -> None:
        """Begin a session for the holder of a key.

        Raises Unauthenticated, MissingScope, LimitExceeded, DatabaseUnavailable.
        """
        address = req.context.peer.address
        try:
            if not api_key or len(api_key) > _LONGEST_KEY:
                raise Unauthenticated
            key = self.log_in(api_key, address=str(address) if address else None, now=now)
        except (Unauthenticated, MissingScope, LimitExceeded) as error:
            log.warning("console_login_refused", reason=error.code, peer=req.context.peer.network)
            raise
        # A session of its own: who knew the visitor's does not know this one.
        self._keep(req, resp, Session.new(now, key_id=key.id))
        log.info("console_login", prefix=key.prefix, client=key.client_name, peer=req.context.peer.network)

    def close(self, req: falcon.Request, resp: falcon.Response, operator: Operator) -> None:
        """End a session in this browser."""
        self._forget(req, resp)
        log.info("console_logout", prefix=operator.key.prefix, client=operator.key.client_name)

    def token(self, session: Session) -> str:
        """Return what a form of this session brings along."""
        return self.sessions.form_token(session)

    def _session(self, req: falcon.Request, now: datetime) -> Session | None:
        # Another host of the same domain can set a cookie of the same name where there is no HTTPS.
        given = req.get_cookie_values(self._cookie(req)) or []
        read = (self.sessions.read(text, now=now) for text in given[:4])
        return next((session for session in read if session is not None), None)

    def _keep(self, req: falcon.Request, resp: falcon.Response, session: Session) -> None:
        self._set(req, resp, self.sessions.sign(session), expires=session.seen + IDLE)

    def _forget(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._set(req, resp, "", expires=_LONG_AGO)

    def _set(self, req: falcon.Request, resp: falcon.Response, text: str, *, expires: datetime) -> None:
        resp.set_cookie(
            self._cookie(req),
            text,
            expires=expires,
            path="/",
            secure=self._by_https(req),
            http_only=True,
            same_site="Strict",
        )

    def _cookie(self, req: falcon.Request) -> str:
        # The prefix makes browsers refuse one that came without HTTPS or from another host.
        return f"__Host-{_NAME}" if self._by_https(req) else _NAME

    def _by_https(self, req: falcon.Request) -> bool:
        return self.https_required or bool(req.context.peer.https)


def inside(place: str | None) -> str:
    """Return a path of the console as it was asked for, HOME for everything else: nobody is led elsewhere."""
    if place is None or len(place) > _LONGEST_PLACE or not _INSIDE.fullmatch(place):
        return HOME
    path = place.partition("?")[0]
    strange = "//" in path or "\\" in place or ".." in path or path.startswith(LOG_IN)
    return HOME if strange else place


def log_in_from(place: str) -> str:
    """Return where to log in, so that one is led to `place` after it."""
    place = inside(place)
    return LOG_IN if place == HOME else f"{LOG_IN}?next={quote(place, safe='')}"
