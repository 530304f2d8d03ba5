"""Formatting of figures and times, and the contrast of the colours."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from otpqueue.console import formatting
from otpqueue.console.rendering import asset
from otpqueue.domain.alert_rules import RULES
from otpqueue.domain.alert_runbook import ELSE, URGENT, todo

NOW = datetime(2026, 11, 26, 3, 0, 0, tzinfo=UTC)
THIN = "\u202f"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "\u2013"), (0, "0"), (3.14, "3.1"), (12, "12"), (1234567, "1 234 567"), (123.4, "123")],
)
def test_numbers(value: float | None, text: str) -> None:
    """Counts have a thin space every three digits."""
    assert formatting.number(value) == text.replace(" ", THIN)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\u2013"),
        (0, "0 %"),
        (1, "100 %"),
        (0.953, "95.3 %"),
        (0.99999, "> 99.9 %"),
        (0.00001, "< 0.1 %"),
    ],
)
def test_shares(value: float | None, text: str) -> None:
    """A share below 100 % is never displayed as 100 %."""
    assert formatting.share(value) == text.replace(" ", THIN)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "\u2013"), (0, "0"), (120, "120 ms"), (2400, "2.4 s"), (30_000, "30 s"), (200_000, "3 min 20 s")],
)
def test_durations(value: float | None, text: str) -> None:
    """Durations are displayed in a suitable unit."""
    assert formatting.ms(value).replace(THIN, " ") == text


@pytest.mark.parametrize(
    ("passed", "text"),
    [
        (timedelta(seconds=0.4), "0 s ago"),
        (timedelta(minutes=2, seconds=10), "2 min 10 s ago"),
        (timedelta(days=2, hours=4, minutes=9), "2 d 4 h ago"),
        (-timedelta(minutes=5), "in 5 min"),
    ],
)
def test_how_long_ago(passed: timedelta, text: str) -> None:
    """An age is displayed in its two largest units."""
    assert formatting.ago(NOW - passed, NOW).replace(THIN, " ") == text


def test_times() -> None:
    """A time of another day has its date; offsets are exact."""
    yesterday = NOW - timedelta(hours=4)

    assert formatting.clock_time(NOW, NOW) == "03:00:00"
    assert formatting.clock_time(yesterday, NOW) == "2026-11-25 23:00:00"
    assert formatting.offset(NOW + timedelta(milliseconds=41), NOW).replace(THIN, " ") == "+0.041 s"
    assert formatting.offset(NOW - timedelta(seconds=125), NOW).replace(THIN, " ") == "\u22122 min 5 s"
    assert formatting.iso(NOW) == "2026-11-26T03:00:00.000Z"


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, "\u2013"), ("0.0077", "0.0077 EUR"), ("12.3456", "12.35 EUR"), ("1234.5", "1 234 EUR")],
)
def test_money(amount: str | None, text: str) -> None:
    """Small amounts are exact, large ones short."""
    assert formatting.money(Decimal(amount) if amount else None, "EUR") == text.replace("1 ", f"1{THIN}")


def test_every_rule_says_what_to_do() -> None:
    """Exactly the existing alert rules have instructions."""
    assert [rule for rule in RULES if todo(rule) == ELSE] == []
    assert set(RULES) >= URGENT
    assert todo("one of another version") == ELSE


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour: WCAG 2.2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours: WCAG 2.2."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_palette_has_contrast(scheme: int) -> None:
    """Text has a contrast of 4.5 to its background, lines and columns one of 3: WCAG 2.2, AA."""
    blocks = re.findall(r":root \{(.*?)\}", asset("console.css").decode(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme]))

    for text in ("ink", "soft-ink", "accent"):
        for ground in ("ground", "sheet", "good-soft", "warn-soft", "bad-soft"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for word in ("good", "warn", "bad"):
        assert contrast(colours[word], colours[f"{word}-soft"]) >= 4.5, word
        assert contrast(colours[word], colours["sheet"]) >= 4.5, word
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    assert contrast(colours["sheet"], colours["bad"]) >= 4.5
    drawn = [name for name in colours if name.startswith("c-")]
    assert len(drawn) == 8
    for name in drawn:
        assert contrast(colours[name], colours["sheet"]) >= 3, name
