"""Colours of a client's brand, adapted so that text stays readable (WCAG 2.2, 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re

LEAST_CONTRAST = 4.5
"""WCAG 2.2, 1.4.3, level AA: text of normal size."""
LIGHT, DARK = "#ffffff", "#15181d"
"""The backgrounds of the hosted page."""
_INK = "#101418"
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_STEPS = 50


def parse_colour(text: str) -> str:
    """Return a colour as `#rrggbb`. Raises ValueError."""
    colour = text.strip().lower()
    if not _COLOUR.fullmatch(colour):
        raise ValueError("must be a colour like `#0b57d0`")
    return colour


def measure_contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def adapt_colour(colour: str, *, background: str) -> str:
    """Return the colour, darkened or lightened as little as it needs to be readable on a background."""
    target = "#000000" if _luminance(background) > 0.5 else "#ffffff"
    for step in range(_STEPS + 1):
        mixed = _mix(colour, target, step / _STEPS)
        if measure_contrast(mixed, background) >= LEAST_CONTRAST:
            return mixed
    return target


def choose_ink(background: str) -> str:
    """Return the colour of text on a background: white or nearly black."""
    return max("#ffffff", _INK, key=lambda ink: measure_contrast(ink, background))


def _luminance(colour: str) -> float:
    """Return the relative luminance, as WCAG defines it."""
    channels = (one / 255 for one in bytes.fromhex(colour[1:]))
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _mix(colour: str, other: str, share: float) -> str:
    pairs = zip(bytes.fromhex(colour[1:]), bytes.fromhex(other[1:]), strict=True)
    return "#" + "".join(f"{round(one + (two - one) * share):02x}" for one, two in pairs)
