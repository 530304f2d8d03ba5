"""Console authentication: the session cookie, the API key it was opened with, and redirects after login."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

import falcon

from otpqueue.console.sessions import IDLE, ConsoleSession, SessionSigner
from otpqueue.domain.audit import AuditActor, AuditOutcome, AuditSurface, OperatorAction, acting_as
from otpqueue.domain.errors import (
    CredentialFault,
    DatabaseUnavailable,
    LimitExceeded,
    MissingScope,
    OtpqueueError,
    Unauthenticated,
)
from otpqueue.operations.access.console_login import ConsoleLogin
from otpqueue.operations.access.keys import prefix_of
from otpqueue.store.clients import ApiKey
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

HOME = "/console"
LOG_IN = "/console/log-in"
REFRESH_HEADER = "X-Console-Refresh"
"""The script sends this header with automatic refreshes, which do not extend a session."""

_NAME = "otpqueue_console"
_INSIDE = re.compile(r"/console(?:[/?][!-~]*)?")
_PREFIX = re.compile(r"oq_[a-z2-9]{8}")
"""What an API key begins with. Any other text may be a secret of another service."""

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_KEY = 200
_LONGEST_PLACE = 2000


class LoginRequired(Exception):
    """The call has no valid session."""


class FormRefused(OtpqueueError):
    """The form is too old or of another session. Nothing was changed. Go back, reload the page, try again."""

    code = "form_refused"


@dataclass(frozen=True, kw_only=True)
class Operator:
    """A logged-in person."""

    key: ApiKey
    session: ConsoleSession

    @property
    def may_act(self) -> bool:
        """Whether the operator may change anything. A key with the scope `read` alone may only look."""
        return "admin" in self.key.scopes

    @property
    def name(self) -> str:
        """The name for records: the prefix of the API key, which identifies the key and grants nothing."""
        return f"console {self.key.prefix}"


@dataclass(frozen=True, kw_only=True)
class ConsoleAuthentication:
    """Authenticates operators by their session cookie."""

    log_in: ConsoleLogin
    sessions: SessionSigner
    https_required: bool

    def session(self, req: falcon.Request, *, now: datetime) -> ConsoleSession:
        """Return the session of a call, by its cookie alone. Raises LoginRequired."""
        session = self._session(req, now)
        if session is None or session.key_id is None:
            raise LoginRequired
        return session

    def authenticate(
        self, req: falcon.Request, resp: falcon.Response, session: ConsoleSession, *, now: datetime
    ) -> Operator:
        """Return the operator of a session.

        The key is looked up with every page: a session ends with its key. Raises LoginRequired,
        DatabaseUnavailable.
        """
        if session.key_id is None:
            raise LoginRequired
        try:
            key = self.log_in.again(session.key_id, now=now)
        except (Unauthenticated, MissingScope):
            self._forget(req, resp)
            raise LoginRequired from None
        if not req.get_header(REFRESH_HEADER):
            used = session.used(now)
            if used is not session:
                self._keep(req, resp, used)
        return Operator(key=key, session=session)

    def visitor(self, req: falcon.Request, resp: falcon.Response, *, now: datetime) -> ConsoleSession:
        """Return the session before login, a new one if there is none."""
        session = self._session(req, now)
        if session is None or session.key_id is not None:
            session = ConsoleSession.new(now)
            self._keep(req, resp, session)
        return session

    def check_form(self, req: falcon.Request, session: ConsoleSession | None, token: str) -> None:
        """Raise FormRefused unless a page of this session contained the form."""
        # A second check only: not every browser sends this header.
        site = req.get_header("Sec-Fetch-Site") or "same-origin"
        if site != "same-origin" or session is None or not self.sessions.is_form_token(session, token):
            raise FormRefused

    def pending_session(self, req: falcon.Request, *, now: datetime) -> ConsoleSession | None:
        """Return the session before login that a login form must belong to, None if there is none."""
        session = self._session(req, now)
        return session if session and session.key_id is None else None

    def is_known_key(self, api_key: str) -> bool:
        """Return whether a key is known to be an operator's without a Postgres query."""
        return 0 < len(api_key) <= _LONGEST_KEY and self.log_in.is_known(api_key)

    def open(self, req: falcon.Request, resp: falcon.Response, api_key: str, *, now: datetime) -> None:
        """Open a session for an API key.

        Raises Unauthenticated, MissingScope, LimitExceeded, DatabaseUnavailable.
        """
        address = req.context.peer.address
        try:
            if not api_key:
                raise Unauthenticated(CredentialFault.NO_CREDENTIALS)
            if len(api_key) > _LONGEST_KEY:
                raise Unauthenticated(CredentialFault.MALFORMED_KEY)
            key = self.log_in(api_key, address=str(address) if address else None, now=now)
        except (Unauthenticated, MissingScope, LimitExceeded) as error:
            log.warning("console_login_refused", reason=error.code, peer=req.context.peer.network)
            # Refused logins past the limit are not recorded, so that a stranger cannot fill the audit trail.
            if not isinstance(error, LimitExceeded):
                self._record_refusal(req, resp, api_key, error)
            raise
        # A new session id at login prevents session fixation.
        session = ConsoleSession.new(now, key_id=key.id)
        with acting_as(self.get_actor(req, resp, key, session)):
            self.log_in.record(OperatorAction.CONSOLE_LOGIN, client_id=key.client_id, target=key.prefix)
        self._keep(req, resp, session)
        log.info("console_login", prefix=key.prefix, client=key.client_name, peer=req.context.peer.network)

    def close(self, req: falcon.Request, resp: falcon.Response, operator: Operator) -> None:
        """Delete the session cookie of this browser."""
        self.log_in.record(
            OperatorAction.CONSOLE_LOGOUT, client_id=operator.key.client_id, target=operator.key.prefix
        )
        self._forget(req, resp)
        log.info("console_logout", prefix=operator.key.prefix, client=operator.key.client_name)

    def get_actor(
        self, req: falcon.Request, resp: falcon.Response, key: ApiKey, session: ConsoleSession
    ) -> AuditActor:
        """Return the operator of a session as the audit trail names them."""
        return AuditActor(
            surface=AuditSurface.CONSOLE,
            name=key.prefix,
            key_id=key.id,
            session=session.short_name,
            peer=req.context.peer.network,
            call_id=resp.get_header("X-Request-Id"),
        )

    def _record_refusal(
        self, req: falcon.Request, resp: falcon.Response, api_key: str, error: OtpqueueError
    ) -> None:
        shown = prefix_of(api_key)
        actor = AuditActor(
            surface=AuditSurface.CONSOLE,
            name=shown if _PREFIX.fullmatch(shown) else "unknown",
            peer=req.context.peer.network,
            call_id=resp.get_header("X-Request-Id"),
        )
        try:
            with acting_as(actor):
                self.log_in.record(
                    OperatorAction.CONSOLE_LOGIN_REFUSED,
                    outcome=AuditOutcome.REFUSED,
                    details={"code": error.code},
                )
        except DatabaseUnavailable:
            # The login is refused in any case.
            log.warning("console_login_not_recorded", peer=req.context.peer.network)

    def token(self, session: ConsoleSession) -> str:
        """Return the token that forms of this session must carry."""
        return self.sessions.form_token(session)

    def _session(self, req: falcon.Request, now: datetime) -> ConsoleSession | None:
        # Without HTTPS another host of the same domain can set a cookie of the same name.
        given = req.get_cookie_values(self._cookie(req)) or []
        read = (self.sessions.read(text, now=now) for text in given[:4])
        return next((session for session in read if session is not None), None)

    def _keep(self, req: falcon.Request, resp: falcon.Response, session: ConsoleSession) -> None:
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
        # Browsers accept a cookie with this prefix only over HTTPS and from this host.
        return f"__Host-{_NAME}" if self._by_https(req) else _NAME

    def _by_https(self, req: falcon.Request) -> bool:
        return self.https_required or bool(req.context.peer.https)


def console_path(place: str | None) -> str:
    """Return `place` if it is a path of the console, else HOME. Prevents open redirects."""
    if place is None or len(place) > _LONGEST_PLACE or not _INSIDE.fullmatch(place):
        return HOME
    path = place.partition("?")[0]
    strange = "//" in path or "\\" in place or ".." in path or path.startswith(LOG_IN)
    return HOME if strange else place


def login_url(place: str) -> str:
    """Return the URL of the login page that redirects to `place` after the login."""
    place = console_path(place)
    return LOG_IN if place == HOME else f"{LOG_IN}?next={quote(place, safe='')}"
