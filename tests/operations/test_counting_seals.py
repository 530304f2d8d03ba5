"""The seals of each seal key: counted with heartbeats, shown, and alerted on in time."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from otpqueue import clock
from otpqueue.domain.alert_rules import RULES
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.heartbeats import ProcessKind
from otpqueue.operations.privacy.count_seals import count_seals
from otpqueue.store.engine import connection
from otpqueue.store.privacy import seal_counts
from otpqueue.store.vault import MOST_SEALS
from otpqueue.wiring import Parts
from tests.conftest import Ask, MakeParts
from tests.operations.looking import at_once, numbers


def counted(parts: Parts) -> dict[str, int]:
    """Return the counts that are stored."""
    with connection(parts.engine) as conn:
        return dict(seal_counts.read_counts(conn))


def test_requests_are_counted_with_the_heartbeat(parts: Parts, ask: Ask) -> None:
    """A request is one seal. Heartbeats store the count, and those of several processes add up."""
    heart = parts.make_heartbeat_reporter(ProcessKind.API)
    for number in numbers(3):
        ask(number)
    assert counted(parts) == {}

    heart.beat()
    heart.beat()
    assert counted(parts) == {"k1": 3}

    ask("+447700900500")
    heart.stop()
    assert counted(parts) == {"k1": 4}


def test_no_seal_is_missed_by_many_threads(parts: Parts) -> None:
    """Concurrent seals are counted now or with the next heartbeat."""
    taken: list[int] = []
    with ThreadPoolExecutor(1) as other:
        taking = other.submit(lambda: taken.extend(parts.vault.take_seals() for _ in range(2000)))
        at_once([lambda: [parts.vault.seal("x", row_id=uuid4()) for _ in range(100)]] * 8)
        taking.result(60)

    assert sum(taken) + parts.vault.take_seals() == 800


def test_count_outlives_an_outage(parts: Parts, make_parts: MakeParts) -> None:
    """A count that could not be stored is stored the next time."""
    away = make_parts(
        DATABASE_URL="postgresql://unknown@127.0.0.1:1/none", OTPQUEUE_TUNING_DATABASE_WAIT_S="0.2"
    )
    parts.vault.seal("x", row_id=uuid4())
    with pytest.raises(DatabaseUnavailable):
        count_seals(away.engine, parts.vault)

    count_seals(parts.engine, parts.vault)

    assert counted(parts) == {"k1": 1}


def test_alert_in_time(parts: Parts, make_parts: MakeParts, environment: dict[str, str]) -> None:
    """The alert opens at half of the maximum and resolves with another primary key.

    Rotation counts for that key.
    """
    rule = RULES["seal_key_worn"]
    with connection(parts.engine) as conn:
        seal_counts.add(conn, "k1", MOST_SEALS // 2 - 1)
    (before,) = parts.evaluate_alerts.measure_rule(rule, None, clock.now()).measures
    with connection(parts.engine) as conn:
        seal_counts.add(conn, "k1", 1)
    (after,) = parts.evaluate_alerts.measure_rule(rule, None, clock.now()).measures
    newer = "k2:" + base64.b64encode(b"n" * 32).decode()
    rotated = make_parts(OTPQUEUE_SEAL_KEYS=f"{newer},{environment['OTPQUEUE_SEAL_KEYS']}")
    (replaced,) = rotated.evaluate_alerts.measure_rule(rule, None, clock.now()).measures

    assert (before.value < rule.threshold, after.value, replaced.value) == (True, rule.threshold, 0)
    assert after.figures == {"key_id": "k1", "seals": 2**31, "most_seals": 2**32}


def test_rotation_is_counted(
    parts: Parts, make_parts: MakeParts, ask: Ask, environment: dict[str, str]
) -> None:
    """Each number that is sealed again is a seal of the new key."""
    for number in numbers(3):
        ask(number)
    newer = "k2:" + base64.b64encode(b"n" * 32).decode()
    rotated = make_parts(OTPQUEUE_SEAL_KEYS=f"{newer},{environment['OTPQUEUE_SEAL_KEYS']}")

    sealed = rotated.rotate_seal(progress=lambda *_: None)

    assert sealed.seals == {"k2": 3}
    assert counted(parts) == {"k2": 3}
