"""Settings of the keys that protect phone numbers and look-ups."""

from __future__ import annotations

import base64
import binascii
from typing import ClassVar

from pydantic import SecretStr

from otpqueue.settings.fields import ALL, Secret, SettingsSubject, setting


class KeySettings(SettingsSubject):
    """Sealing keys and look-up keys."""

    TITLE: ClassVar[str] = "Keys"
    USED_BY: ClassVar[str] = ALL

    seal_keys: Secret = setting(
        None,
        "OTPQUEUE_SEAL_KEYS",
        "keys that encrypt phone numbers, a list of `id:base64`; the first one encrypts "
        "([key rotation](privacy.md#rotate-the-sealing-key))",
        example="",
        example_comment="An id and a key from `openssl rand -base64 32`: k1:...",
    )
    hash_key: Secret = setting(
        None,
        "OTPQUEUE_HASH_KEY",
        "key of the look-up hashes, 32 bytes in base64; two keys during "
        "[key rotation](privacy.md#rotate-the-look-up-key)",
        example="",
        example_comment="A key from `openssl rand -base64 32`",
    )

    def find_problems(self) -> list[str]:
        """Return a line for each set of keys that cannot be decoded."""
        problems = super().find_problems()
        for name, secret, decode in (
            ("OTPQUEUE_SEAL_KEYS", self.seal_keys, decode_sealing_keys),
            ("OTPQUEUE_HASH_KEY", self.hash_key, decode_hashing_keys),
        ):
            if secret is None:
                continue  # only the commands that need the key reject that
            try:
                decode(secret)
            except ValueError as problem:
                problems.append(f"{name} {problem}")
        return problems


def decode_sealing_keys(secret: SecretStr) -> dict[str, bytes]:
    """Return the sealing keys by id, the one that encrypts first.

    Raises ValueError for a key that is not `id:base64` of 32 bytes.
    """
    keys: dict[str, bytes] = {}
    for pair in secret.get_secret_value().split(","):
        key_id, colon, encoded = pair.strip().partition(":")
        if not colon or not key_id.isalnum() or key_id in keys:
            raise ValueError("must be `id:base64` pairs with different ids, e.g. k1:AAAA...=")
        keys[key_id] = _decode_key(encoded)
    return keys


def decode_hashing_keys(secret: SecretStr) -> list[bytes]:
    """Return the look-up keys, the one for new hashes first.

    Raises ValueError unless there are one or two keys of 32 bytes.
    """
    keys = [_decode_key(encoded.strip()) for encoded in secret.get_secret_value().split(",")]
    if len(keys) > 2 or len(set(keys)) < len(keys):
        raise ValueError("must be one key, or two different keys separated by a comma")
    return keys


def _decode_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    if len(key) != 32:
        raise ValueError("must be 32 bytes, for example from `openssl rand -base64 32`")
    return key
