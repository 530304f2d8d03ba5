"""Sealed columns and keyed hashes: how personal data is stored.

A number is sealed with AES-256-GCM. Its row's id is the associated data, so a sealed number that is copied to
another row does not open. Signing secrets of webhooks are sealed in the same way.

Numbers, sessions, addresses, API keys and idempotency keys are looked up by HMAC-SHA256. Each kind has a
label of its own, so equal texts of two kinds have different hashes.

A hash begins with the mark of its key, so every stored hash shows which key made it. During a look-up key
rotation there are two keys: new hashes use the first, look-ups use both.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from otpqueue.domain import phone

_NONCE_BYTES = 12
"""NIST SP 800-38D: a 96-bit nonce."""

MOST_SEALS = 2**32
"""How many texts one key may seal with random nonces (NIST SP 800-38D, section 8.3).

Beyond that, equal nonces are too likely. They would reveal the plaintexts and allow forgeries.
"""

_MARK_BYTES = 2
_HASH_BYTES = 32


class _Hasher:
    """Hashes with one key."""

    def __init__(self, key: bytes) -> None:
        self._keyed = HMAC(key, SHA256())
        self.mark = self._mac(b"mark")[:_MARK_BYTES]

    def hash(self, label: str, text: str) -> bytes:
        """Return the key's mark followed by 240 bits of the MAC, which is infeasible to guess."""
        return (self.mark + self._mac(f"{label}:{text}".encode()))[:_HASH_BYTES]

    def derive(self, purpose: str) -> bytes:
        """Return a key for one purpose. No stored hash contains a part of it."""
        return self._mac(f"derive:{purpose}".encode())

    def _mac(self, text: bytes) -> bytes:
        # A quarter of the cost of `hmac.digest`, which derives the inner and outer key again.
        mac = self._keyed.copy()
        mac.update(text)
        return mac.finalize()


class Vault:
    """Seals and hashes with its keys, which it does not expose."""

    def __init__(
        self,
        *,
        sealing_keys: Mapping[str, bytes],
        hashing_key: bytes,
        other_hashing_keys: Sequence[bytes] = (),
    ) -> None:
        """Store the keys. Raises ValueError when two look-up keys have the same mark."""
        self._seals = {key_id: AESGCM(key) for key_id, key in sealing_keys.items()}
        self._current = next(iter(sealing_keys))
        self._sealed = 0
        self._sealed_lock = threading.Lock()
        self._hashers = [_Hasher(key) for key in (hashing_key, *other_hashing_keys)]
        if len(set(self.marks)) < len(self._hashers):
            raise ValueError("two of the keys look alike; make another one")

    @property
    def seal_key_ids(self) -> tuple[str, ...]:
        """The ids of the sealing keys, the primary key first."""
        return tuple(self._seals)

    @property
    def marks(self) -> tuple[bytes, ...]:
        """The marks of the look-up keys, the primary key first."""
        return tuple(hasher.mark for hasher in self._hashers)

    def seal(self, text: str, *, row_id: UUID) -> tuple[str, bytes]:
        """Return the id of the key used and the sealed text, a number or a webhook's secrets."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        with self._sealed_lock:
            self._sealed += 1
        sealed = self._seals[self._current].encrypt(nonce, text.encode(), row_id.bytes)
        return self._current, nonce + sealed

    def take_seals(self) -> int:
        """Return how many texts were sealed since the last call, to add them to the key's count."""
        with self._sealed_lock:
            sealed, self._sealed = self._sealed, 0
        return sealed

    def put_back_seals(self, seals: int) -> None:
        """Add back seals that could not be stored."""
        with self._sealed_lock:
            self._sealed += seals

    def unseal(self, sealed: bytes, *, key_id: str, row_id: UUID) -> str:
        """Return the text that was sealed.

        Raises KeyError when the key is unknown, InvalidTag when the bytes are not this row's.
        """
        nonce, body = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        return self._seals[key_id].decrypt(nonce, body, row_id.bytes).decode()

    def unseal_masked_number(self, sealed: bytes, *, key_id: str, row_id: UUID) -> str | None:
        """Return the masked number that was sealed; None if its key is missing."""
        try:
            return phone.mask_number(self.unseal(sealed, key_id=key_id, row_id=row_id))
        except (KeyError, InvalidTag):
            return None

    def number_hash(self, e164: str) -> bytes:
        """Return the hash to store of a phone number."""
        return self.number_hashes(e164)[0]

    def number_hashes(self, e164: str) -> list[bytes]:
        """Return the hashes to look a phone number up by, the one to store first.

        All forms of one subscriber's number have the same hashes, so no form evades limits or blocks.
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

        For IPv6 it is the hash of the network (/64), the smallest allocation to a subscriber (RFC 6177): one
        subscriber has practically unlimited addresses.
        """
        return None if address is None else self._hashes("address", _subscriber(address))

    def key_hash(self, api_key: str) -> bytes:
        """Return the hash to store of an API key."""
        return self.key_hashes(api_key)[0]

    def key_hashes(self, api_key: str) -> list[bytes]:
        """Return the hashes to look an API key up by, the one to store first."""
        return self._hashes("key", api_key)

    def idempotency_hashes(self, call: str, key: str) -> list[bytes]:
        """Return the look-up hashes of an idempotency key that came with `call`, one line."""
        return self._hashes("idempotency", f"{call}\n{key}")

    def page_hashes(self, kind: str, secret: str) -> list[bytes]:
        """Return the hashes to look a secret of a verification page up by, the one to store first.

        `kind` is `link`, `browser` or `token`.
        """
        return self._hashes(f"page {kind}", secret)

    def body_hashes(self, body: str) -> list[bytes]:
        """Return the fingerprints of a call's body, the one to store first."""
        return self._hashes("body", body)

    def cursor_hash(self, position: str) -> bytes:
        """Return the signature of a position in a list, which proves that we issued it."""
        return self._hashes("cursor", position)[0]

    def limit_hash(self, *parts: bytes, nth: int = 0) -> str:
        """Return the key of a counter in Redis, made of these parts. It has no other use.

        It is made with the first look-up key, or the `nth` after it: the key that made the parts.
        """
        return self._hashers[nth].hash("limit", "/".join(part.hex() for part in parts)).hex()[:32]

    def keys_for(self, purpose: str) -> list[bytes]:
        """Return keys of 32 bytes derived for one purpose, the one to sign with first."""
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
