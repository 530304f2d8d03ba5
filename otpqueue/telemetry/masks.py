"""Masks over what must never be read in a log: numbers, codes, keys, pinIds, sessions, passwords.

The last line of defence: nothing of the kind is logged on purpose, but an error's text or a library's record
may hold what it was about. So the masks would rather hide too much:

- Seven digits or more behind a `+`, and nine or more without one, are a phone number, with spaces, dots,
  hyphens and brackets between them or none. That hides other long numbers too (an epoch, a byte count).
- Kept, since they are evidently something else: UUIDs, ISO 8601 times, IPv4 addresses, decimals with one dot
  (`0.123456789`), hexadecimal ids of 32 digits in small letters, and what is named `trace_id` or `span_id`.
- Six digits are a code only where a name says so, `code`, `pin` or `otp`; elsewhere they are a count.

What they cannot see: a number of at most eight digits without `+`; one with letters, commas or line ends
between its digits, or one dot; one in words, base64 or another coding; a code or a session id that no name
stands before; a number written as an IPv4 address or inside a UUID.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

MASK = "***"

_DAY = r"[12]\d{3}-[01]\d-[0-3]\d"
_TIME = r"[0-2]\d:[0-5]\d(?::[0-6]\d(?:[.,]\d{1,6})?)?(?:Z|[+-][01]\d:?[0-5]\d)?"
_KEPT = "|".join(
    (
        # UUID, ISO 8601, IPv4, a decimal, a hexadecimal id.
        r"(?<![0-9A-Za-z])[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9A-Za-z])",
        rf"(?<![\d+]){_DAY}[T ]{_TIME}(?!\d)",
        r"(?<![\d.+])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])",
        r"(?<![\d.+()/ -])\d{1,6}\.\d+(?![\d.])|(?<=[^\d.+()/-] )\d{1,6}\.\d+(?![\d.])",
        r"(?<![0-9A-Za-z])(?=\d*[a-f])[0-9a-f]{32}(?![0-9A-Za-z-])",
    )
)
# What a number may be pasted with: dashes, full-width marks, and what nobody sees.
_BETWEEN = (
    r"[\s().\-/\[\]\u00ad\u061c\u200b-\u200f\u2010-\u2015\u202a-\u202e\u2060-\u2069\u2212\u30fc\ufeff"
    r"\ufe58\ufe63\uff08\uff09\uff0d-\uff0f]{0,3}"
)
_SECRETS = "|".join(
    (
        r"oq_[0-9A-Za-z]+_[0-9A-Za-z_-]{16,}",
        r"whsec_[0-9A-Za-z+/=_-]{16,}",
        r"(?<=://)[^\s/@]*:[^\s/@]*(?=@)",
        r"(?i:authorization)[\"']?\s*[:=]\s*[\"']?(?:(?i:bearer|basic|app|ibsso|apikey)\s+)?[^\s\"',}]+",
        r"\bBearer\s+[^\s\"',}]{6,}|\bBasic\s+[0-9A-Za-z+/]{6,}=*|\bApp\s+(?=[^\s\"']*[\d-])[^\s\"',}]{8,}",
        r"(?<![0-9A-Za-z])[0-9a-f]{32}-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9A-Za-z])",
        r"(?<![0-9A-Za-z])[0-9A-F]{32}(?![0-9A-Za-z])",
    )
)
_WORD = r"(?i:session[_-]?(?:id)?|pin[_-]?id|password|passwd|api[_-]?key|secret)"
_NAMED = "|".join(
    (
        r"\b(?i:[\w-]*(?:code|pin|otp))[\"']?\s*(?:[:=]|is)?\s*[\"']?(?P<code>\d(?:[\s-]?\d){5})(?!\d)",
        rf"\b{_WORD}[\"']?\s*[:=]\s*[\"']?(?P<word>[^\s\"',;&}})]+)",
    )
)
_NUMBER = rf"[+\uff0b]{_BETWEEN}\d(?:{_BETWEEN}\d){{6,}}|\d(?:{_BETWEEN}\d){{8,}}"

_ALL = re.compile(rf"(?P<secret>{_SECRETS})|(?P<kept>{_KEPT})|(?P<named>{_NAMED})|(?P<number>{_NUMBER})")
_SUSPECT = re.compile(
    r"\d\D{0,3}\d|oq_|whsec_|://|[bB]asic|[bB]earer|App|[sS]ess|[pP]in|[pP]ass|[kK]ey|[sS]ecret|[aA]uth|[A-Z]{4}"
)
_HARMLESS = re.compile(rf"[0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}|{_DAY}T{_TIME}")
_CODE_KEY = re.compile(r"(?i)(?:code|pin|otp|passcode)s?$")
_SECRET_KEY = re.compile(
    r"(?i)session(?:[_-]?id)?$|pin_?id$|passw(?:or)?d$|secret$|api_?key$|authorization$|cookie$"
)
_CODE = re.compile(r"\d(?:[\s-]?\d){5}")
_TRACE_KEYS = frozenset({"trace_id", "span_id"})
_TRACE = re.compile(r"[0-9a-f]{16}|[0-9a-f]{32}")
_DEEPEST = 8

_clean: set[str] = set()
"""Short texts in which there is nothing to mask: names, routes and the like come again and again."""
_CLEAN_AT_MOST = 2048
_CLEAN_LENGTH = 64


def text(value: str) -> str:
    """Return `value` with all that must not be read in it masked."""
    if value in _clean or _HARMLESS.fullmatch(value):
        return value
    masked = _ALL.sub(_masked, value) if _SUSPECT.search(value) else value
    if masked == value and len(value) <= _CLEAN_LENGTH:
        if len(_clean) >= _CLEAN_AT_MOST:
            _clean.clear()
        _clean.add(value)
    return masked


def _masked(found: re.Match[str]) -> str:
    if found.lastgroup == "kept":
        return found[0]
    for name in ("code", "word"):
        if found[name] is not None:
            return (
                found[0][: found.start(name) - found.start()]
                + MASK
                + found[0][found.end(name) - found.start() :]
            )
    return MASK


def values(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record whose values, nested ones too, are plain and masked."""
    return _fields(event, _DEEPEST)


def _fields(fields: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    shown = {}
    for name, value in fields.items():
        masked, is_plain, _, _ = _name(str(name))
        # Most fields are texts whose names mean nothing here.
        shown[masked] = text(value) if is_plain and type(value) is str else _field(str(name), value, depth)
    return shown


@lru_cache(maxsize=512)
def _name(name: str) -> tuple[str, bool, bool, bool]:
    """Return a field's name, masked, and whether it means nothing, names a secret, may name a code."""
    is_secret, is_code = _SECRET_KEY.search(name) is not None, _CODE_KEY.search(name) is not None
    return text(name), not (is_secret or is_code or name in _TRACE_KEYS), is_secret, is_code


def _field(name: str, value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    # Random digits: nine of them in a row would be a number elsewhere.
    if name in _TRACE_KEYS and isinstance(value, str) and _TRACE.fullmatch(value):
        return value
    _, _, is_secret, is_code = _name(name)
    if is_secret or (is_code and isinstance(value, str | int) and _CODE.fullmatch(str(value))):
        return MASK
    return _value(value, depth, name)


def _value(value: object, depth: int, name: str) -> Any:
    if isinstance(value, str):
        return text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        # Ten million seconds and more are no duration; nine digits may be a number.
        return MASK if abs(value) >= 100_000_000 else value
    if depth and isinstance(value, Mapping):
        return _fields(value, depth - 1)
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_field(name, one, depth - 1) for one in value]
    return text(_plain(value))


def _plain(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    try:
        return str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:  # noqa: BLE001 - a record must be written whatever its values are
        return f"<{type(value).__name__}>"
