"""Console sessions, kept in a signed cookie and nowhere else, and form tokens against cross-site requests.

The cookie holds the id of the API key that opened the session, never the key. It is signed, not encrypted:
it holds no secret. The signing key is derived from OTPQUEUE_HASH_KEY, so every process accepts the sessions
of all others, and a restart ends none.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from itsdangerous import BadData, URLSafeSerializer

PURPOSE = "console sessions"

LASTS = timedelta(hours=12)
"""Maximum age of a session."""

IDLE = timedelta(hours=1)
"""Idle timeout. Automatic page refreshes do not extend it."""

REISSUED_AFTER = timedelta(minutes=1)
"""The cookie is re-signed at most this often."""


@dataclass(frozen=True, kw_only=True)
class ConsoleSession:
    """The session of one browser."""

    key_id: UUID | None = None
    """The API key it was opened with; None before the login."""
    began: datetime
    seen: datetime
    """When a page was last opened, to the precision of `REISSUED_AFTER`."""
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    """Binds form tokens to the session."""

    @classmethod
    def new(cls, now: datetime, *, key_id: UUID | None = None) -> ConsoleSession:
        """Return a new session."""
        return cls(key_id=key_id, began=now, seen=now)

    @property
    def short_name(self) -> str:
        """A short name of the session for the audit trail. It grants nothing."""
        return sha256(self.nonce.encode()).hexdigest()[:12]

    def is_valid(self, now: datetime) -> bool:
        """Return whether it has neither reached its maximum age nor its idle timeout."""
        return now < self.began + LASTS and now < self.seen + IDLE

    def used(self, now: datetime) -> ConsoleSession:
        """Return the session after a page was opened; another object if the cookie must be re-signed."""
        return replace(self, seen=now) if now >= self.seen + REISSUED_AFTER else self


class SessionSigner:
    """Signs and reads sessions. `keys` are the signing keys, the primary one first."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        # The library signs with the last of several.
        secret_keys = list(reversed(keys))

        def serializer(salt: str) -> URLSafeSerializer:
            signing = {"digest_method": sha256, "key_derivation": "hmac"}
            return URLSafeSerializer(secret_keys, salt=salt, signer_kwargs=signing)

        self._cookies, self._forms = serializer("otpqueue console session"), serializer("otpqueue form")

    def sign(self, session: ConsoleSession) -> str:
        """Return the session as the text of a cookie."""
        key_id = session.key_id.hex if session.key_id else None
        return _text(
            self._cookies.dumps([key_id, _seconds(session.began), _seconds(session.seen), session.nonce])
        )

    def read(self, text: str, *, now: datetime) -> ConsoleSession | None:
        """Return the session of a cookie, None if its signature is wrong or it has ended."""
        try:
            key_id, began, seen, nonce = self._cookies.loads(text)
        except BadData:
            return None
        session = ConsoleSession(
            key_id=UUID(key_id) if key_id else None, began=_moment(began), seen=_moment(seen), nonce=nonce
        )
        return session if session.is_valid(now) else None

    def form_token(self, session: ConsoleSession) -> str:
        """Return the token that forms of this session must carry."""
        return _text(self._forms.dumps(session.nonce))

    def is_form_token(self, session: ConsoleSession, token: str) -> bool:
        """Return whether a token belongs to this session."""
        try:
            nonce = str(self._forms.loads(token))
        except BadData:
            return False
        return hmac.compare_digest(nonce.encode(), session.nonce.encode())


def _text(signed: str | bytes) -> str:
    return signed if isinstance(signed, str) else signed.decode()


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(seconds: Any) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
