"""What may be set for one client beside the deployment's settings.

Stored as JSON, `{"limits": {"number_15m": "5/15m"}}`, and named by paths, `limits.number_15m`. What a newer
version has stored is kept, and passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.limits import LIMITS, OFF, Quota, Quotas
from otpqueue.domain.phone import COUNTRIES

Stored = Mapping[str, Any]
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z]{2,4})?")


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """One client's own settings. What is not set is as the deployment has it."""

    limits: Quotas = field(default_factory=dict)
    """Quotas that take the place of the deployment's."""
    daily_cap: int | None = None
    """How many codes may be sent for it on one day (UTC)."""
    countries_allowed: tuple[str, ...] | None = None
    """Instead of the deployment's; ISO 3166 alpha-2, or `001` for numbers of no one country."""
    countries_blocked: tuple[str, ...] | None = None
    """Beside the deployment's, which nothing here can lift."""
    languages: tuple[str, ...] | None = None
    """The only ones that may be asked for, e.g. `de`, which stands for `de-AT` too."""

    @classmethod
    def from_stored(cls, stored: Stored | Any) -> ClientSettings:
        """Return the settings that `stored` says; what this version cannot read counts as not set."""
        understood: dict[str, Any] = {
            path: PATHS[path](value) for path, value in flat(stored).items() if not _problem(path, value)
        }
        limits = {
            path.removeprefix("limits."): Quota.parse(understood.pop(path))
            for path in list(understood)
            if path.startswith("limits.")
        }
        # JSON has no tuples.
        others: dict[str, Any] = {
            path: tuple(one) if isinstance(one, list) else one for path, one in understood.items()
        }
        return cls(limits=limits, **others)


def _quota(text: str) -> str:
    quota = Quota.parse(text)
    return OFF if quota is None else str(quota)


def _whole(value: str | int) -> int:
    text = str(value)
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise ValueError("must be a whole number, 0 to 999999999")
    return int(text)


def _words(value: str | list[str]) -> list[str]:
    words = value.split(",") if isinstance(value, str) else value
    return [word.strip() for word in words if word.strip()]


def _countries(value: str | list[str]) -> list[str]:
    countries = [word.upper() for word in _words(value)]
    if unknown := sorted(set(countries) - COUNTRIES):
        raise ValueError(f"must be countries, ISO 3166 alpha-2, like `GB,US`; {', '.join(unknown)} is none")
    return countries


def _languages(value: str | list[str]) -> list[str]:
    languages = _words(value)
    if not languages or not all(_LANGUAGE.fullmatch(language) for language in languages):
        raise ValueError("must be languages, like `de,en-GB`")
    return languages


PATHS: Mapping[str, Callable[[Any], Any]] = {
    **{f"limits.{limit.name}": _quota for limit in LIMITS.values() if limit.per_client},
    "daily_cap": _whole,
    "countries_allowed": _countries,
    "countries_blocked": _countries,
    "languages": _languages,
}
"""What can be set, each with what reads its text into JSON, and raises ValueError for one it cannot take."""


def flat(stored: Stored | Any) -> dict[str, Any]:
    """Return stored settings by their paths; what is no JSON object as one of the path `settings`."""
    if not isinstance(stored, Mapping):
        return {"settings": stored}
    found: dict[str, Any] = {}
    for name, value in stored.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{below}": one for below, one in flat(value).items()}
        else:
            found[name] = value
    return found


def with_setting(stored: Stored | Any, path: str, text: str) -> dict[str, Any]:
    """Return stored settings with one more, or another, at `path`.

    Raises InvalidRequest for a path that is none, a text that it does not take, and stored settings that it
    cannot be added to.
    """
    if problem := _problem(path, text):
        raise InvalidRequest([FieldError(path, problem)])
    section, _, name = path.partition(".")
    if not isinstance(stored, Mapping) or (name and not isinstance(stored.get(section, {}), Mapping)):
        raise InvalidRequest(
            [FieldError(path, "cannot be set beside what is stored, which is no JSON object")]
        )
    value = PATHS[path](text)
    return {**stored, section: {**stored.get(section, {}), name: value} if name else value}


def without_setting(stored: Stored | Any, path: str) -> dict[str, Any]:
    """Return stored settings without the one at `path`.

    Raises InvalidRequest when it is not set.
    """
    if path not in flat(stored):
        raise InvalidRequest([FieldError(path, "is not set")])
    if not isinstance(stored, Mapping):
        return {}
    section, _, name = path.partition(".")
    if section not in stored:
        return {key: value for key, value in stored.items() if key != path}
    left = {key: value for key, value in stored.items() if key != section}
    below = {key: value for key, value in stored[section].items() if key != name} if name else {}
    return left | ({section: below} if below else {})


def not_understood(stored: Stored | Any) -> list[str]:
    """Return the paths of stored settings that this version cannot read, and so does not heed."""
    return [path for path, value in flat(stored).items() if _problem(path, value)]


def _problem(path: str, value: Any) -> str | None:
    if path not in PATHS:
        return f"is not a setting; there are {', '.join(PATHS)}"
    try:
        PATHS[path](value)
    except ValueError as error:
        return str(error)
    except (AttributeError, TypeError):
        return "is of another type"
    return None
