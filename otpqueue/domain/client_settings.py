"""What may be set for one client beside the deployment's settings.

Stored as JSON, `{"limits": {"number_15m": "5/15m"}}`, and named by paths, `limits.number_15m`. What a newer
version has stored is kept, and passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.limits import LIMITS, OFF, Quota, Quotas

Stored = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """One client's own settings. What is not set is as the deployment has it."""

    limits: Quotas = field(default_factory=dict)
    """Quotas that take the place of the deployment's."""

    @classmethod
    def from_stored(cls, stored: Stored) -> ClientSettings:
        """Return the settings that `stored` says; what this version cannot read counts as not set."""
        understood = {path: text for path, text in flat(stored).items() if not _problem(path, text)}
        return cls(
            limits={
                path.removeprefix("limits."): Quota.parse(text)
                for path, text in understood.items()
                if path.startswith("limits.")
            }
        )


def _quota(text: str) -> str:
    quota = Quota.parse(text)
    return OFF if quota is None else str(quota)


PATHS: Mapping[str, Callable[[str], Any]] = {
    f"limits.{limit.name}": _quota for limit in LIMITS.values() if limit.per_client
}
"""What can be set, each with what reads its text into JSON, and raises ValueError for one it cannot take."""


def flat(stored: Stored) -> dict[str, Any]:
    """Return stored settings by their paths."""
    found: dict[str, Any] = {}
    for name, value in stored.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{below}": one for below, one in flat(value).items()}
        else:
            found[name] = value
    return found


def with_setting(stored: Stored, path: str, text: str) -> dict[str, Any]:
    """Return stored settings with one more, or another, at `path`.

    Raises InvalidRequest for a path that is none, or a text that it does not take.
    """
    if problem := _problem(path, text):
        raise InvalidRequest([FieldError(path, problem)])
    section, _, name = path.partition(".")
    value = PATHS[path](text)
    return {**stored, section: {**stored.get(section, {}), name: value} if name else value}


def without_setting(stored: Stored, path: str) -> dict[str, Any]:
    """Return stored settings without the one at `path`.

    Raises InvalidRequest when it is not set.
    """
    if path not in flat(stored):
        raise InvalidRequest([FieldError(path, "is not set")])
    section, _, name = path.partition(".")
    left = {key: value for key, value in stored.items() if key != section}
    below = {key: value for key, value in stored[section].items() if key != name} if name else {}
    return left | ({section: below} if below else {})


def not_understood(stored: Stored) -> list[str]:
    """Return the paths of stored settings that this version cannot read, and so does not heed."""
    return [path for path, value in flat(stored).items() if _problem(path, value)]


def _problem(path: str, value: Any) -> str | None:
    if path not in PATHS:
        return f"is not a setting; there are {', '.join(PATHS)}"
    try:
        PATHS[path](value)
    except (TypeError, ValueError) as error:
        return str(error)
    return None
