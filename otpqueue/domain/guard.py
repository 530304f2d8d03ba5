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
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

LEARNT_DAYS = 14
"""How far back verified sends make a block known and a budget large."""

BLOCK_DIGITS = 4
"""How many digits at a number's end its block leaves open."""

TOTAL = "*"
"""The subject that the chances of all countries are counted under."""

OWN_SENDS = 3
"""How many codes one unknown number of a new block may have in hand or have let lapse in a day."""


class GuardMode(StrEnum):
    """What the guard does with what it finds."""

    OFF = "off"
    SHADOW = "shadow"
    ENFORCE = "enforce"


class CountedAs(StrEnum):
    """As what a send is counted."""

    KNOWN = "known"
    NEW = "new"
    REFUSED = "refused"
    """In shadow mode: sent although it would have been refused."""


class GuardReason(StrEnum):
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


def hour_of(at: datetime) -> datetime:
    """Return the hour that something at this time is counted in."""
    return at.replace(minute=0, second=0, microsecond=0)


def block_of(digits: str) -> str:
    """Return the block of an E.164 number without its plus sign: all but its last four digits.

    So a block is 10 000 numbers in every country, whatever the shape of its numbers. A thousand would split
    people so finely that most blocks are new; a hundred thousand would let a range of an honest carrier vouch
    for one that is rented next to it.
    """
    return digits[:-BLOCK_DIGITS]


@dataclass(frozen=True, kw_only=True)
class CountedSend:
    """A send for the guard: its block and, once it is counted, as what and in the hour of which moment."""

    block: str
    standing: CountedAs | None = None
    """None in shadow mode, where the worker counts it after the claim."""
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class GuardPolicy:
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
class SendWindow:
    """Sends of some time, and how many of them are verified."""

    sent: int = 0
    verified: int = 0

    @property
    def at_risk(self) -> int:
        """How many are not verified: some still may be."""
        return max(self.sent - self.verified, 0)

    def plus(self, sent: int) -> SendWindow:
        """Return this with more sends, not verified."""
        return SendWindow(sent=self.sent + sent, verified=self.verified) if sent else self


@dataclass(frozen=True, kw_only=True)
class BlockTally:
    """What is counted of a block, or of the chances of a country or of all countries."""

    now: SendWindow = field(default_factory=SendWindow)
    """This hour of the clock."""
    hour: SendWindow = field(default_factory=SendWindow)
    """This hour and the one before."""
    day: SendWindow = field(default_factory=SendWindow)
    """This hour and the 23 before."""
    best_hour: int = 0
    """The most verified sends of an hour in the last 14 days."""
    best_day: int = 0
    refused: int = 0
    """Tries that were, or in shadow mode would have been, refused in the last 24 hours."""

    def with_send(self, at: datetime, *, now: datetime) -> BlockTally:
        """Return this with one more send, counted in the hour of `at`."""
        hours = (hour_of(now) - hour_of(at)) / timedelta(hours=1)
        return replace(
            self, now=self.now.plus(hours < 1), hour=self.hour.plus(hours < 2), day=self.day.plus(hours < 24)
        )


EMPTY = BlockTally()
_NOTHING = SendWindow()


@dataclass(frozen=True, kw_only=True)
class NumberFacts:
    """What is known of the number that asks, over all clients."""

    verified: bool = False
    """In the last 14 days."""
    own: int = 0
    """Its sends of the last 24 hours that are not verified; they do not stand in its own way."""


_STRANGER = NumberFacts()


@dataclass(frozen=True, kw_only=True)
class GuardDecision:
    """What the guard decided, and the figures that made it."""

    allowed: bool
    why: GuardReason
    standing: CountedAs
    at_risk: int = 0
    budget: float = 0
    tries_new_block: bool = False
    """Whether it counts as a try of its address at a new block; asking again for the same number does not."""

    @property
    def room(self) -> float:
        """How many more unverified sends there may be, this one included."""
        return self.budget - self.at_risk


@dataclass(frozen=True, kw_only=True)
class GuardFacts:
    """What the guard knows when it decides on one send."""

    number: NumberFacts
    block: BlockTally = EMPTY
    excepted: bool = False
    """Whether an operator lets everything for its country or prefix through for now."""
    country: BlockTally = EMPTY
    """The chances of new blocks of its country. This and what follows matter only if its block is new."""
    total: BlockTally = EMPTY
    """The chances of new blocks of all countries."""
    address: SendWindow | None = None
    """What new blocks had from its address in the last 24 hours; None where the address is not known."""


def budget(floor: float, share: float, *verified: int) -> float:
    """Return how many sends may be unverified where so many were verified, at best."""
    return floor + share * max(verified, default=0)


def decide(policy: GuardPolicy, facts: GuardFacts) -> GuardDecision:
    """Decide on one send."""
    decision = decide_known(policy, facts.number, facts.block, allowed=facts.excepted)
    return decision or decide_new(
        policy,
        facts.number,
        facts.block,
        country=facts.country,
        total=facts.total,
        address=facts.address,
    )


def decide_known(
    policy: GuardPolicy, number: NumberFacts, block: BlockTally, *, allowed: bool
) -> GuardDecision | None:
    """Decide on a number that is verified, or whose block is known or allowed by an operator.

    None for a new block: `decide_new` must look at more.
    """
    if allowed or number.verified:
        why = GuardReason.OPERATOR if allowed else GuardReason.NUMBER_VERIFIED
        return GuardDecision(allowed=True, why=why, standing=CountedAs.KNOWN, budget=math.inf)
    if not block.best_day:
        return None
    at_risk = max(block.day.at_risk - number.own, 0)
    may = budget(policy.block_floor, policy.share, block.best_day)
    within = at_risk < may
    return GuardDecision(
        allowed=within,
        why=GuardReason.KNOWN_BLOCK if within else GuardReason.BLOCK_BUDGET,
        standing=CountedAs.KNOWN if within else CountedAs.REFUSED,
        at_risk=at_risk,
        budget=may,
    )


def decide_new(
    policy: GuardPolicy,
    number: NumberFacts,
    block: BlockTally,
    *,
    country: BlockTally,
    total: BlockTally,
    address: SendWindow | None,
) -> GuardDecision:
    """Decide on the chance of a new block. `address` is what new blocks had from it in the last 24 hours."""

    def refused(why: GuardReason, at_risk: int, may: float) -> GuardDecision:
        return GuardDecision(
            allowed=False,
            why=why,
            standing=CountedAs.REFUSED,
            at_risk=at_risk,
            budget=may,
            tries_new_block=not number.own,
        )

    if address is not None and not number.own:
        may = budget(policy.address_floor, policy.share, address.verified)
        if address.at_risk >= may:
            return refused(GuardReason.ADDRESS_BUDGET, address.at_risk, may)
    others = max(block.day.at_risk - number.own, 0)
    if others or number.own >= OWN_SENDS:
        return refused(GuardReason.CHANCE_USED, block.day.at_risk, 1)
    # Attackers come back to a block that was refused, again and again: while budgets recover they would take
    # all there is. So those blocks wait until chances in their country are seen to be verified: a launch.
    may = policy.share * country.hour.verified
    if block.refused and country.hour.at_risk >= may:
        return refused(GuardReason.REFUSED_BEFORE, country.hour.at_risk, may)
    share = policy.share
    for why, window, floor, best in (
        (GuardReason.COUNTRY_HOUR, country.hour, policy.country_floor_hour, country.best_hour),
        (GuardReason.COUNTRY_DAY, country.day, policy.country_floor_day, country.best_day),
        (GuardReason.TOTAL_HOUR, total.hour, policy.total_floor_hour, total.best_hour),
        (GuardReason.TOTAL_DAY, total.day, policy.total_floor_day, total.best_day),
    ):
        may = budget(floor, share, window.verified, best)
        if window.at_risk >= may:
            return refused(why, window.at_risk, may)
    return GuardDecision(
        allowed=True,
        why=GuardReason.CHANCE,
        standing=CountedAs.NEW,
        at_risk=others,
        budget=1,
        tries_new_block=not number.own,
    )


@dataclass(frozen=True, kw_only=True)
class BatchSend:
    """A send of a batch."""

    digits: str
    """The number without its plus sign."""
    block: str
    country: str
    address: bytes | None
    """The hash of the address that asks; None where it is not known, and for a resend, which is no try."""
    at: datetime
    """When its request was accepted: its sends are counted in that hour."""


class GuardBatch:
    """Decides on sends one after another, each as if those before it were counted already."""

    def __init__(
        self,
        policy: GuardPolicy,
        *,
        numbers: Mapping[str, NumberFacts],
        tallies: Mapping[str, BlockTally],
        addresses: Mapping[bytes, SendWindow],
        excepted: tuple[str, ...],
        now: datetime,
    ) -> None:
        """Begin with what was counted before: by digits, by subject, by hash of address.

        `excepted` are the countries and first digits that an operator lets through.
        """
        self._policy, self._excepted, self._now = policy, excepted, now
        self._numbers, self._tallies, self._addresses = dict(numbers), dict(tallies), dict(addresses)

    def decide(self, send: BatchSend) -> GuardDecision:
        """Decide on a send, and count it for those that follow."""
        number = self._numbers.get(send.digits, _STRANGER)
        decision = decide(
            self._policy,
            GuardFacts(
                number=number,
                block=self._tallies.get(send.block, EMPTY),
                excepted=any(send.country == one or send.digits.startswith(one) for one in self._excepted),
                country=self._tallies.get(send.country, EMPTY),
                total=self._tallies.get(TOTAL, EMPTY),
                address=self._addresses.get(send.address, _NOTHING) if send.address else None,
            ),
        )
        if send.address and decision.tries_new_block:
            self._addresses[send.address] = self._addresses.get(send.address, _NOTHING).plus(1)
        if decision.allowed:
            self._numbers[send.digits] = replace(number, own=number.own + 1)
            chance = (TOTAL, send.country) if decision.standing is CountedAs.NEW else ()
            for subject in (*chance, send.block):
                counted = self._tallies.get(subject, EMPTY)
                self._tallies[subject] = counted.with_send(send.at, now=self._now)
        else:
            block = self._tallies.get(send.block, EMPTY)
            self._tallies[send.block] = replace(block, refused=block.refused + 1)
        return decision
