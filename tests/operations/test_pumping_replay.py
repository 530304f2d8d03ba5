"""A small day with an attack in it, replayed through the real guard: what it costs stays within the promise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.pumping import Replay
from benchmarks.pumping_traffic import Attack, World
from otpqueue.domain.guard import Mode, Policy
from otpqueue.store.engine import make_engine

# A tenth of the benchmark's day, so that budgets that do not grow with the traffic are a tenth as well.
POLICY = Policy(country_floor_hour=1, country_floor_day=2, total_floor_hour=3, total_floor_day=6)
SMALL = {"numbers": 1000, "prefixes": 200, "addresses": 50}


@pytest.fixture
def replay(database_url: str) -> Iterator[Replay]:
    """Yield a replay over an empty database."""
    engine = make_engine(database_url, pool_size=2)
    yield Replay(engine, World(daily=2000), POLICY)
    engine.dispose()
