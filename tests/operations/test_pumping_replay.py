"""A short replay of a day with an attack through the real guard, within the promised bounds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.pumping import Replay
from benchmarks.pumping_traffic import Attack, World
from otpqueue.domain.guard import GuardMode
from otpqueue.store.engine import make_engine

# A tenth of the benchmark's attack, and up to a twenty-fifth of its people with a tenth of their blocks.
ATTACK = Attack(numbers=1000, prefixes=20, addresses=50)


@pytest.fixture(params=[800, pytest.param(2000, marks=pytest.mark.full)])
def people(request: pytest.FixtureRequest) -> int:
    """Return how many people ask for a code."""
    return int(request.param)


@pytest.fixture
def replay(database_url: str, people: int) -> Iterator[Replay]:
    """Yield a replay over an empty database."""
    engine = make_engine(database_url, pool_size=2)
    yield Replay(engine, World(daily=people, share_of_blocks=0.1))
    engine.dispose()


def test_attack_is_stopped_and_people_are_not(replay: Replay, people: int) -> None:
    """An attack in the largest country gets at most 1 % of its attempts.

    At most 0.5 % of people are refused.
    """
    limited = replay.limits_only(ATTACK)
    held = replay.guarded(ATTACK, GuardMode.ENFORCE)

    assert limited.sent[True] == held.tries[True] == 1000
    assert held.tries[False] == people
    assert held.attack_share(held.sent[True]) <= 0.01
    assert held.honest_lost <= 0.005


@pytest.mark.full
def test_shadow_mode_says_so_before(replay: Replay) -> None:
    """Shadow mode sends everything, and reports after the claims nearly what enforce mode refuses."""
    seen = replay.guarded(ATTACK, GuardMode.SHADOW)

    assert seen.sent[True] == seen.tries[True] - seen.limited[True]
    assert seen.attack_share(seen.sent[True] - seen.flagged[True]) <= 0.01
    assert seen.honest_lost <= 0.005
