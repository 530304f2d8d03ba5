"""Formats figures and times for people: the filters of the templates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

NONE = "\u2013"
"""Shown instead of a missing value."""


def number(value: float | None) -> str:
    """Return a count with a thin space between thousands; a fraction with one decimal."""
    if value is None:
        return NONE
    text = f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:,.1f}"
    return text.replace(",", "\u202f")


def share(value: float | None) -> str:
    """Return a share in per cent; 99.96 % is never rounded to 100 %, 0.04 % never to 0 %."""
    if value is None:
        return NONE
    percent = value * 100
    if 0 < percent < 0.1:
        return "<\u202f0.1\u202f%"
    if 99.9 < percent < 100:
        return ">\u202f99.9\u202f%"
    digits = 0 if percent in {0, 100} else 1
    return f"{percent:.{digits}f}\u202f%"


def ms(value: float | None) -> str:
    """Return a duration in ms as `120 ms`, `2.4 s` or `3 min`."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    if value < 1000:
        return f"{value:.0f}\u202fms"
    seconds = value / 1000
    if seconds < 60:
        return f"{seconds:.1f}\u202fs" if seconds % 1 and seconds < 20 else f"{seconds:.0f}\u202fs"
    return span(seconds)


def span(seconds: float | None) -> str:
    """Return a duration in its two largest units: `4 s`, `2 min 10 s`, `3 h 5 min`, `2 d 4 h`."""
    if seconds is None:
        return NONE
    left, parts = int(max(0, seconds)), []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count}\u202f{unit}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0\u202fs"


def clock_time(moment: datetime | None, now: datetime) -> str:
    """Return a time of day in UTC, with the date unless it is today."""
    if moment is None:
        return NONE
    moment, now = moment.astimezone(UTC), now.astimezone(UTC)
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def ago(moment: datetime | None, now: datetime) -> str:
    """Return `4 s ago` or, for a moment in the future, `in 4 s`."""
    if moment is None:
        return NONE
    passed = (now - moment).total_seconds()
    return f"in {span(-passed)}" if passed <= -1 else f"{span(passed)} ago"


def offset(moment: datetime, since: datetime) -> str:
    """Return the time from `since` to `moment`: `+0.041 s`, `+2 min 4 s`."""
    passed = (moment - since).total_seconds()
    sign = "\u2212" if passed < 0 else "+"
    passed = abs(passed)
    return f"{sign}{passed:.3f}\u202fs" if passed < 60 else f"{sign}{span(passed)}"


def money(amount: Decimal | None, currency: str | None) -> str:
    """Return an amount of money."""
    if amount is None:
        return NONE
    digits = 0 if abs(amount) >= 100 else 2 if abs(amount) >= 1 else 4
    text = f"{amount:,.{digits}f}".replace(",", "\u202f")
    return f"{text} {currency or ''}".strip()


def iso(moment: datetime) -> str:
    """Return a moment in ISO 8601, UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def whole(length: timedelta) -> str:
    """Return a duration as `span` does."""
    return span(length.total_seconds())
