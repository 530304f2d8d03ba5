"""Rules for numbers and languages: countries, line types, and the languages of a client."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import (
    CountryNotAllowed,
    FieldError,
    InvalidRequest,
    NotAdmitted,
    NumberNotAllowed,
)
from otpqueue.domain.phone import WORLD, PhoneNumber


@dataclass(frozen=True, kw_only=True)
class NumberPolicy:
    """The deployment's lists. Countries are ISO 3166 alpha-2, or `001` for numbers without a country."""

    countries_allowed: frozenset[str] | None = None
    """None allows every country, but not numbers without a country."""
    countries_blocked: frozenset[str] = frozenset()
    lines_refused: frozenset[str] = frozenset()
    """Line types, as in `PhoneNumber.kind`."""

    def find_refusal(self, number: PhoneNumber, client: ClientSettings) -> NotAdmitted | None:
        """Return why no code may be sent to `number` for a client with these settings, or None if one may."""
        if not self.is_country_allowed(number.country or WORLD, client):
            return CountryNotAllowed()
        if number.kind in self.lines_refused:
            return NumberNotAllowed(f"{number.kind}_number", e164=number.e164)
        return None

    def is_country_allowed(self, country: str, client: ClientSettings) -> bool:
        """Return whether codes may be sent to a country for a client with these settings."""
        if country in self.countries_blocked or country in (client.countries_blocked or ()):
            return False
        allowed: Iterable[str] | None = client.countries_allowed
        if allowed is None:
            allowed = self.countries_allowed
        return country != WORLD if allowed is None else country in allowed


def find_language_refusal(language: str | None, client: ClientSettings) -> InvalidRequest | None:
    """Return an error if the language is not among the client's. A missing language is always accepted."""
    if language is None or client.languages is None:
        return None
    wanted, listed = _normalize_tag(language), {_normalize_tag(one) for one in client.languages}
    if wanted in listed or wanted.partition("-")[0] in listed:
        return None
    among = ", ".join(sorted(listed)) or "none"
    return InvalidRequest([FieldError("language", f"must be one of this client's languages: {among}")])


def _normalize_tag(language: str) -> str:
    return language.lower().replace("_", "-")
