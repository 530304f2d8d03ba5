"""The provider's judgement of one code, as a value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from otpqueue.domain.typed import LONGEST, in_ascii

CODE_LENGTH = 6
"""Digits of a code: NIST SP 800-63B asks for at least six decimal digits."""

_CODE = re.compile(r"[0-9](?:[ -]*[0-9]){5}")


class CheckVerdict(StrEnum):
    """What the provider said of a code."""

    CORRECT = "correct"
    WRONG = "wrong"
    EXPIRED = "expired"
    """Its lifetime at the provider is over, or the provider does not know it any more."""
    EXHAUSTED = "exhausted"
    """The provider takes no more checks of it."""
    UNJUDGED = "unjudged"
    """The provider did not look at it, so no guess was spent."""
    UNKNOWN = "unknown"
    """Nobody knows whether the provider looked at it; the guess counts as spent."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The provider's answer. `code` is its word, or ours in lower case where it said none."""

    verdict: CheckVerdict
    code: str
    http_status: int | None = None


class Checker(Protocol):
    """A provider that judges codes. It never raises for what a provider or a network can do."""

    def verify(self, *, pin_id: str, code: str) -> Judgement:
        """Ask whether `code` is the one that was sent as `pin_id`."""


def read_code(text: str) -> str | None:
    """Return the six ASCII digits of a code as a person typed it, None for anything else.

    Blanks and hyphens between the digits are ignored, and digits of every script are read: `123 456`.
    """
    if len(text) > LONGEST:
        return None
    code = in_ascii(text)
    return code.replace(" ", "").replace("-", "") if _CODE.fullmatch(code) else None
