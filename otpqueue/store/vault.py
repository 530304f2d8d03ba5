"""Sealed columns and keyed hashes: what of a person is stored, and how.

A number is sealed with AES-256-GCM; its row's id is the associated data, so that a sealed number copied to
another row does not open. So are the secrets that webhooks are signed with.

Numbers, sessions, addresses, API keys and idempotency keys are found again by HMAC-SHA256; each kind has a
label of its own, so that equal texts of two kinds do not have equal hashes.

A hash begins with the mark of its key, so that whatever table it stands in tells which key it was made with.
While a key is being replaced there are two: what is stored is hashed with the first, and looked up by both.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from uuid import UUID

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from otpqueue.domain import phone

_NONCE_BYTES = 12
"""NIST SP 800-38D: a 96-bit nonce."""

MOST_SEALS = 2**32
"""Texts that one key may seal with random nonces (NIST SP 800-38D, section 8.3).

Past that two equal nonces are too likely, which would reveal what they sealed and let others forge.
"""

_MARK_BYTES = 2
_HASH_BYTES = 32


class _Hasher:
    """Hashes with one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.mark = self._mac(b"mark")[:_MARK_BYTES]

    def hash(self, label: str, text: str) -> bytes:
        """Return the key's mark and, of what follows it, 240 bits: as good as none can be guessed."""
        return (self.mark + self._mac(f"{label}:{text}".encode()))[:_HASH_BYTES]

    def derive(self, purpose: str) -> bytes:
        """Return a key for one purpose; no hash that is stored begins or ends like it."""
        return self._mac(f"derive:{purpose}".encode())

    def _mac(self, text: bytes) -> bytes:
        return hmac.new(self._key, text, hashlib.sha256).digest()


class Vault:
    """Seals and hashes with keys that it keeps to itself."""

    def __init__(
        self,
        *,
        sealing_keys: Mapping[str, bytes],
        hashing_key: bytes,
        other_hashing_keys: Sequence[bytes] = (),
    ) -> None:
        """Keep the keys. Raises ValueError when two look-up keys cannot be told apart by their marks."""
        self._seals = {key_id: AESGCM(key) for key_id, key in sealing_keys.items()}
        self._current = next(iter(sealing_keys))
        self._sealed = 0
        self._sealed_lock = threading.Lock()
        self._hashers = [_Hasher(key) for key in (hashing_key, *other_hashing_keys)]
        if len(set(self.marks)) < len(self._hashers):
            raise ValueError("two of the keys look alike; make another one")

    @property
    def seal_key_ids(self) -> tuple[str, ...]:
        """The ids of the sealing keys, that of the one that seals first."""
        return tuple(self._seals)

    @property
    def marks(self) -> tuple[bytes, ...]:
        """What the hashes under each look-up key begin with, those that are stored now first."""
        return tuple(hasher.mark for hasher in self._hashers)

    def seal(self, text: str, *, row_id: UUID) -> tuple[str, bytes]:
        """Return the id of the key used and the sealed text, a number or a webhook's secrets."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        with self._sealed_lock:
            self._sealed += 1
        sealed = self._seals[self._current].encrypt(nonce, text.encode(), row_id.bytes)
        return self._current, nonce + sealed

    def take_seals(self) -> int:
        """Return how many texts were sealed since the last call: what a process adds to its key's count."""
        with self._sealed_lock:
            sealed, self._sealed = self._sealed, 0
        return sealed

    def put_back_seals(self, seals: int) -> None:
        """Count seals again that could not be stored."""
        with self._sealed_lock:
            self._sealed += seals

    def unseal(self, sealed: bytes, *, key_id: str, row_id: UUID) -> str:
        """Return the text that was sealed.

        Raises KeyError when the key is not among ours, InvalidTag when the bytes are not this row's.
        """
        nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        return self._seals[key_id].decrypt(nonce, body, row_id.bytes).decode()

    def number_hash(self, e164: str) -> bytes:
        """Return the hash to store of a phone number."""
        return self.number_hashes(e164)[0]

    def number_hashes(self, e164: str) -> list[bytes]:
        """Return the hashes to look a phone number up by, the one to store first.

        Two forms of one handset's number have the same: neither limits nor blocks can be evaded by the other.
        """
        return self._hashes("number", phone.normalize_mobile(e164))

    def stored_hashes(self, forms: Iterable[str]) -> list[bytes]:
        """Return the hashes under which a number with these `phone.list_stored_forms` may be stored."""
        return list(dict.fromkeys(one for form in forms for one in self.number_hashes(form)))

    def session_hash(self, session_id: str | None) -> bytes | None:
        """Return the hash to store of a session id, None for none."""
        hashes = self.session_hashes(session_id)
        return None if hashes is None else hashes[0]

    def session_hashes(self, session_id: str | None) -> list[bytes] | None:
        """Return the hashes to look a session id up by, None for none."""
        return None if session_id is None else self._hashes("session", session_id)

    def address_hash(self, address: str | None) -> bytes | None:
        """Return the hash to store of an IP address, None for none."""
        hashes = self.address_hashes(address)
        return None if hashes is None else hashes[0]

    def address_hashes(self, address: str | None) -> list[bytes] | None:
        """Return the hashes to look an IP address up by, None for none.

        Of IPv6 it is the network's (/64), which is the least that a subscriber gets (RFC 6177): who has one
        has addresses without end.
        """
        return None if address is None else self._hashes("address", _subscriber(address))

    def key_hash(self, api_key: str) -> bytes:
        """Return the hash to store of an API key."""
        return self.key_hashes(api_key)[0]

    def key_hashes(self, api_key: str) -> list[bytes]:
        """Return the hashes to look an API key up by, the one to store first."""
        return self._hashes("key", api_key)

    def idempotency_hashes(self, call: str, key: str) -> list[bytes]:
        """Return the hashes to look up an idempotency key by that came with `call`, one line."""
        return self._hashes("idempotency", f"{call}\n{key}")

    def body_hashes(self, body: str) -> list[bytes]:
        """Return the fingerprints of a call's body, the one to store first."""
        return self._hashes("body", body)

    def cursor_hash(self, position: str) -> bytes:
        """Return what shows that a position in a list was given out by us."""
        return self._hashes("cursor", position)[0]

    def limit_hash(self, *parts: bytes, nth: int = 0) -> str:
        """Return what a count in Redis is found by: of these parts, and of no use anywhere else.

        It is made with the first key, or the `nth` after it: that with which the parts were hashed.
        """
        return self._hashers[nth].hash("limit", "/".join(part.hex() for part in parts)).hex()[:32]

    def keys_for(self, purpose: str) -> list[bytes]:
        """Return keys of 32 bytes made from ours for one purpose alone, the one to sign with first."""
        return [hasher.derive(purpose) for hasher in self._hashers]

    def _hashes(self, label: str, text: str) -> list[bytes]:
        return [hasher.hash(label, text) for hasher in self._hashers]


def _subscriber(address: str) -> str:
    parsed = ip_address(address)
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, 64), strict=False))
