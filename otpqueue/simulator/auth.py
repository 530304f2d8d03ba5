"""Authorization of calls of the simulated API.

Schemes and scopes: Infobip OpenAPI 3.210.0. All four schemes are accepted on every path; scopes
are checked only for keys that were configured with some.
"""

import base64
import binascii
import hmac
import secrets
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Final

from otpqueue.simulator.errors import ApiError
from otpqueue.simulator.options import Options

_SEND: Final = frozenset({"2fa:manage", "2fa:pin:send"})
# The document lists these for resending e-mail, without 2fa:manage.
_RESEND_EMAIL: Final = frozenset({"2fa:pin:manage", "2fa:pin:send"})
_MANAGE: Final = frozenset({"2fa:manage"})
_SUBSCRIPTIONS: Final = frozenset({"subscriptions:manage"})
# INFERRED from how the scopes of other channels are named.
_SMS_REPORTS: Final = frozenset({"sms:manage", "sms:logs:read", "sms:message:send"})


@dataclass(slots=True)
class Tokens:
    """Issued tokens; times are epoch seconds of the simulator's clock."""

    sessions: dict[str, float] = field(default_factory=dict)
    access: dict[str, float] = field(default_factory=dict)

    def open_session(self, now: float) -> str:
        """Return a new session token; its idle time starts now."""
        token = secrets.token_hex(32)
        self.sessions[token] = now
        return token

    def grant_access(self, expires_at: float) -> str:
        """Return a new OAuth2 access token."""
        token = secrets.token_urlsafe(48)
        self.access[token] = expires_at
        return token

    def use_session(self, token: str, now: float, idle_s: float) -> bool:
        """Return whether a session is valid, and if so restart its idle time."""
        used_at = self.sessions.get(token)
        if used_at is None:
            return False
        if now - used_at >= idle_s:
            del self.sessions[token]
            return False
        self.sessions[token] = now
        return True

    def has_access(self, token: str, now: float) -> bool:
        """Return whether an access token is valid."""
        return now < self.access.get(token, 0.0)


def authorize(header: str | None, path: str, options: Options, tokens: Tokens, now: float) -> None:
    """Check an Authorization header for a path.

    Raises `ApiError`: 401 when it is missing or wrong, 403 when its key lacks a scope. `App KEY` is the
    form for an API key. A key behind `Bearer`, which is for OAuth2 access tokens, gets 401.
    """
    scheme, _, credentials = (header or "").partition(" ")
    if scheme == "App":
        if _known(credentials, options.api_keys):
            return
        scopes = _scopes_of(credentials, options.scoped_keys)
        if scopes is not None:
            _check_scopes(scopes, path, options)
            return
    elif (
        (scheme == "Basic" and _known(_basic(credentials), options.basic_users))
        or (scheme == "IBSSO" and tokens.use_session(credentials, now, options.session_idle_s))
        or (scheme == "Bearer" and tokens.has_access(credentials, now))
    ):
        return
    raise make_unauthorized_error(options)


def make_unauthorized_error(options: Options) -> ApiError:
    """Return the 401 error."""
    return ApiError(401, text=options.unauthorized_text)


def is_user(user: str, password: str, options: Options) -> bool:
    """Return whether the credentials may open a session."""
    return _known(f"{user}:{password}", options.basic_users)


def is_client(client_id: str, secret: str, options: Options) -> bool:
    """Return whether the credentials of an OAuth2 client are valid."""
    return _known(f"{client_id}:{secret}", options.oauth_clients)


def required_scopes(path: str) -> Set[str]:
    """Return the scopes that admit a path; a key needs one of them. Unknown paths need none."""
    parts = path.split("/")
    if path.startswith("/2fa/2/applications"):
        return _SEND if parts[-1] == "verifications" else _MANAGE
    if path.startswith("/2fa/2/pin"):
        return _RESEND_EMAIL if path.endswith("/resend/email") else _SEND
    if path.startswith("/subscriptions/"):
        return _SUBSCRIPTIONS
    return _SMS_REPORTS if path.startswith("/sms/") else frozenset()


def _check_scopes(scopes: Set[str], path: str, options: Options) -> None:
    required = required_scopes(path)
    if required and not required & scopes:
        message_id = options.forbidden_message_id
        raise ApiError(403, message_id, "Unauthorized access" if message_id == "UNAUTHORIZED" else None)


def _scopes_of(key: str, scoped_keys: Iterable[str]) -> Set[str] | None:
    for entry in scoped_keys:
        known, _, scopes = entry.partition("=")
        if hmac.compare_digest(known.encode(), key.encode()):
            return frozenset(scopes.replace(" ", "").split(","))
    return None


def _known(candidate: str, known: Iterable[str]) -> bool:
    given = candidate.encode()
    return any(hmac.compare_digest(given, entry.encode()) for entry in known)


def _basic(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
