"""API key authentication: who makes a call, and with which scopes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import falcon

from otpqueue import clock
from otpqueue.domain.errors import CredentialFault, MissingScope, Unauthenticated
from otpqueue.operations.access.cache import AccessCache
from otpqueue.operations.access.keys import ApiKeys
from otpqueue.operations.admission.key_rate import CallRate, KeyRate
from otpqueue.telemetry import logs

_KEY = re.compile(r"[A-Za-z0-9._~+/-]{1,200}=*")
"""A bearer token: RFC 6750, section 2.1."""


@dataclass(slots=True, kw_only=True)
class Caller:
    """The client that makes a call, and the rate that the call counts against."""

    client_id: UUID
    client: str
    """Name of the client."""
    scopes: frozenset[str]
    rate: CallRate
    key_id: UUID | None = None
    """None for a caller without an API key."""
    key_prefix: str = ""
    client_ip: str | None = None
    """Address of a caller without an API key, who is the end user. None for other callers, who send it."""

    @property
    def keyless(self) -> bool:
        """Whether the caller has no API key."""
        return self.rate.keyless

    def check_scopes(self, accepted: tuple[str, ...]) -> None:
        """Raise MissingScope unless the caller has one of the accepted scopes."""
        if not self.scopes.intersection(accepted):
            raise MissingScope(f"This call needs an API key with the scope {' or '.join(accepted)}.")


class Authentication(Protocol):
    """Identifies callers."""

    def authenticate(self, req: falcon.Request) -> Caller | None:
        """Return the caller of a call, None where it needs no client.

        Raises Unauthenticated, DatabaseUnavailable.
        """


def read_bearer(authorization: str | None) -> str:
    """Return the text after `Bearer` of an Authorization header. Raises Unauthenticated."""
    if not authorization:
        raise Unauthenticated(CredentialFault.NO_CREDENTIALS)
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated(CredentialFault.WRONG_SCHEME)
    return credentials.strip()


@dataclass(frozen=True, kw_only=True)
class ApiKeyAuthentication:
    """Identifies callers by their API key."""

    keys: ApiKeys
    access: AccessCache
    rate: KeyRate

    def authenticate(self, req: falcon.Request) -> Caller:
        """Return the caller of a call. Raises Unauthenticated, DatabaseUnavailable."""
        api_key = read_bearer(req.get_header("Authorization"))
        if not _KEY.fullmatch(api_key):
            raise Unauthenticated(CredentialFault.MALFORMED_KEY)
        key = self.keys.recognise(api_key, access=self.access, now=clock.now())
        logs.bind_fields(client=key.client_name)
        return Caller(
            client_id=key.client_id,
            client=key.client_name,
            scopes=key.scopes,
            rate=self.rate.of(key.id, key.settings),
            key_id=key.id,
            key_prefix=key.prefix,
        )
