"""The pumping guard: whether one more code that nobody may type is still within bounds.

Artificially inflated traffic sends codes to ranges of numbers that earn their owner money, and nobody types
them. What tells it from people is that people verify. So sends that are not verified are held against
budgets, each `floor + share * verified`:

- a number that was verified in the last 14 days is sent to;
- a *block* (10 000 numbers) in which somebody verified in the last 14 days is *known* and has a budget a day;
- any other block is *new*: it gets one chance a day, and all chances together are bounded per hour and day,
  in its country, over all countries, and for the address that asks. A chance that is verified is given back
  and makes the block known.

Only verified sends raise a budget, so nobody teaches the guard anything by being patient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

LEARNT_DAYS = 14
"""How far back verified sends make a block known and a budget large."""

BLOCK_DIGITS = 4
"""How many digits at a number's end its block leaves open."""

OWN_SENDS = 3
"""How many codes one unknown number of a new block may have in hand or have let lapse in a day."""


class Mode(StrEnum):
    """What the guard does with what it finds."""

    OFF = "off"
    SHADOW = "shadow"
    ENFORCE = "enforce"


class Standing(StrEnum):
    """As what a send is counted."""

    KNOWN = "known"
    NEW = "new"
    REFUSED = "refused"
    """In shadow mode: sent although it would have been refused."""


class Why(StrEnum):
    """Why the guard decided as it did."""

    OPERATOR = "operator"
    NUMBER_VERIFIED = "number_verified"
    KNOWN_BLOCK = "known_block"
    CHANCE = "chance"
    BLOCK_BUDGET = "block_budget"
    CHANCE_USED = "chance_used"
    ADDRESS_BUDGET = "address_budget"
    REFUSED_BEFORE = "refused_before"
    COUNTRY_HOUR = "country_hour"
    COUNTRY_DAY = "country_day"
    TOTAL_HOUR = "total_hour"
    TOTAL_DAY = "total_day"


def block_of(digits: str) -> str:
    """Return the block of an E.164 number without its plus sign: all but its last four digits.

    So a block is 10 000 numbers in every country, whatever the shape of its numbers. A thousand would split
    people so finely that most blocks are new; a hundred thousand would let a range of an honest carrier vouch
    for one that is rented next to it.
    """
    return digits[:-BLOCK_DIGITS]


@dataclass(frozen=True, kw_only=True)
class Counted:
    """A send as it was counted: of which block, as what, and in the hour of which moment."""

    block: str
    standing: Standing
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The budgets. Floors are sends that are not verified, in the time that the name says."""

    share: float = 0.5
    """Of the most that was verified in an hour or day of the last 14 days, or is being verified now."""
    block_floor: int = 3
    country_floor_hour: int = 5
    country_floor_day: int = 10
    total_floor_hour: int = 15
    total_floor_day: int = 40
    address_floor: int = 2


@dataclass(frozen=True, kw_only=True)
class Window:
    """Sends of some time, and how many of them are verified."""

    sent: int = 0
    verified: int = 0

    @property
    def at_risk(self) -> int:
        """How many are not verified: some still may be."""
        return max(self.sent - self.verified, 0)


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What is counted of a block, or of the chances of a country or of all countries."""

    now: Window = field(default_factory=Window)
    """This hour of the clock."""
    hour: Window = field(default_factory=Window)
    """This hour and the one before."""
    day: Window = field(default_factory=Window)
    """This hour and the 23 before."""
    best_hour: int = 0
    """The most verified sends of an hour in the last 14 days."""
    best_day: int = 0
    refused: int = 0
    """Tries that were, or in shadow mode would have been, refused in the last 24 hours."""


EMPTY = Tally()


@dataclass(frozen=True, kw_only=True)
class Number:
    """What is known of the number that asks, over all clients."""

    verified: bool = False
    """In the last 14 days."""
    own: int = 0
    """Its sends of the last 24 hours that are not verified; they do not stand in its own way."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the guard decided, and the figures that made it."""

    allowed: bool
    why: Why
    standing: Standing
    at_risk: int = 0
    budget: float = 0

    @property
    def room(self) -> float:
        """How many more unverified sends there may be, this one included."""
        return self.budget - self.at_risk


def budget(floor: float, share: float, *verified: int) -> float:
    """Return how many sends may be unverified where so many were verified, at best."""
    return floor + share * max(verified, default=0)


def decide_known(policy: Policy, number: Number, block: Tally, *, allowed: bool) -> Decision | None:
    """Decide on a number that is verified, or whose block is known or allowed by an operator.

    None for a new block: `decide_new` must look at more.
    """
    if allowed or number.verified:
        why = Why.OPERATOR if allowed else Why.NUMBER_VERIFIED
        return Decision(allowed=True, why=why, standing=Standing.KNOWN, budget=math.inf)
    if not block.best_day:
        return None
    at_risk = max(block.day.at_risk - number.own, 0)
    may = budget(policy.block_floor, policy.share, block.best_day)
    within = at_risk < may
    return Decision(
        allowed=within,
        why=Why.KNOWN_BLOCK if within else Why.BLOCK_BUDGET,
        standing=Standing.KNOWN if within else Standing.REFUSED,
        at_risk=at_risk,
        budget=may,
    )


def decide_new(
    policy: Policy, number: Number, block: Tally, *, country: Tally, total: Tally, address: Window | None
) -> Decision:
    """Decide on the chance of a new block. `address` is what new blocks had from it in the last 24 hours."""

    def refused(why: Why, at_risk: int, may: float) -> Decision:
        return Decision(allowed=False, why=why, standing=Standing.REFUSED, at_risk=at_risk, budget=may)

    if address is not None and not number.own:
        may = budget(policy.address_floor, policy.share, address.verified)
        if address.at_risk >= may:
            return refused(Why.ADDRESS_BUDGET, address.at_risk, may)
    others = max(block.day.at_risk - number.own, 0)
    if others or number.own >= OWN_SENDS:
        return refused(Why.CHANCE_USED, block.day.at_risk, 1)
    # Attackers come back to a block that was refused, again and again: while budgets recover they would take
    # all there is. So those blocks wait until chances in their country are seen to be verified: a launch.
    may = policy.share * country.hour.verified
    if block.refused and country.hour.at_risk >= may:
        return refused(Why.REFUSED_BEFORE, country.hour.at_risk, may)
    share = policy.share
    for why, window, floor, best in (
        (Why.COUNTRY_HOUR, country.hour, policy.country_floor_hour, country.best_hour),
        (Why.COUNTRY_DAY, country.day, policy.country_floor_day, country.best_day),
        (Why.TOTAL_HOUR, total.hour, policy.total_floor_hour, total.best_hour),
        (Why.TOTAL_DAY, total.day, policy.total_floor_day, total.best_day),
    ):
        may = budget(floor, share, window.verified, best)
        if window.at_risk >= may:
            return refused(why, window.at_risk, may)
    return Decision(allowed=True, why=Why.CHANCE, standing=Standing.NEW, at_risk=others, budget=1)
