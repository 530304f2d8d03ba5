"""What people type and paste, in ASCII: a phone number or a code as they meant it."""

from __future__ import annotations

import unicodedata

LONGEST = 200
"""Characters; whatever is longer is neither."""

_DASHES = {"\u2212", "\u30fc"}
"""Minus and prolonged sound mark: libphonenumber reads them as hyphens, beside what Unicode calls dashes."""

_FULL_WIDTH = range(0xFF01, 0xFF5F)
_TO_ASCII = 0xFEE0


def in_ascii(text: str) -> str:
    """Return the text without what nobody sees and with ASCII digits, hyphens and blanks.

    Removed are characters of format, as soft hyphens and marks of direction are; those around a number copied
    from a phone's contacts, for example. Digits of every script become 0 to 9. Any other character stays.
    """
    if text.isascii():
        return text.strip()
    return "".join(map(_in_ascii, text)).strip()


def _in_ascii(character: str) -> str:
    if character.isascii():
        return character
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    if category == "Nd":
        return str(unicodedata.digit(character))
    if category == "Zs":
        return " "
    if category == "Pd" or character in _DASHES:
        return "-"
    return chr(ord(character) - _TO_ASCII) if ord(character) in _FULL_WIDTH else character


def control_character(text: str) -> str | None:
    """Return the first character that no text of ours holds, None if there is none.

    That is a control character, NUL among them, which Postgres does not store, or half of a surrogate pair.
    """
    if text.isprintable():
        return None
    return next((one for one in text if unicodedata.category(one) in {"Cc", "Cs"}), None)


def named(character: str) -> str:
    """Return a character as a person can look it up, `U+00D7 MULTIPLICATION SIGN`, visible or not."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
