"""One client's backlog, cap or unreadable settings do not affect the codes of others."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from otpqueue import clock
from otpqueue.domain.errors import DailyCapReached
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.operations.request import RequestedCode
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, MakeParts, Provider
from tests.operations.looking import Rows


def ask_of(parts: Parts, client: UUID, place: int) -> OtpRequest:
    """Request a code for one of a thousand numbers."""
    return parts.request(
        RequestedCode(phone_number=f"+447700900{place:03}"), client_id=client, now=clock.now()
    )


def client_of(parts: Parts, name: str) -> UUID:
    """Return the id of a client."""
    return parts.keys.client_id(name, now=clock.now())


def store_settings(parts: Parts, client: UUID, settings: str) -> None:
    """Store settings as JSON without validation."""
    with connection(parts.engine) as conn:
        conn.execute(
            text("UPDATE clients SET settings = CAST(:settings AS jsonb) WHERE id = :id"),
            {"settings": settings, "id": client},
        )


def test_a_backlog_of_one_client_does_not_end_the_codes_of_another(
    parts: Parts, make_parts: MakeParts, provider: Provider
) -> None:
    """With more codes than can be sent in time, the busy client loses some, and the other client none."""
    slow = make_parts(
        **NO_LIMITS,
        OTPQUEUE_GUARD="off",
        OTPQUEUE_SENDER_THREADS="4",
        OTPQUEUE_SEND_WITHIN_S="4",
        OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S="3",
        OTPQUEUE_TUNING_SEND_LEASE_S="10",
        OTPQUEUE_TUNING_CHECK_LEASE_S="8",
        OTPQUEUE_TUNING_JOB_S="20",
    )
    provider.fault(latency_ms=500, times=10_000)
    flood, other = client_of(slow, "flood"), client_of(slow, "other")
    for place in range(80):
        ask_of(slow, flood, place)
    mine = [ask_of(slow, other, 900 + place) for place in range(3)]

    slow.pump.run()
    time.sleep(1)
    slow.sweep(now=clock.now())

    assert [slow.status(one.id, client_id=other).status for one in mine] == [Status.SENT] * 3


@pytest.mark.parametrize("cap", [2, 5, 9])
def test_one_client_does_not_use_up_the_day_of_another(
    parts: Parts, make_parts: MakeParts, rows: Rows, cap: int
) -> None:
    """A client gets its default share and then a refusal that explains it. The other client is served."""
    capped = make_parts(**NO_LIMITS, OTPQUEUE_GUARD="off", OTPQUEUE_DAILY_CAP=str(cap))
    flood, other = client_of(capped, "flood"), client_of(capped, "other")
    for place in range(cap):
        ask_of(capped, flood, place)

    capped.pump.run()

    sent = [row for row in rows.requests() if row["status"] == "sent"]
    assert len(sent) == max(1, cap // 2)
    now = clock.now()
    with pytest.raises(DailyCapReached, match="its share of the codes") as caught:
        ask_of(capped, flood, 100)
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    assert caught.value.retry_after_s is not None
    assert abs(caught.value.retry_after_s - (midnight - now).total_seconds()) < 5
    assert [row["reason"] for row in rows.refusals()] == ["daily_cap_share"]
    request = ask_of(capped, other, 900)
    capped.pump.run()
    assert capped.status(request.id, client_id=other).status is Status.SENT
    lines = {line.what: line.cap for line in capped.switch.status(now=clock.now()).lines}
    assert lines["client flood"] == max(1, cap // 2)


@pytest.mark.parametrize(
    ("settings", "own", "accepted"),
    [
        ({}, '{"daily_cap": 4}', True),
        ({"OTPQUEUE_DAILY_CAP_CLIENT_SHARE": "none"}, "{}", True),
        ({"OTPQUEUE_DAILY_CAP_CLIENT_SHARE": "1"}, "{}", True),
        ({"OTPQUEUE_DAILY_CAP_PER_CLIENT": "4"}, "{}", True),
        ({"OTPQUEUE_DAILY_CAP_CLIENT_SHARE": "0.25"}, '{"daily_cap": "4/d"}', False),
    ],
)
def test_share_is_replaced_by_a_cap_and_can_be_switched_off(
    parts: Parts, make_parts: MakeParts, settings: dict[str, str], own: str, accepted: bool
) -> None:
    """A cap for one or each client replaces the share. `none` turns it off."""
    capped = make_parts(**NO_LIMITS, OTPQUEUE_GUARD="off", OTPQUEUE_DAILY_CAP="4", **settings)
    first, _ = client_of(capped, "first"), client_of(capped, "second")
    store_settings(capped, first, own)
    requests = [ask_of(capped, first, place) for place in range(4)]

    capped.pump.run()

    states = [capped.status(one.id, client_id=first).status for one in requests]
    assert states.count(Status.SENT) == (4 if accepted else 1)


def test_a_client_alone_may_use_the_whole_cap(parts: Parts, make_parts: MakeParts) -> None:
    """A single client may use the whole cap. Once there are others, its earlier use counts."""
    capped = make_parts(**NO_LIMITS, OTPQUEUE_GUARD="off", OTPQUEUE_DAILY_CAP="4")
    first = client_of(capped, "first")
    requests = [ask_of(capped, first, place) for place in range(3)]
    capped.pump.run()
    assert {capped.status(one.id, client_id=first).status for one in requests} == {Status.SENT}

    client_of(capped, "second")

    with pytest.raises(DailyCapReached, match="its share"):
        ask_of(capped, first, 100)


ODD: list[Any] = [
    '{"daily_cap": "5000/d"}',
    '{"daily_cap": {"soft": 3}, "languages": [null], "countries_allowed": [1]}',
    '{"limits": {"number_15m": 5, "key_rate": [], "number_day": null}}',
    '{"limits": "none"}',
    '["daily_cap"]',
    "null",
    '"daily_cap=5"',
]


def test_unreadable_settings_stop_no_client(parts: Parts, make_parts: MakeParts, client_id: UUID) -> None:
    """Acceptance, claims, statuses and alerts continue for all clients, including that one."""
    open_to_all = make_parts(**NO_LIMITS)
    odd = client_of(open_to_all, "odd")
    for settings in ODD:
        store_settings(open_to_all, odd, settings)
        mine, its = ask_of(open_to_all, client_id, 123), ask_of(open_to_all, odd, 124)

        open_to_all.pump.run()

        assert open_to_all.status(mine.id, client_id=client_id).status is Status.SENT, settings
        assert open_to_all.status(its.id, client_id=odd).status is Status.SENT, settings
        assert {one.name for one in open_to_all.clients.list()} == {"test", "odd"}, settings
    assert open_to_all.switch.status(now=clock.now()).lines
