"""Look for secrets in what has been written: in clear, in hexadecimal, in Base64.

Nothing here imports otpqueue: black-box tests use it too.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Any

import psycopg
import redis

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")
_NUMBER = re.compile(rb"447700900\d{3}|343437373030393030(3\d){3}")
"""A number of the tests, and as a column of bytes shows it."""
_API_KEY = re.compile(rb"oq_[a-z2-9]{8}_[\w-]{43}|6f715f([67][0-9a-f]|3[2-9]){8}5f")
_NO_WORD = rb"[0-9A-Za-z]"


@dataclass
class Secrets:
    """What must not be found, by a name to tell of it."""

    texts: dict[str, str] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)
    """Six digits occur by chance within longer words: a code counts only where it stands alone."""

    def add_number(self, e164: str) -> None:
        """Add a phone number: without its country code it is a secret too."""
        self.texts[f"number ..{e164[-2:]}"] = e164.removeprefix("+")[2:]

    def found_in(self, written: bytes) -> list[str]:
        """Return the names of the secrets in what was written."""
        layers = [written, *_unpacked(written)]
        found = {
            name
            for name, text in self.texts.items()
            for form in (text.encode(), text.encode().hex().encode())
            if any(form in layer for layer in layers)
        }
        for code in self.codes:
            alone = re.compile(rb"(?<!%b)%b(?!%b)" % (_NO_WORD, code.encode(), _NO_WORD))
            if any(alone.search(layer) for layer in layers):
                found.add(f"code {code}")
        return sorted(found)


def every_row(database_url: str) -> bytes:
    """Return all tables of a database, as `pg_dump` writes them."""
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        return copy_rows(connection)


def copy_rows(connection: psycopg.Connection[Any]) -> bytes:
    """Return all tables of the database that a connection is to."""
    written = b""
    tables = connection.execute(
        "SELECT relname FROM pg_class "
        "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_relation_size(oid) > 0"
    )
    for (table,) in tables.fetchall():
        with connection.cursor().copy(f'COPY "{table}" TO STDOUT') as copy:
            written += b"".join(bytes(piece) for piece in copy)
    return written


def every_key(redis_url: str) -> bytes:
    """Return all that a Redis keeps: names and serialized values."""
    with redis.Redis.from_url(redis_url) as client:
        return dump_keys(client)


def dump_keys(client: redis.Redis) -> bytes:
    """Return the names and the serialized values of all keys."""
    return b"\n".join(key + b" " + (client.dump(key) or b"") for key in client.scan_iter(count=1000))


def in_clear(written: bytes) -> list[bytes]:
    """Return the tests' numbers and API keys that stand in what was written."""
    return [
        found.group()
        for layer in (written, *_unpacked(written))
        for pattern in (_NUMBER, _API_KEY)
        for found in pattern.finditer(layer)
    ]


def _unpacked(written: bytes) -> list[bytes]:
    """Return what is written in Base64: Celery's messages hold their bodies so, whole."""
    unpacked = []
    for packed in set(_BASE64.findall(written.replace(b"-", b"+").replace(b"_", b"/"))):
        try:
            inner = base64.b64decode(
                packed + b"=" * (-len(packed) % 4), altchars=b"-_" if b"_" in packed else None
            )
        except ValueError:
            continue
        unpacked.append(inner)
    return unpacked
