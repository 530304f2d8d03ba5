"""The keys of a development instance, kept in its data folder."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path

from otpqueue.embedded.home import write_private


def load_or_create_keys(path: Path) -> dict[str, str]:
    """Return the keys of the file `path`. Missing keys are generated and stored."""
    from otpqueue.operations.access.keys import new_key  # noqa: PLC0415 - slow to import

    kept: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    fresh = {
        "seal_keys": "dev:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "hash_key": base64.b64encode(secrets.token_bytes(32)).decode(),
        "api_key": new_key(),
        "admin_api_key": new_key(),
        "infobip_api_key": secrets.token_hex(16),
        "receipts_password": secrets.token_hex(16),
    }
    # A file of another version may lack some.
    if fresh.keys() - kept.keys():
        kept = fresh | kept
        write_private(path, json.dumps(kept).encode())
    return kept
