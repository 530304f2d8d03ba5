"""The one place where the wall clock is read.

Edges (an HTTP resource, a Celery task, a command) ask for the time and pass it down as an argument;
nothing below them looks at a clock. Leases alone are set and compared by Postgres's own clock.
"""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the present moment as an aware UTC datetime."""
    return datetime.now(UTC)
