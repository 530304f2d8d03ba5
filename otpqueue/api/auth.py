"""Who calls: API keys and their scopes, and the guide's keyless calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import falcon

from otpqueue import clock
from otpqueue.api.http.peers import Peer
from otpqueue.domain.errors import MissingScope, Unauthenticated
from otpqueue.operations.access.cache import AccessCache
from otpqueue.operations.access.keys import ApiKeys
from otpqueue.operations.admission.limits import CallRate, KeyRate
from otpqueue.store.clients import ApiKey
from otpqueue.telemetry import logs

_LONGEST_KEY = 200


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who makes a call that counts against the rate of their API key together with its limits."""

    client_id: UUID
    rate: CallRate
    client_ip: str | None = None
    """The address of a caller without a key, who is the end user; None where the caller says it."""

    @property
    def keyless(self) -> bool:
        """Whether the caller has no API key, and is a stranger."""
        return self.rate.keyless


@dataclass(frozen=True, kw_only=True)
class Door:
    """Lets callers in."""

    keys: ApiKeys
    access: AccessCache
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
        key = self._authenticate(req)
        self.rate(key.id, key.settings)
        _check_scopes(key, scopes)
        return key

    @contextmanager
    def entering(self, req: falcon.Request, scope: str) -> Iterator[Caller]:
        """Yield the caller of a call that is counted with its limits, in one script.

        A call that fails before that is counted when the block ends. Raises as `enter` does.
        """
        key = self._authenticate(req)
        with _counted_at_last(self.rate.of(key.id, key.settings)) as rate:
            _check_scopes(key, (scope,))
            yield Caller(client_id=key.client_id, rate=rate)

    @contextmanager
    def entering_guide(self, req: falcon.Request, scope: str, *, now: datetime) -> Iterator[Caller]:
        """Yield the caller of one of the guide's endpoints, who may come without a key."""
        if self.guide_client is None or req.get_header("Authorization") is not None:
            with self.entering(req, scope) as caller:
                yield caller
            return
        logs.bind(client=self.guide_client)
        client_id = self.access.find_client(self.guide_client)
        if client_id is None:
            client_id = self.keys.client_id(self.guide_client, now=now)
        peer: Peer = req.context.peer
        address = str(peer.address) if peer.address else None
        own = self.access.client_settings(client_id)
        of_call = self.rate.of_keyless(client_id, own, address=address, network=peer.network)
        with _counted_at_last(of_call) as rate:
            client_ip = address if self.rate.counts_addresses else None
            yield Caller(client_id=client_id, rate=rate, client_ip=client_ip)

    def _authenticate(self, req: falcon.Request) -> ApiKey:
        word, _, api_key = (req.get_header("Authorization") or "").partition(" ")
        api_key = api_key.strip()
        if word.lower() != "bearer" or not api_key or len(api_key) > _LONGEST_KEY:
            raise Unauthenticated
        key = self.keys.recognise(api_key, access=self.access, now=clock.now())
        logs.bind(client=key.client_name)
        return key


def _check_scopes(key: ApiKey, scopes: tuple[str, ...]) -> None:
    if not key.scopes.intersection(scopes):
        raise MissingScope(f"This call needs an API key with the scope {' or '.join(scopes)}.")


@contextmanager
def _counted_at_last(rate: CallRate) -> Iterator[CallRate]:
    """Count the rate of a call when the block ends, unless it has been: its refusal hides any other."""
    try:
        yield rate
    finally:
        rate.count()
