"""Look for secrets in what a running instance has written: in clear, in hexadecimal, in Base64."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")
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
