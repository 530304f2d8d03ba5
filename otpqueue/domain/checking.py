"""The result of checking one code at the provider."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from otpqueue.domain.typed import LONGEST, normalize_to_ascii

CODE_LENGTH = 6
"""Digits of a code. NIST SP 800-63B requires at least six decimal digits."""

_CODE = re.compile(r"[0-9](?:[ -]*[0-9]){5}")


class CheckVerdict(StrEnum):
    """The provider's verdict on a code."""

    CORRECT = "correct"
    WRONG = "wrong"
    EXPIRED = "expired"
    """The code has expired at the provider, or the provider no longer has it."""
    EXHAUSTED = "exhausted"
    """The provider accepts no more checks of this code."""
    UNJUDGED = "unjudged"
    """The provider did not check the code, so the guess does not count."""
    UNKNOWN = "unknown"
    """It is unknown whether the provider checked the code. The guess counts."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The provider's answer.

    `code` is the provider's identifier, or our own in lower case if it sent none.
    """

    verdict: CheckVerdict
    code: str
    http_status: int | None = None


class Checker(Protocol):
    """A provider that checks codes.

    It returns provider and network failures as values and never raises for them.
    """

    def verify(self, *, pin_id: str, code: str) -> Judgement:
        """Check whether `code` is the one that the provider sent as `pin_id`."""


def parse_code(text: str) -> str | None:
    """Return the six ASCII digits of a typed code, or None if the text is not a code.

    Spaces and hyphens between the digits are ignored. Digits of every script are accepted.
    """
    if len(text) > LONGEST:
        return None
    code = normalize_to_ascii(text)
    return code.replace(" ", "").replace("-", "") if _CODE.fullmatch(code) else None
