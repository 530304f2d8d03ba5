"""Sessions: who is logged in, in a signed cookie and nowhere else; and what shows that a form is ours.

The cookie holds the id of the API key that opened the session, never the key. It is signed, not sealed: there
is nothing secret in it. A key made from OTPQUEUE_HASH_KEY for this purpose alone signs it, so that every
process knows the sessions of all others, and a restart ends none.
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
"""A session ends so long after the log-in, whatever happens in it."""

IDLE = timedelta(hours=1)
"""It ends when nobody has opened a page for so long. A page that refreshes itself is nobody."""

REISSUED_AFTER = timedelta(minutes=1)
"""The cookie is made anew no more often than that."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One browser's session."""

    key_id: UUID | None = None
    """Of the key it was opened with; None before the log-in."""
    began: datetime
    seen: datetime
    """When a page was opened last, as far as the cookie knows."""
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    """What its forms are bound to."""

    @classmethod
    def new(cls, now: datetime, *, key_id: UUID | None = None) -> Session:
        """Return a session that begins now."""
        return cls(key_id=key_id, began=now, seen=now)

    def lives(self, now: datetime) -> bool:
        """Return whether it has not ended by itself."""
        return now < self.began + LASTS and now < self.seen + IDLE

    def used(self, now: datetime) -> Session:
        """Return it as it is when a page has been opened now: another one if its cookie must be made anew."""
        return replace(self, seen=now) if now >= self.seen + REISSUED_AFTER else self


class Sessions:
    """Signs sessions and reads them again. `keys` are the signing keys, the one in use first."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        # The library signs with the last of several.
        secret_keys = list(reversed(keys))

        def serializer(salt: str) -> URLSafeSerializer:
            signing = {"digest_method": sha256, "key_derivation": "hmac"}
            return URLSafeSerializer(secret_keys, salt=salt, signer_kwargs=signing)

        self._cookies, self._forms = serializer("otpqueue console session"), serializer("otpqueue form")

    def sign(self, session: Session) -> str:
        """Return the session as the text of a cookie."""
        key_id = session.key_id.hex if session.key_id else None
        return _text(
            self._cookies.dumps([key_id, _seconds(session.began), _seconds(session.seen), session.nonce])
        )

    def read(self, text: str, *, now: datetime) -> Session | None:
        """Return the session of a cookie, None if it is not one of ours or has ended."""
        try:
            key_id, began, seen, nonce = self._cookies.loads(text)
        except BadData:
            return None
        session = Session(
            key_id=UUID(key_id) if key_id else None, began=_moment(began), seen=_moment(seen), nonce=nonce
        )
        return session if session.lives(now) else None

    def form_token(self, session: Session) -> str:
        """Return what a form of this session brings along."""
        return _text(self._forms.dumps(session.nonce))

    def is_form_of(self, session: Session, token: str) -> bool:
        """Return whether a token was given to a form of this session."""
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
