"""Authentication of the guide's calls, which need no API key where OTPQUEUE_GUIDE_CLIENT is set."""

from __future__ import annotations

from dataclasses import dataclass

import falcon

from otpqueue import clock
from otpqueue.api.auth import ApiKeyAuthentication, Caller
from otpqueue.api.endpoints import API_KEY_ERRORS, Access
from otpqueue.api.http.peers import Peer
from otpqueue.telemetry import logs

GUIDE_ACCESS = Access(
    errors=API_KEY_ERRORS,
    security=({"apiKey": []}, {}),
    note="scope {scopes}, or no API key if OTPQUEUE_GUIDE_CLIENT is set",
)


@dataclass(frozen=True, kw_only=True)
class GuideAuthentication:
    """Identifies callers by their API key, and callers without one by their address."""

    api_keys: ApiKeyAuthentication
    client: str | None
    """Name of the client that calls without an API key count as; None if they are not accepted."""

    def authenticate(self, req: falcon.Request) -> Caller:
        """Return the caller of a call. Raises Unauthenticated, DatabaseUnavailable."""
        if self.client is None or req.get_header("Authorization") is not None:
            return self.api_keys.authenticate(req)
        logs.bind_fields(client=self.client)
        access, rate = self.api_keys.access, self.api_keys.rate
        client_id = access.find_client(self.client)
        if client_id is None:
            client_id = self.api_keys.keys.client_id(self.client, now=clock.now())
        peer: Peer = req.context.peer
        address = str(peer.address) if peer.address else None
        return Caller(
            client_id=client_id,
            client=self.client,
            scopes=frozenset({"send", "verify"}),
            rate=rate.of_keyless(
                client_id, access.client_settings(client_id), address=address, network=peer.network
            ),
            client_ip=address if rate.counts_addresses else None,
        )
