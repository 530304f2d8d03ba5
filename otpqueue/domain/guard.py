"""The pumping guard: limits sends that are not verified.

Traffic pumping (artificially inflated traffic, AIT) sends codes to number ranges that earn their owner
money per message. No person enters these codes. The guard therefore counts sends that are not verified
against budgets of `floor + share * verified`:

- A number that was verified in the last 14 days is always sent to.
- A *block* (10 000 numbers) with a verification in the last 14 days is *known*. It has a daily budget.
- Any other block is *new*. It gets one chance a day. All chances together have budgets per hour and per day,
  in their country and over all countries, and a budget per requesting address. A verified chance is given
  back and makes its block known.

Only verified sends raise a budget, so an attacker cannot raise one by waiting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum

LEARNT_DAYS = 14
"""How many days a verified send makes its block known and raises budgets."""

BLOCK_DIGITS = 4
"""How many trailing digits of a number vary within its block."""

TOTAL = "*"
"""The subject that counts the chances of all countries."""

OWN_SENDS = 3
"""How many pending or expired codes one unverified number of a new block may have per day."""


class GuardMode(StrEnum):
    """What the guard does with its decisions."""

    OFF = "off"
    SHADOW = "shadow"
    ENFORCE = "enforce"


class CountedAs(StrEnum):
    """The category that a send is counted in."""

    KNOWN = "known"
    NEW = "new"
    REFUSED = "refused"
    """In shadow mode: sent although enforce mode would have refused it."""


class GuardReason(StrEnum):
    """The reason of a decision."""

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


def truncate_to_hour(at: datetime) -> datetime:
    """Return the hour that counts a send at this time."""
    return at.replace(minute=0, second=0, microsecond=0)


def get_block(digits: str) -> str:
    """Return the block of an E.164 number without its plus sign: all but its last four digits.

    A block is 10 000 numbers in every country, whatever its numbering plan. With blocks of 1 000 most blocks
    would be new. With blocks of 100 000 an honest carrier's range would make a rented range next to it known.
    """
    return digits[:-BLOCK_DIGITS]


@dataclass(frozen=True, kw_only=True)
class CountedSend:
    """A send as the guard counts it."""

    block: str
    counted_as: CountedAs | None = None
    """None in shadow mode, where the worker counts the send after the claim."""
    at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class GuardPolicy:
    """The budgets. Each floor is a number of unverified sends in the period that its name says."""

    share: float = 0.5
    """Multiplied by the most verified sends of an hour or day in the last 14 days or in progress."""
    block_floor: int = 3
    country_floor_hour: int = 5
    country_floor_day: int = 10
    total_floor_hour: int = 15
    total_floor_day: int = 40
    address_floor: int = 2


@dataclass(frozen=True, kw_only=True)
class SendWindow:
    """The sends of a period, and how many of them are verified."""

    sent: int = 0
    verified: int = 0

    @property
    def at_risk(self) -> int:
        """Sends that are not verified. Some may still be."""
        return max(self.sent - self.verified, 0)

    def add_sends(self, sent: int) -> SendWindow:
        """Return the window with `sent` more unverified sends."""
        return SendWindow(sent=self.sent + sent, verified=self.verified) if sent else self


@dataclass(frozen=True, kw_only=True)
class BlockTally:
    """The counts of a block, or of the chances in one country or in all countries."""

    now: SendWindow = field(default_factory=SendWindow)
    """The current clock hour."""
    hour: SendWindow = field(default_factory=SendWindow)
    """The current clock hour and the previous one."""
    day: SendWindow = field(default_factory=SendWindow)
    """The current clock hour and the previous 23."""
    best_hour: int = 0
    """The highest number of verified sends in one hour of the last 14 days."""
    best_day: int = 0
    refused: int = 0
    """Sends of the last 24 hours that were refused, or in shadow mode would have been."""

    def add_send(self, at: datetime, *, now: datetime) -> BlockTally:
        """Return the counts with one more send, counted in the hour of `at`."""
        hours = (truncate_to_hour(now) - truncate_to_hour(at)) / timedelta(hours=1)
        return replace(
            self,
            now=self.now.add_sends(hours < 1),
            hour=self.hour.add_sends(hours < 2),
            day=self.day.add_sends(hours < 24),
        )


EMPTY = BlockTally()
NO_SENDS = SendWindow()


@dataclass(frozen=True, kw_only=True)
class NumberFacts:
    """What is stored about the requested number, over all clients."""

    verified: bool = False
    """Whether it was verified in the last 14 days."""
    own: int = 0
    """Its unverified sends of the last 24 hours. They do not use up the block's budget for this number."""


UNKNOWN_NUMBER = NumberFacts()


@dataclass(frozen=True, kw_only=True)
class GuardDecision:
    """The guard's decision and the figures behind it."""

    allowed: bool
    why: GuardReason
    counted_as: CountedAs
    at_risk: int = 0
    budget: float = 0
    tries_new_block: bool = False
    """Whether it counts for the budget of its address. A repeated request for a number does not."""

    @property
    def remaining(self) -> float:
        """How many more unverified sends the budget admits, this one included."""
        return self.budget - self.at_risk


@dataclass(frozen=True, kw_only=True)
class GuardFacts:
    """The input of one decision."""

    number: NumberFacts
    block: BlockTally = EMPTY
    excepted: bool = False
    """Whether an operator has allowed its country or prefix for now."""
    country: BlockTally = EMPTY
    """The chances of new blocks in its country. This and the following fields matter only for a new block."""
    total: BlockTally = EMPTY
    """The chances of new blocks in all countries."""
    address: SendWindow | None = None
    """Sends to new blocks from its address in the last 24 hours. None if the address is unknown."""


def compute_budget(floor: float, share: float, *verified: int) -> float:
    """Return how many sends may be unverified, from the highest of the `verified` counts."""
    return floor + share * max(verified, default=0)


def decide_send(policy: GuardPolicy, facts: GuardFacts) -> GuardDecision:
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
    """Decide on a number that is verified, or in a block that is known or allowed by an operator.

    Returns None for a new block. Then `decide_new` must decide.
    """
    if allowed or number.verified:
        why = GuardReason.OPERATOR if allowed else GuardReason.NUMBER_VERIFIED
        return GuardDecision(allowed=True, why=why, counted_as=CountedAs.KNOWN, budget=math.inf)
    if not block.best_day:
        return None
    at_risk = max(block.day.at_risk - number.own, 0)
    may = compute_budget(policy.block_floor, policy.share, block.best_day)
    within = at_risk < may
    return GuardDecision(
        allowed=within,
        why=GuardReason.KNOWN_BLOCK if within else GuardReason.BLOCK_BUDGET,
        counted_as=CountedAs.KNOWN if within else CountedAs.REFUSED,
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
    """Decide on the chance of a new block. `address` counts its sends to new blocks in the last 24 hours."""

    def refused(why: GuardReason, at_risk: int, may: float) -> GuardDecision:
        return GuardDecision(
            allowed=False,
            why=why,
            counted_as=CountedAs.REFUSED,
            at_risk=at_risk,
            budget=may,
            tries_new_block=not number.own,
        )

    if address is not None and not number.own:
        may = compute_budget(policy.address_floor, policy.share, address.verified)
        if address.at_risk >= may:
            return refused(GuardReason.ADDRESS_BUDGET, address.at_risk, may)
    others = max(block.day.at_risk - number.own, 0)
    if others or number.own >= OWN_SENDS:
        return refused(GuardReason.CHANCE_USED, block.day.at_risk, 1)
    # Attackers retry refused blocks, and would use up each budget as it recovers. Such a block therefore
    # waits until chances in its country are verified, as they are when a client launches there.
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
        may = compute_budget(floor, share, window.verified, best)
        if window.at_risk >= may:
            return refused(why, window.at_risk, may)
    return GuardDecision(
        allowed=True,
        why=GuardReason.CHANCE,
        counted_as=CountedAs.NEW,
        at_risk=others,
        budget=1,
        tries_new_block=not number.own,
    )
