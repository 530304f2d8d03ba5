"""The only module that reads the wall clock.

Entry points (an HTTP resource, a Celery task, a command) read the time and pass it down as an argument.
Leases are the exception: Postgres's clock sets and compares them.
"""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the current time as an aware UTC datetime."""
    return datetime.now(UTC)
