"""The pumping guard's decisions: only verified sends raise a budget."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpqueue.domain.guard import (
    EMPTY,
    OWN_SENDS,
    TOTAL,
    BlockTally,
    CountedAs,
    GuardDecision,
    GuardFacts,
    GuardPolicy,
    GuardReason,
    NumberFacts,
    SendWindow,
    compute_budget,
    decide_known,
    decide_new,
    decide_send,
    get_block,
)
from otpqueue.domain.guard_batch import BatchSend, GuardBatch
from otpqueue.operations.guard.admin import is_longer_than_block

POLICY = GuardPolicy()
STRANGER = NumberFacts()
KNOWN = BlockTally(best_day=4)


def sends(at_risk: int, verified: int = 0) -> SendWindow:
    """Return sends, so many of them unverified."""
    return SendWindow(sent=at_risk + verified, verified=verified)


def chance(
    number: NumberFacts = STRANGER,
    block: BlockTally = EMPTY,
    *,
    country: BlockTally = EMPTY,
    total: BlockTally = EMPTY,
    address: SendWindow | None = None,
) -> GuardDecision:
    """Decide on a new block where nothing is counted but what is given."""
    return decide_new(POLICY, number, block, country=country, total=total, address=address)


@pytest.mark.parametrize("digits", ["447911123456", "12025550123", "49151123456789", "2905555", "68940000"])
def test_block_is_ten_thousand_numbers(digits: str) -> None:
    """A block leaves four digits open, in every country."""
    assert get_block(digits) == digits[: len(digits) - 4]


@pytest.mark.parametrize("digits", ["447911123456", "12025550123", "33612345678", "4791234567"])
def test_prefix_longer_than_a_block(digits: str) -> None:
    """A whole number is no prefix, however short the numbers of its country are."""
    assert is_longer_than_block(digits)
    assert is_longer_than_block(digits[:-3])
    assert not any(is_longer_than_block(digits[:length]) for length in range(1, len(digits) - 3))
    assert not is_longer_than_block("GB")


@pytest.mark.parametrize(("at_risk", "allowed"), [(0, True), (4, True), (5, False), (50, False)])
def test_known_block_has_a_budget(at_risk: int, allowed: bool) -> None:
    """A block where 4 were verified on its best day may have 3 + 0.5 * 4 = 5 unverified sends a day."""
    decision = decide_known(POLICY, STRANGER, replace(KNOWN, day=sends(at_risk)), allowed=False)

    assert decision
    assert decision.budget == 5
    assert decision.allowed is allowed
    assert decision.why is (GuardReason.KNOWN_BLOCK if allowed else GuardReason.BLOCK_BUDGET)
    assert decision.counted_as is (CountedAs.KNOWN if allowed else CountedAs.REFUSED)


def test_verified_number_goes_on() -> None:
    """A recently verified number is always sent to."""
    decision = decide_known(POLICY, NumberFacts(verified=True), BlockTally(day=sends(10_000)), allowed=False)

    assert decision
    assert (decision.allowed, decision.why, decision.remaining) == (
        True,
        GuardReason.NUMBER_VERIFIED,
        math.inf,
    )


def test_operator_wins() -> None:
    """An operator's exception allows a send."""
    decision = decide_known(POLICY, STRANGER, BlockTally(day=sends(10_000)), allowed=True)

    assert decision
    assert (decision.allowed, decision.why) == (True, GuardReason.OPERATOR)


def test_new_block_is_not_decided_by_its_own_counts() -> None:
    """A block without a verification is not decided on by its own counts."""
    assert decide_known(POLICY, STRANGER, BlockTally(day=sends(0)), allowed=False) is None


def test_new_block_gets_one_chance() -> None:
    """The first send to a new block is allowed, the second is not while the first is not verified."""
    assert chance().counted_as is CountedAs.NEW
    assert chance(block=BlockTally(day=sends(1))).why is GuardReason.CHANCE_USED


@pytest.mark.parametrize(("own", "allowed"), [(1, True), (OWN_SENDS - 1, True), (OWN_SENDS, False)])
def test_few_own_sends_are_allowed(own: int, allowed: bool) -> None:
    """A repeated request or resend for the same number is allowed a few times."""
    assert chance(NumberFacts(own=own), BlockTally(day=sends(own))).allowed is allowed


@pytest.mark.parametrize(
    ("country", "total", "why"),
    [
        (BlockTally(hour=sends(4)), EMPTY, None),
        (BlockTally(hour=sends(5)), EMPTY, GuardReason.COUNTRY_HOUR),
        (BlockTally(hour=sends(5), best_hour=4), EMPTY, None),
        (BlockTally(hour=sends(5, verified=2)), EMPTY, None),
        (BlockTally(day=sends(10)), EMPTY, GuardReason.COUNTRY_DAY),
        (BlockTally(day=sends(10), best_day=10), EMPTY, None),
        (EMPTY, BlockTally(hour=sends(15)), GuardReason.TOTAL_HOUR),
        (EMPTY, BlockTally(hour=sends(15), best_hour=80), None),
        (EMPTY, BlockTally(day=sends(40)), GuardReason.TOTAL_DAY),
    ],
)
def test_all_chances_together_are_bounded(
    country: BlockTally, total: BlockTally, why: GuardReason | None
) -> None:
    """Chances are bounded by floors and by what was verified, in the country and over all."""
    decision = chance(country=country, total=total)

    assert decision.why is (why or GuardReason.CHANCE)
    assert decision.allowed is (why is None)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (None, GuardReason.CHANCE),
        (sends(1), GuardReason.CHANCE),
        (sends(2), GuardReason.ADDRESS_BUDGET),
        (sends(20), GuardReason.ADDRESS_BUDGET),
        (sends(20, verified=80), GuardReason.CHANCE),
    ],
)
def test_address_has_a_budget(address: SendWindow | None, why: GuardReason) -> None:
    """An address with two unverified tries at new blocks gets no more.

    A shared one with verifications does.
    """
    assert chance(address=address).why is why


def test_refused_block_waits_for_a_launch() -> None:
    """A refused block gets a chance only while chances in its country are verified."""
    refused = BlockTally(refused=3)

    assert chance(block=refused).why is GuardReason.REFUSED_BEFORE
    assert chance(block=refused, country=BlockTally(hour=sends(1, verified=8))).why is GuardReason.CHANCE
    assert (
        chance(block=refused, country=BlockTally(hour=sends(4, verified=8))).why is GuardReason.REFUSED_BEFORE
    )


small = st.integers(0, 60)
windows = st.builds(lambda verified, more: SendWindow(sent=verified + more, verified=verified), small, small)
all_tallies = st.builds(
    BlockTally, hour=windows, day=windows, best_hour=small, best_day=small, refused=st.integers(0, 3)
)
numbers = st.builds(NumberFacts, verified=st.just(value=False), own=st.integers(0, 5))


@given(numbers, all_tallies)
def test_known_block_never_passes_its_budget(number: NumberFacts, block: BlockTally) -> None:
    """What is allowed leaves room for itself; more at risk never makes an allowance of a refusal."""
    decision = decide_known(POLICY, number, block, allowed=False)
    if decision is None:
        assert block.best_day == 0
        return
    assert decision.budget == compute_budget(POLICY.block_floor, POLICY.share, block.best_day)
    assert decision.allowed is (decision.remaining > 0)
    worse = replace(block, day=SendWindow(sent=block.day.sent + 1, verified=block.day.verified))
    after = decide_known(POLICY, number, worse, allowed=False)
    assert after
    assert decision.allowed or not after.allowed


@given(numbers, all_tallies, all_tallies, all_tallies, windows)
def test_chance_needs_every_budget(
    number: NumberFacts, block: BlockTally, country: BlockTally, total: BlockTally, address: SendWindow
) -> None:
    """A chance requires a free budget of the block, country, all countries and address."""
    decision = chance(number, block, country=country, total=total, address=address)

    if not decision.allowed:
        assert decision.counted_as is CountedAs.REFUSED
        return
    assert max(block.day.at_risk - number.own, 0) == 0
    for window, floor, best in (
        (country.hour, POLICY.country_floor_hour, country.best_hour),
        (country.day, POLICY.country_floor_day, country.best_day),
        (total.hour, POLICY.total_floor_hour, total.best_hour),
        (total.day, POLICY.total_floor_day, total.best_day),
    ):
        assert window.at_risk < floor + POLICY.share * max(window.verified, best)
    assert number.own or address.at_risk < POLICY.address_floor + POLICY.share * address.verified


@given(all_tallies, all_tallies, all_tallies, st.sampled_from(["country", "total", "block"]))
def test_unverified_sends_buy_nothing(
    block: BlockTally, country: BlockTally, total: BlockTally, where: str
) -> None:
    """Unverified sends never turn a refusal into an allowance."""
    before = {"block": block, "country": country, "total": total}
    tally = before[where]
    worse = replace(
        tally,
        hour=SendWindow(sent=tally.hour.sent + 3, verified=tally.hour.verified),
        day=SendWindow(sent=tally.day.sent + 3, verified=tally.day.verified),
    )
    after = before | {where: worse}

    first = chance(block=before["block"], country=before["country"], total=before["total"])
    second = chance(block=after["block"], country=after["country"], total=after["total"])

    assert first.allowed or not second.allowed


NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ago", "now", "hour", "day"),
    [
        (timedelta(minutes=30), 1, 1, 1),
        (timedelta(minutes=31), 0, 1, 1),
        (timedelta(minutes=90), 0, 1, 1),
        (timedelta(minutes=91), 0, 0, 1),
        (timedelta(hours=23, minutes=30), 0, 0, 1),
        (timedelta(hours=23, minutes=31), 0, 0, 0),
        (-timedelta(seconds=5), 1, 1, 1),
    ],
)
def test_send_is_counted_in_the_hour_of_its_request(ago: timedelta, now: int, hour: int, day: int) -> None:
    """A send counts in the windows that the hour lies in in which its request was accepted."""
    after = EMPTY.add_send(NOW - ago, now=NOW)

    assert (after.now.sent, after.hour.sent, after.day.sent) == (now, hour, day)
    assert (after.best_hour, after.best_day, after.refused) == (0, 0, 0)


class OneByOne:
    """Decides on each send by what is counted before it, kept in another way than `GuardBatch` does."""

    def __init__(self, known: int, excepted: tuple[str, ...]) -> None:
        self.known, self.excepted = known, excepted
        self.at_risk: dict[str, int] = defaultdict(int)
        self.refused: dict[str, int] = defaultdict(int)
        self.own: dict[str, int] = defaultdict(int)
        self.tries: dict[bytes, int] = defaultdict(int)

    def tally(self, subject: str) -> BlockTally:
        """Return what is counted of a subject in this hour."""
        window = sends(self.at_risk[subject])
        best = self.known if subject == "4470" else 0
        return BlockTally(now=window, hour=window, day=window, best_day=best, refused=self.refused[subject])

    def decide(self, send: BatchSend) -> GuardDecision:
        """Decide on a send, and count it."""
        own = self.own[send.digits]
        decision = decide_send(
            POLICY,
            GuardFacts(
                number=NumberFacts(own=own),
                block=self.tally(send.block),
                excepted=send.country in self.excepted or send.digits.startswith(self.excepted),
                country=self.tally(send.country),
                total=self.tally(TOTAL),
                address=None if send.address is None else sends(self.tries[send.address]),
            ),
        )
        new = decision.why not in {GuardReason.OPERATOR, GuardReason.KNOWN_BLOCK, GuardReason.BLOCK_BUDGET}
        if send.address and new and not own:
            self.tries[send.address] += 1
        if decision.allowed:
            self.own[send.digits] += 1
            self.at_risk[send.block] += 1
            for subject in (TOTAL, send.country) if new else ():
                self.at_risk[subject] += 1
        else:
            self.refused[send.block] += 1
        return decision


batched = st.builds(
    lambda block, last, country, address: BatchSend(
        digits=f"{block}{last}", block=block, country=country, address=address, at=NOW
    ),
    st.sampled_from(["4470", "4471", "4472", "4473", "3361"]),
    st.sampled_from(["0001", "0002", "0003"]),
    st.sampled_from(["GB", "JE"]),
    st.sampled_from([None, b"a", b"b"]),
)


@given(st.lists(batched, max_size=40), st.integers(0, 6), st.sampled_from([(), ("GB",), ("336", "4471")]))
def test_batch_decides_as_if_one_by_one(
    batch: list[BatchSend], known: int, excepted: tuple[str, ...]
) -> None:
    """Each send of a batch is decided on as if those before it had been counted already."""
    one_by_one = OneByOne(known, excepted)
    together = GuardBatch(
        POLICY,
        numbers={},
        tallies={"4470": BlockTally(best_day=known)},
        addresses={},
        excepted=excepted,
        now=NOW,
    )

    for send in batch:
        assert together.decide(send) == one_by_one.decide(send)
