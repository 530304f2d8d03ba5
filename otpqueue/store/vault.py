"""Sealed columns and keyed hashes: what of a person is stored, and how.

A number is sealed with AES-256-GCM; its row's id is the associated data, so that a sealed number copied to
another row does not open. Numbers, sessions, addresses, API keys and idempotency keys are found again by
HMAC-SHA256; each kind has a label of its own, so that equal texts of two kinds do not have equal hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address, ip_network
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
"""NIST SP 800-38D: a 96-bit nonce."""


class Vault:
    """Seals and hashes with keys that it keeps to itself."""

    def __init__(self, *, sealing_keys: Mapping[str, bytes], hashing_key: bytes) -> None:
        self._seals = {key_id: AESGCM(key) for key_id, key in sealing_keys.items()}
        self._current = next(iter(sealing_keys))
        self._hashing_key = hashing_key

    def seal(self, number: str, *, row_id: UUID) -> tuple[str, bytes]:
        """Return the id of the key used and the sealed number."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._seals[self._current].encrypt(nonce, number.encode(), row_id.bytes)
        return self._current, nonce + sealed

    def unseal(self, sealed: bytes, *, key_id: str, row_id: UUID) -> str:
        """Return the number.

        Raises KeyError when the key is not among ours, InvalidTag when the bytes are not this row's.
        """
        nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        return self._seals[key_id].decrypt(nonce, body, row_id.bytes).decode()

    def number_hash(self, e164: str) -> bytes:
        """Return the look-up hash of a phone number."""
        return self._hash("number", e164)

    def session_hash(self, session_id: str | None) -> bytes | None:
        """Return the look-up hash of a session id, None for none."""
        return None if session_id is None else self._hash("session", session_id)

    def address_hash(self, address: str | None) -> bytes | None:
        """Return the look-up hash of an IP address, None for none.

        Of IPv6 it is the network's (/64), which is the least that a subscriber gets (RFC 6177): who has one
        has addresses without end.
        """
        return None if address is None else self._hash("address", _subscriber(address))

    def key_hash(self, api_key: str) -> bytes:
        """Return the look-up hash of an API key."""
        return self._hash("key", api_key)

    def idempotency_hash(self, call: str, key: str) -> bytes:
        """Return the look-up hash of an idempotency key that came with `call`, one line."""
        return self._hash("idempotency", f"{call}\n{key}")

    def body_hash(self, body: str) -> bytes:
        """Return the fingerprint of a call's body."""
        return self._hash("body", body)

    def cursor_hash(self, position: str) -> bytes:
        """Return what shows that a position in a list was given out by us."""
        return self._hash("cursor", position)

    def limit_hash(self, *parts: bytes) -> str:
        """Return what a count in Redis is found by: of these parts, and of no use anywhere else."""
        return self._hash("limit", "/".join(part.hex() for part in parts)).hex()[:32]

    def _hash(self, label: str, text: str) -> bytes:
        return hmac.new(self._hashing_key, f"{label}:{text}".encode(), hashlib.sha256).digest()


def _subscriber(address: str) -> str:
    parsed = ip_address(address)
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, 64), strict=False))
