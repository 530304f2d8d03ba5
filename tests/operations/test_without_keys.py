"""A copy of the database without keys narrows a number down to a block of 10 000, by the hour, at best.

The reader here joins what is stored in clear: the guard's blocks with the times of requests and refusals, and
any last digits beside a number's hash or a request's id. Traffic is minimal, one number an hour, because more
of it only hides a number among others.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from otpqueue import clock
from otpqueue.domain.errors import OtpqueueError
from otpqueue.domain.replay import IdempotentCall, StoredResponse
from otpqueue.operations.request import RequestedCode
from otpqueue.store.engine import connection
from otpqueue.store.schema import guard_decisions, guard_tallies, metadata, otp_requests, refusals
from otpqueue.wiring import Parts
from tests.conftest import MakeParts

IN_A_BLOCK = 10_000
NUMBERS = [f"+4474{1000 + place}00{10 + place}" for place in range(12)]
RULES = {"number_requests": {"threshold": 2, "opens_after": 1}}

_LAST_DIGITS = re.compile(r"\*{2,}(\d\d)(?!\d)")
_BLOCK = re.compile(r"\d+")


class Reader:
    """Reads a database without any key."""

    def __init__(self, parts: Parts) -> None:
        with connection(parts.engine) as conn:
            self.rows: dict[str, list[dict[str, Any]]] = {
                table.name: [dict(row) for row in conn.execute(select(table)).mappings()]
                for table in metadata.tables.values()
            }

    def candidates(self) -> dict[bytes, int]:
        """Return how many numbers each hash may belong to. Hashes without any clue are left out."""
        found = {}
        for number_hash, times in self._seen().items():
            possible = [self._blocks(country, at) for country, at in times]
            blocks = set.intersection(*possible) if all(possible) else set()
            if blocks:
                known = len(self._last_digits(number_hash))
                found[number_hash] = len(blocks) * (IN_A_BLOCK if known != 1 else IN_A_BLOCK // 100)
        return found

    def _seen(self) -> dict[bytes, list[tuple[str, datetime]]]:
        """Return the places and times of each number's rows."""
        seen = defaultdict(list)
        for table in (otp_requests.name, refusals.name):
            for row in self.rows[table]:
                if row["number_hash"]:
                    seen[row["number_hash"]].append((row["country"], row["created_at"]))
        return seen

    def _blocks(self, country: str, at: datetime) -> set[str]:
        """Return the blocks that were counted in this hour, or for a refusal with a block, in this minute."""
        minute = at.replace(second=0, microsecond=0)
        refused = {
            row["block"]
            for row in self.rows[guard_decisions.name]
            if (row["country"], row["minute"]) == (country, minute)
        }
        return refused or {
            row["subject"]
            for row in self.rows[guard_tallies.name]
            if _BLOCK.fullmatch(row["subject"])
            and (row["country"], row["hour"]) == (country, minute.replace(minute=0))
        }

    def _last_digits(self, number_hash: bytes) -> set[str]:
        """Return the last digits that are stored in clear in any row about a hash or its requests."""
        requests = {row["id"] for row in self.rows[otp_requests.name] if row["number_hash"] == number_hash}
        return {
            digits
            for row in self._leading_to(number_hash, requests)
            for value in row.values()
            for digits in _LAST_DIGITS.findall(
                value if isinstance(value, str) else json.dumps(value, default=str)
            )
        }

    def _leading_to(self, number_hash: bytes, requests: set[UUID]) -> Iterator[dict[str, Any]]:
        for rows in self.rows.values():
            for row in rows:
                if row.get("number_hash") == number_hash or row.get("request_id") in requests:
                    yield row


@pytest.fixture
def watched(make_parts: MakeParts, parts: Parts) -> Parts:
    """Return parts with limits, an enforcing guard, and alerts about numbers with three requests."""
    return make_parts(
        OTPQUEUE_GUARD="enforce",
        OTPQUEUE_TUNING_GUARD_COUNTRY_FLOOR_HOUR="100",
        OTPQUEUE_TUNING_GUARD_COUNTRY_FLOOR_DAY="1000",
        OTPQUEUE_ALERT_RULES=json.dumps(RULES),
    )


def test_no_number_is_narrowed_down_below_a_block(watched: Parts, client_id: UUID) -> None:
    """Requests, refusals, alerts, silences and stored responses, joined on ids, hashes and time."""
    start = clock.now() - timedelta(hours=len(NUMBERS))
    for place, number in enumerate(NUMBERS):
        now = start + timedelta(hours=place)
        watched.request.once(
            RequestedCode(phone_number=number),
            call=IdempotentCall(name="POST /v1/otp-requests", key=number, body=number),
            answer=lambda made: StoredResponse(status=202, body=json.dumps({"to": made.phone_number})),
            client_id=client_id,
            now=now,
        )
        for _ in range(5):
            with suppress(OtpqueueError):
                watched.request(RequestedCode(phone_number=number), client_id=client_id, now=now)
        # The guard refuses a second number of a new block.
        with suppress(OtpqueueError):
            watched.request(RequestedCode(phone_number=f"{number[:-2]}99"), client_id=client_id, now=now)
        watched.evaluate_alerts(now=now)
    desk, soon = watched.alert_admin, clock.now() + timedelta(hours=1)
    for alert in desk.list(rule="number_requests"):
        desk.silence_alert(alert.id, until=soon, by="anna", reason=None, every_subject=False)

    candidates = Reader(watched).candidates()

    # The reader works: minimal traffic does reveal the block of 10 000 of a number.
    assert len(candidates) == 2 * len(NUMBERS)
    assert min(candidates.values()) >= IN_A_BLOCK
