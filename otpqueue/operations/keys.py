"""API keys: made and shown once, stored as keyed hashes, looked up, revoked."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine

from otpqueue.domain.errors import FieldError, InvalidRequest, Unauthenticated
from otpqueue.store import clients
from otpqueue.store.clients import ApiKey
from otpqueue.store.engine import connection
from otpqueue.store.vault import Vault

SCOPES = frozenset({"send", "verify", "admin"})
_LONGEST_NAME = 64
_PREFIX_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def new_key() -> str:
    """Return a fresh key: `oq_`, a prefix to recognise it by, and 256 random bits."""
    prefix = "".join(secrets.choice(_PREFIX_ALPHABET) for _ in range(8))
    return f"oq_{prefix}_{secrets.token_urlsafe(32)}"


def prefix_of(api_key: str) -> str:
    """Return the part of a key that may be shown."""
    return "_".join(api_key.split("_")[:2])


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Manages API keys."""

    engine: Engine
    vault: Vault

    def create(self, *, client: str, scopes: frozenset[str], now: datetime, key: str | None = None) -> str:
        """Store a key (a fresh one unless given) for a client, made if there is none; return the key.

        Raises InvalidRequest for a scope that does not exist or an odd name, DatabaseUnavailable.
        """
        if not scopes or not scopes <= SCOPES:
            raise InvalidRequest([FieldError("scopes", f"must be among {', '.join(sorted(SCOPES))}")])
        if not client.strip() or len(client) > _LONGEST_NAME or not client.isprintable():
            raise InvalidRequest([FieldError("client", f"must be 1 to {_LONGEST_NAME} printable characters")])
        key = key or new_key()
        with connection(self.engine) as conn:
            clients.add_key(
                conn,
                client_id=clients.ensure_client(conn, client, now=now),
                prefix=prefix_of(key),
                key_hash=self.vault.key_hash(key),
                scopes=scopes,
                now=now,
            )
        return key

    def list(self) -> list[ApiKey]:
        """Return all keys, oldest first."""
        with connection(self.engine) as conn:
            return clients.list_keys(conn)

    def revoke(self, prefix: str, *, now: datetime) -> int:
        """Revoke the keys with this prefix; return how many that were."""
        with connection(self.engine) as conn:
            return clients.revoke_key(conn, prefix, now=now)

    def client_id(self, name: str, *, now: datetime) -> UUID:
        """Return the id of the client with this name, made if there is none."""
        with connection(self.engine) as conn:
            return clients.find_client(conn, name) or clients.ensure_client(conn, name, now=now)

    def authenticate(self, api_key: str) -> ApiKey:
        """Return what is known of a key.

        Raises Unauthenticated when it is unknown or revoked.
        """
        hashes = self.vault.key_hashes(api_key)
        with connection(self.engine) as conn:
            found = clients.find_key(conn, hashes)
            if found and len(hashes) > 1:
                clients.rehash_key(conn, found.id, hashes[0])
        if found is None:
            raise Unauthenticated
        return found
