"""Checks this machine's clock against Postgres, Redis and Infobip."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import cast
from urllib.parse import urlsplit

import certifi
from redis.exceptions import RedisError
from sqlalchemy import text

from otpqueue import clock
from otpqueue.cli.doctor.findings import FindingDraft, report_ok, report_skipped, report_warning
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.operations.health import MOST_SKEW_S
from otpqueue.settings import SettingsError
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts

_TIMEOUT_S = 5.0
_HTTP_RESOLUTION_S = 1.0
_REMEDY = "Run NTP (chrony, systemd-timesyncd) on this machine and on the other one."


def check_clock(parts: Parts) -> Iterator[FindingDraft]:
    """Measure the skew of this machine's clock, each time by half a round trip exact."""
    sources: tuple[tuple[str, Callable[[Parts], datetime], float], ...] = (
        ("Postgres", _read_postgres, 0),
        ("Redis", _read_redis, 0),
        ("Infobip", _read_infobip, _HTTP_RESOLUTION_S),
    )
    for name, read, tolerance_s in sources:
        before, started = clock.now(), time.monotonic()
        try:
            theirs = read(parts)
        except (DatabaseUnavailable, RedisError, SettingsError, HTTPException, OSError, ValueError):
            yield report_skipped(f"the clock of {name} cannot be read")
            continue
        took_s = time.monotonic() - started
        # An HTTP date has no fraction: assume the middle of its second.
        skew_s = (before - theirs).total_seconds() + took_s / 2 - tolerance_s / 2
        if abs(skew_s) > MOST_SKEW_S + tolerance_s:
            yield report_warning(f"this clock is {skew_s:+.1f} s off that of {name}", _REMEDY)
        else:
            yield report_ok(f"this clock is {skew_s:+.1f} s off that of {name}")


def _read_postgres(parts: Parts) -> datetime:
    with connection(parts.engine) as conn:
        conn.execute(text("SELECT 1"))
        return cast("datetime", conn.execute(text("SELECT clock_timestamp()")).scalar_one())


def _read_redis(parts: Parts) -> datetime:
    seconds, microseconds = parts.redis.time()
    return datetime.fromtimestamp(seconds + microseconds / 1e6, UTC)


def _read_infobip(parts: Parts) -> datetime:
    url = urlsplit(parts.settings.require("infobip_base_url"))
    connection = (
        HTTPSConnection(url.hostname or "", url.port, timeout=_TIMEOUT_S, context=_make_context())
        if url.scheme == "https"
        else HTTPConnection(url.hostname or "", url.port, timeout=_TIMEOUT_S)
    )
    try:
        connection.request("HEAD", "/")
        return parsedate_to_datetime(connection.getresponse().getheader("Date") or "")
    finally:
        connection.close()


def _make_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    # A slim container has no certificate authorities.
    context.load_verify_locations(certifi.where())
    return context
