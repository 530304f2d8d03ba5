"""Masks for logs: phone numbers, codes, keys, pinIds, sessions and passwords.

This is the last line of defence. No code logs such data on purpose, but an error's text or a library's record
may contain it. When in doubt, the masks hide too much:

- Seven digits or more after a `+`, and nine or more without one, are a phone number, with or without spaces,
  dots, hyphens and brackets between them. This also hides other long numbers (an epoch, a byte count).
- Not masked, because their form is distinctive: UUIDs, ISO 8601 times, IPv4 addresses, decimals with one dot
  (`0.123456789`), lower-case hexadecimal ids of 32 digits, and values named `trace_id` or `span_id`.
- Six digits are a code only after a name such as `code`, `pin` or `otp`. Otherwise they are a count.

Not detected: a number of at most eight digits without `+`; one with letters, commas, line ends or a single
dot between its digits; one in words, base64 or another encoding; a code or a session id without a name before
it; a number written as an IPv4 address or inside a UUID.
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
# Separators that a pasted number may contain: dashes, full-width punctuation and invisible characters.
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
"""A cache of short texts without anything to mask, such as names and routes."""
_CLEAN_AT_MOST = 2048
_CLEAN_LENGTH = 64


def mask_text(value: str) -> str:
    """Return `value` with everything sensitive masked."""
    if value in _clean or _HARMLESS.fullmatch(value):
        return value
    masked = _ALL.sub(_mask_match, value) if _SUSPECT.search(value) else value
    if masked == value and len(value) <= _CLEAN_LENGTH:
        if len(_clean) >= _CLEAN_AT_MOST:
            _clean.clear()
        _clean.add(value)
    return masked


def _mask_match(found: re.Match[str]) -> str:
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


def mask_values(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with plain and masked values, nested ones included."""
    return _mask_fields(event, _DEEPEST)


def _mask_fields(fields: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    shown = {}
    for name, value in fields.items():
        masked, is_plain, _, _ = _classify_name(str(name))
        # Most fields are texts, and their names need no special treatment.
        shown[masked] = (
            mask_text(value) if is_plain and type(value) is str else _mask_field(str(name), value, depth)
        )
    return shown


@lru_cache(maxsize=512)
def _classify_name(name: str) -> tuple[str, bool, bool, bool]:
    """Return a field's masked name, and whether it is ordinary, names a secret, or may name a code."""
    is_secret, is_code = _SECRET_KEY.search(name) is not None, _CODE_KEY.search(name) is not None
    return mask_text(name), not (is_secret or is_code or name in _TRACE_KEYS), is_secret, is_code


def _mask_field(name: str, value: object, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    # Trace ids contain random digits. Nine in a row would be masked as a number.
    if name in _TRACE_KEYS and isinstance(value, str) and _TRACE.fullmatch(value):
        return value
    _, _, is_secret, is_code = _classify_name(name)
    if is_secret or (is_code and isinstance(value, str | int) and _CODE.fullmatch(str(value))):
        return MASK
    return _mask_value(value, depth, name)


def _mask_value(value: object, depth: int, name: str) -> Any:
    if isinstance(value, str):
        return mask_text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        # Durations are below ten million seconds. Nine digits may be a number.
        return MASK if abs(value) >= 100_000_000 else value
    if depth and isinstance(value, Mapping):
        return _mask_fields(value, depth - 1)
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_mask_field(name, one, depth - 1) for one in value]
    return mask_text(_to_plain_text(value))


def _to_plain_text(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "replace")
    try:
        return str(value) if isinstance(value, BaseException) else repr(value)
    except Exception:  # noqa: BLE001 - a record must be written whatever its values are
        return f"<{type(value).__name__}>"
