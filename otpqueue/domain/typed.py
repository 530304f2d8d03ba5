"""Normalise typed and pasted text, such as phone numbers and codes, to ASCII."""

from __future__ import annotations

import unicodedata

LONGEST = 200
"""In characters. No longer text is a phone number or a code."""

_DASHES = {"\u2212", "\u30fc"}
"""The minus sign and the prolonged sound mark, which libphonenumber reads as hyphens."""

_FULL_WIDTH = range(0xFF01, 0xFF5F)
_TO_ASCII = 0xFEE0


def normalize_to_ascii(text: str) -> str:
    """Return the text without invisible characters and with ASCII digits, hyphens and spaces.

    Format characters are removed, such as soft hyphens and the direction marks around a number that was
    copied from a phone's contacts. Digits of every script become 0 to 9. Other characters are kept.
    """
    if text.isascii():
        return text.strip()
    return "".join(map(_normalize_character, text)).strip()


def _normalize_character(character: str) -> str:
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


def find_control_character(text: str) -> str | None:
    """Return the first character that Postgres or JSON cannot store, or None.

    These are control characters, such as NUL, and unpaired surrogates.
    """
    if text.isprintable():
        return None
    return next((one for one in text if unicodedata.category(one) in {"Cc", "Cs"}), None)


def describe_character(character: str) -> str:
    """Return a character's code point and name, `U+00D7 MULTIPLICATION SIGN`."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()
