"""What a call costs in round trips and messages must not grow unnoticed: no machine changes these figures.

`python -m benchmarks counts` prints today's. A change that lowers one lowers it here, too.
"""

from __future__ import annotations

import pytest

from benchmarks import counts
from benchmarks.harness.stage import Otpqueue, Stage
from benchmarks.harness.wiretap import Traffic
from tests.conftest import TEMPLATE, Engines

# Postgres: round trips, statements, transactions; Redis: round trips, commands; Celery: messages published.
EXPECTED = {
    "accept": (1, 1, 1, 1, 1, 0),
    "accept, Idempotency-Key": (1, 1, 1, 1, 1, 0),
    "accept, new block": (1, 1, 1, 1, 1, 0),
    "poll": (1, 1, 1, 1, 1, 0),
    "verify": (2, 2, 2, 1, 1, 0),
    "verify, wrong code": (2, 2, 2, 1, 1, 0),
    # A sender's, after a pause, from the wake-up until it is idle again.
    "send, a code alone": (5, 5, 5, 7, 14, 0),
}
# For each code of a backlog. How many outcomes are recorded together varies, so these bounds have room.
DRAIN = {"PG round trips": 0.3, "PG statements": 0.3, "PG transactions": 0.3, "Redis round trips": 1.0}
STEADY_PUBLISHES = 0.2
"""Messages for each accept while a sender works on others."""

METRICS = (
    "PG round trips",
    "PG statements",
    "PG transactions",
    "Redis round trips",
    "Redis commands",
    "publishes",
)


@pytest.fixture(scope="module")
def said() -> dict[str, list[str]]:
    """Return what a call said last, for whoever reads a failure."""
    return {}


@pytest.fixture(scope="module")
def counted(engines: Engines, said: dict[str, list[str]]) -> dict[str, counts.Counts]:
    """Count all calls once."""

    def tell(name: str, traffic: Traffic) -> None:
        said[name] = traffic.said

    with Stage((engines.postgres, engines.valkey)) as on:
        return counts.count(on, Otpqueue("otpqueue", processes=1, migrated=TEMPLATE), show=tell)


@pytest.mark.parametrize("call", EXPECTED)
def test_a_call_costs_no_more_than_it_did(
    call: str, counted: dict[str, counts.Counts], said: dict[str, list[str]]
) -> None:
    """So many round trips, statements, transactions, commands and messages, and no more."""
    found = tuple(counted[call][metric] for metric in METRICS)
    more = {
        metric: (count, bound)
        for metric, count, bound in zip(METRICS, found, EXPECTED[call], strict=True)
        if count > bound
    }
    assert not more, "\n".join([call, *said[f"{call}, Postgres"], *said[f"{call}, Redis"]])


def test_a_backlog_costs_a_sender_no_more_per_code(counted: dict[str, counts.Counts]) -> None:
    """Outcomes are recorded many at a time."""
    found = counted["send, per code of a backlog"]
    assert {metric: found[metric] for metric, bound in DRAIN.items() if found[metric] > bound} == {}


def test_steady_load_publishes_no_more_messages(counted: dict[str, counts.Counts]) -> None:
    """A wake-up that is pending is not published again."""
    assert counted["steady load, per accept"]["publishes"] <= STEADY_PUBLISHES


def test_every_call_that_is_counted_has_an_expectation(counted: dict[str, counts.Counts]) -> None:
    """None is counted and then forgotten here."""
    others = {"steady load, per accept", "send, per code of a backlog"}
    assert counted.keys() - others == EXPECTED.keys()
