"""Parses durations (`15m`) and limits (`1/3s`) of an application's configuration, by Infobip's grammar.

Source: field descriptions of Infobip OpenAPI 3.210.0; the refusal of a zero length is INFERRED.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

DAY_S = 86_400
YEAR_S = 365 * DAY_S

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": float(DAY_S)}
_DURATION = re.compile(r"(\d{0,15})(ms|s|m|h|d)", re.ASCII)
_LIMIT = re.compile(r"(\d{1,15})/(.*)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class AttemptLimit:
    """Up to `attempts` attempts in `seconds` seconds."""

    attempts: int
    seconds: float


@lru_cache(maxsize=1024)
def parse_duration(text: str) -> float:
    """Return the seconds in `{timeLength}{timeUnit}`; the length defaults to 1.

    Raises ValueError, with a message that suits a `validationErrors` entry.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("must be {timeLength}{timeUnit} with unit ms, s, m, h or d")
    seconds = int(match[1] or "1") * _UNITS[match[2]]
    if seconds <= 0:
        raise ValueError("must be longer than zero")
    return seconds


@lru_cache(maxsize=1024)
def parse_limit(text: str) -> AttemptLimit:
    """Return the limit in `{attempts}/{timeLength}{timeUnit}`.

    Raises ValueError, with a message that suits a `validationErrors` entry.
    """
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise ValueError("must be {attempts}/{timeLength}{timeUnit} with unit ms, s, m, h or d")
    return AttemptLimit(int(match[1]), parse_duration(match[2]))


def duration_text(text: str) -> str:
    """Return `text` if it is a duration of at most one year, else raise ValueError."""
    if parse_duration(text) > YEAR_S:
        raise ValueError("must be at most one year")
    return text


def limit_text(text: str) -> str:
    """Return `text` if it is a limit over at most one year, else raise ValueError."""
    if parse_limit(text).seconds > YEAR_S:
        raise ValueError("must be over at most one year")
    return text


def daily_limit_text(text: str) -> str:
    """Return `text` if it is a limit over at most one day, else raise ValueError."""
    if parse_limit(text).seconds > DAY_S:
        raise ValueError("must be over at most one day")
    return text
