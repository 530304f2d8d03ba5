"""The texts of the hosted page: one JSON file for each language.

Country names come from the locale data of libphonenumber, with the names of today.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import phonenumbers

from otpqueue.domain.page_settings import LANGUAGES, PageSettings

_ACCEPTED = re.compile(
    r"\s*([A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,20})?\s*(?:;\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?"
)
_UNITS = ((3600, "hours"), (60, "minutes"), (1, "seconds"))


@dataclass(frozen=True, kw_only=True)
class PageTexts:
    """The texts of one language, with a client's own in place of some."""

    language: str
    name: str
    """How the page calls the client."""
    own: Mapping[tuple[str, str], str]

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its values filled in."""
        text: str = _load(self.language)[key]
        return text.format(name=self.name, **values)

    def replaced(self, key: str) -> str | None:
        """Return the client's own text, None if it has none in this language."""
        return self.own.get((key, self.language))

    def error(self, code: str, *, wait_s: int | None = None) -> str:
        """Return the text of an error. `wait_s` is how long the person must wait."""
        errors: Mapping[str, str] = _load(self.language)["errors"]
        return errors.get(code, errors["unknown"]).format(name=self.name, wait=self.duration(wait_s or 60))

    def count(self, key: str, count: int) -> str:
        """Return a text that depends on a number: `key_one` or `key_other`."""
        return self(f"{key}_{'one' if count == 1 else 'other'}", count=count)

    def duration(self, seconds: int) -> str:
        """Return a duration in its largest suitable unit, rounded up."""
        size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= 2 * size), _UNITS[-1])
        return self.count(unit, -(-seconds // size))

    def countries(self, offered: Iterable[str]) -> list[tuple[str, str]]:
        """Return countries with their names and calling codes, in the order of the language."""
        names: Mapping[str, str] = _load(self.language)["countries"]
        named = ((country, names[country]) for country in offered if country in names)
        found = sorted(named, key=lambda one: _sort_key(one[1]))
        return [
            (country, f"{name} (+{phonenumbers.country_code_for_region(country)})") for country, name in found
        ]


def list_error_codes(language: str) -> frozenset[str]:
    """Return the codes that have a text."""
    return frozenset(_load(language)["errors"])


def choose_language(settings: PageSettings, *, wanted: Iterable[str | None], accepted: str | None) -> str:
    """Return the language of a page: the first of `wanted` that it has, else by `Accept-Language`."""
    offered = settings.languages or LANGUAGES
    for tag in wanted:
        if tag and (language := tag.lower().replace("_", "-").partition("-")[0]) in offered:
            return language
    return next((one for one in _read_accepted(accepted) if one in offered), offered[0])


def guess_country(accepted: str | None) -> str | None:
    """Return the country of the first language with a region in `Accept-Language`, such as `en-GB`."""
    found = re.search(r"\b[a-z]{2,3}-([A-Za-z]{2})\b", accepted or "")
    country = found[1].upper() if found else None
    return country if country in phonenumbers.SUPPORTED_REGIONS else None


def _read_accepted(header: str | None) -> list[str]:
    matched = (_ACCEPTED.fullmatch(part) for part in (header or "")[:500].split(","))
    weighted = [(float(found[2] or 1), found[1].lower()) for found in matched if found]
    return [language for weight, language in sorted(weighted, key=lambda one: -one[0]) if weight > 0]


def _sort_key(name: str) -> str:
    plain = unicodedata.normalize("NFD", name).casefold()
    return "".join(one for one in plain if not unicodedata.combining(one))


@cache
def _load(language: str) -> dict[str, Any]:
    text = (files("otpqueue.api.pages.catalogue") / f"{language}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
