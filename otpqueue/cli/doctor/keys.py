"""Checks the sealing keys and the look-up keys, from which the console's session key is derived."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from otpqueue.cli.doctor.findings import FindingDraft, report_failure, report_ok, report_warning
from otpqueue.cli.doctor.stores import require_database
from otpqueue.operations.privacy.rotate_seal import refusal_to_start
from otpqueue.settings import SettingsError
from otpqueue.store.engine import connection
from otpqueue.store.key_samples import compare_keys
from otpqueue.store.privacy import seal_counts
from otpqueue.store.vault import MOST_SEALS
from otpqueue.wiring import Parts

_NEW_KEY = "Make a key with `openssl rand -base64 32`"


def check_keys(parts: Parts) -> Iterator[FindingDraft]:
    """Check that the keys are set, have 32 random bytes each, and differ from each other."""
    keys: list[bytes] = []
    loaders: dict[str, Callable[[], list[bytes]]] = {
        "OTPQUEUE_SEAL_KEYS": lambda: list(parts.settings.sealing_keys().values()),
        "OTPQUEUE_HASH_KEY": parts.settings.hashing_keys,
    }
    for name, load in loaders.items():
        try:
            found = load()
        except SettingsError as error:
            yield report_failure(error.problems[0], f"{_NEW_KEY}, and give all processes the same.")
            continue
        yield report_ok(f"{name}: {len(found)} of 32 bytes")
        if any(len(set(key)) < 8 for key in found):
            yield report_failure(f"{name} has a key that is not random", f"{_NEW_KEY}, and rotate to it.")
        keys += found
    if len(set(keys)) < len(keys):
        yield report_warning(
            "OTPQUEUE_SEAL_KEYS and OTPQUEUE_HASH_KEY have a key in common", f"{_NEW_KEY} for each."
        )


def check_stored_keys(parts: Parts) -> Iterator[FindingDraft]:
    """Check that the stored numbers were written with these keys, so that all processes have the same."""
    require_database(parts)
    why = refusal_to_start(parts.rotate_seal)
    if why:
        yield report_failure(why, "Restore the keys, see docs/privacy.md.")
    with connection(parts.engine) as conn:
        compared = compare_keys(conn, parts.vault)
        seals = seal_counts.read_counts(conn)
    if compared.sealed_otherwise:
        yield report_failure(
            f"{compared.sealed_otherwise} of the newest {compared.compared} requests have a number that "
            "OTPQUEUE_SEAL_KEYS does not open, although the key's id is the same",
            "Give all processes and this shell the same OTPQUEUE_SEAL_KEYS.",
        )
    if compared.hashed_otherwise:
        yield report_failure(
            f"{compared.hashed_otherwise} of the newest {compared.compared} requests were stored with "
            "another OTPQUEUE_HASH_KEY",
            "Give all processes and this shell the same OTPQUEUE_HASH_KEY.",
        )
    if not (why or compared.sealed_otherwise or compared.hashed_otherwise):
        yield report_ok(f"the newest {compared.compared} requests were stored with these keys")
    primary = parts.vault.seal_key_ids[0]
    if seals.get(primary, 0) >= MOST_SEALS / 2:
        yield report_warning(
            f"{primary} has sealed more than half of the texts that one key may seal",
            "Put a new key before it in OTPQUEUE_SEAL_KEYS, see docs/privacy.md.",
        )
