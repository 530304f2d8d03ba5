"""Settings of one client that override the deployment's.

They are stored as JSON, `{"limits": {"number_15m": "5/15m"}}`, and addressed by paths, `limits.number_15m`.
Settings that a newer version stored are kept and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.limits import LIMITS, OFF, Quota, Quotas
from otpqueue.domain.page_settings import PAGE_PATHS, PageSettings
from otpqueue.domain.phone import COUNTRIES

Stored = Mapping[str, Any]
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z]{2,4})?")


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """One client's settings. The deployment's value applies to each one that is not set."""

    limits: Quotas = field(default_factory=dict)
    """Quotas that replace the deployment's."""
    daily_cap: int | None = None
    """How many codes may be sent for the client per day (UTC)."""
    countries_allowed: tuple[str, ...] | None = None
    """Replaces the deployment's list. ISO 3166 alpha-2, or `001` for numbers without a country."""
    countries_blocked: tuple[str, ...] | None = None
    """Extends the deployment's list. A client's settings cannot unblock a country."""
    languages: tuple[str, ...] | None = None
    """The languages that the client may request. `de` includes `de-AT`."""
    page: PageSettings = field(default_factory=PageSettings)
    """The hosted verification page."""

    @classmethod
    def from_stored(cls, stored: Stored | Any) -> ClientSettings:
        """Return the settings in `stored`. Settings that this version cannot parse count as not set."""
        understood: dict[str, Any] = {
            path: PATHS[path](value)
            for path, value in flatten_settings(stored).items()
            if not _find_problem(path, value)
        }
        limits = {
            path.removeprefix("limits."): Quota.parse(understood.pop(path))
            for path in list(understood)
            if path.startswith("limits.")
        }
        page = {
            path.removeprefix("page."): understood.pop(path)
            for path in list(understood)
            if path.startswith("page.")
        }
        # JSON has no tuples.
        others: dict[str, Any] = {
            path: tuple(one) if isinstance(one, list) else one for path, one in understood.items()
        }
        return cls(limits=limits, page=PageSettings.of(page), **others)


def _parse_quota(text: str) -> str:
    quota = Quota.parse(text)
    return OFF if quota is None else str(quota)


def _parse_whole_number(value: str | int) -> int:
    text = str(value)
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise ValueError("must be a whole number, 0 to 999999999")
    return int(text)


def _split_words(value: str | list[str]) -> list[str]:
    words = value.split(",") if isinstance(value, str) else value
    return [word.strip() for word in words if word.strip()]


def _parse_countries(value: str | list[str]) -> list[str]:
    countries = [word.upper() for word in _split_words(value)]
    if unknown := sorted(set(countries) - COUNTRIES):
        raise ValueError(f"must be countries, ISO 3166 alpha-2, like `GB,US`; not {', '.join(unknown)}")
    return countries


def _parse_languages(value: str | list[str]) -> list[str]:
    languages = _split_words(value)
    if not languages or not all(_LANGUAGE.fullmatch(language) for language in languages):
        raise ValueError("must be languages, like `de,en-GB`")
    return languages


PATHS: Mapping[str, Callable[[Any], Any]] = {
    **{f"limits.{limit.name}": _parse_quota for limit in LIMITS.values() if limit.per_client},
    "daily_cap": _parse_whole_number,
    "countries_allowed": _parse_countries,
    "countries_blocked": _parse_countries,
    "languages": _parse_languages,
    **PAGE_PATHS,
}
"""Parsers by path. Each converts text to a JSON value, and raises ValueError if the text is invalid."""


def flatten_settings(stored: Stored | Any) -> dict[str, Any]:
    """Return stored settings by path. A value that is not a JSON object has the path `settings`."""
    if not isinstance(stored, Mapping):
        return {"settings": stored}
    found: dict[str, Any] = {}
    for name, value in stored.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{below}": one for below, one in flatten_settings(value).items()}
        else:
            found[name] = value
    return found


def add_setting(stored: Stored | Any, path: str, text: str) -> dict[str, Any]:
    """Return stored settings with the one at `path` added or replaced.

    Raises InvalidRequest for an unknown path, an invalid value, or stored settings that are not an object.
    """
    if problem := _find_problem(path, text):
        raise InvalidRequest([FieldError(path, problem)])
    section, _, name = path.partition(".")
    if not isinstance(stored, Mapping) or (name and not isinstance(stored.get(section, {}), Mapping)):
        raise InvalidRequest(
            [FieldError(path, "cannot be set beside what is stored, which is no JSON object")]
        )
    value = PATHS[path](text)
    return {**stored, section: {**stored.get(section, {}), name: value} if name else value}


def remove_setting(stored: Stored | Any, path: str) -> dict[str, Any]:
    """Return stored settings without the one at `path`.

    Raises InvalidRequest if it is not set.
    """
    if path not in flatten_settings(stored):
        raise InvalidRequest([FieldError(path, "is not set", missing=True)])
    if not isinstance(stored, Mapping):
        return {}
    section, _, name = path.partition(".")
    if section not in stored:
        return {key: value for key, value in stored.items() if key != path}
    left = {key: value for key, value in stored.items() if key != section}
    below = {key: value for key, value in stored[section].items() if key != name} if name else {}
    return left | ({section: below} if below else {})


def list_unknown_settings(stored: Stored | Any) -> list[str]:
    """Return the paths of stored settings that this version cannot parse and therefore ignores."""
    return [path for path, value in flatten_settings(stored).items() if _find_problem(path, value)]


def _find_problem(path: str, value: Any) -> str | None:
    if path not in PATHS:
        return f"is not a setting; the settings are {', '.join(PATHS)}"
    try:
        PATHS[path](value)
    except ValueError as error:
        return str(error)
    except (AttributeError, TypeError):
        return "is of another type"
    return None
