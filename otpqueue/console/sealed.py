"""Phone numbers between pages: no page shows a whole number, and no URL holds one.

A page that continues with a number carries it sealed in a form. Only the same session can open it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from uuid import UUID, uuid5

import phonenumbers
from cryptography.exceptions import InvalidTag

from otpqueue.console.authentication import FormRefused
from otpqueue.console.layout import PageContext
from otpqueue.domain.phone import COUNTRIES, WORLD
from otpqueue.store.vault import Vault

_SEALS = UUID("5d0f7f6e-3f0c-4d52-9a0f-6f8f0a3b7c11")


@dataclass(frozen=True)
class NumberSealer:
    """Seals and opens the numbers of forms."""

    vault: Vault

    def seal(self, number: str, page: PageContext) -> str:
        """Return a number as the value of a hidden field."""
        key_id, sealed = self.vault.seal(number, row_id=_get_row_id(page))
        return f"{key_id}:{base64.urlsafe_b64encode(sealed).decode()}"

    def open(self, text: str, page: PageContext) -> str:
        """Return the number in a hidden field. Raises FormRefused for another session's, or a forged one."""
        key_id, _, encoded = text.partition(":")
        try:
            sealed = base64.urlsafe_b64decode(encoded)
            return self.vault.unseal(sealed, key_id=key_id, row_id=_get_row_id(page))
        except (ValueError, KeyError, InvalidTag):
            raise FormRefused from None


def _get_row_id(page: PageContext) -> UUID:
    return uuid5(_SEALS, page.operator.session.nonce)


@cache
def list_countries() -> tuple[tuple[str, str], ...]:
    """Return each country with a label for a picker: `GB (+44)`."""
    return tuple(
        (code, f"{code} (+{phonenumbers.country_code_for_region(code)})")
        for code in sorted(COUNTRIES - {WORLD})
    )
