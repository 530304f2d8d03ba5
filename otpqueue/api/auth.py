"""Who calls: API keys and their scopes, and the guide's keyless calls."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import falcon

from otpqueue import clock, logs
from otpqueue.domain.errors import MissingScope, Unauthenticated
from otpqueue.operations.clients import Clients
from otpqueue.operations.keys import Keys
from otpqueue.operations.limits import KeyRate
from otpqueue.store.clients import ApiKey

_LONGEST_KEY = 200


@dataclass(frozen=True, kw_only=True)
class Door:
    """Lets callers in."""

    keys: Keys
    clients: Clients
    rate: KeyRate
    guide_client: str | None
    """The client that keyless calls of the guide's two endpoints count as."""

    def enter(self, req: falcon.Request, *scopes: str) -> UUID:
        """Return the caller's client id; its key must have at least one of `scopes`.

        Raises Unauthenticated, MissingScope, LimitExceeded, DatabaseUnavailable.
        """
        return self.admit(req, *scopes).client_id

    def admit(self, req: falcon.Request, *scopes: str) -> ApiKey:
        """Return what is known of the caller's key, for calls that note who made them; else as `enter`."""
        word, _, api_key = (req.get_header("Authorization") or "").partition(" ")
        api_key = api_key.strip()
        if word.lower() != "bearer" or not api_key or len(api_key) > _LONGEST_KEY:
            raise Unauthenticated
        key = self.keys.authenticate(api_key, now=clock.now())
        logs.bind(client=key.client_name)
        self.rate(key.id, key.settings)
        if not key.scopes.intersection(scopes):
            raise MissingScope(f"This call needs an API key with the scope {' or '.join(scopes)}.")
        return key

    def enter_guide(self, req: falcon.Request, scope: str, *, now: datetime) -> UUID:
        """Return the client id of a call to one of the guide's endpoints, which may come without a key."""
        if self.guide_client is None or req.get_header("Authorization") is not None:
            return self.enter(req, scope)
        logs.bind(client=self.guide_client)
        client_id = self.keys.client_id(self.guide_client, now=now)
        self.rate(client_id, self.clients.settings_of(client_id))
        return client_id
