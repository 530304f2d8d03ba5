"""Decisions of the pumping guard on the sends of one claim, which count against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from otpqueue.domain.guard import (
    EMPTY,
    NO_SENDS,
    TOTAL,
    UNKNOWN_NUMBER,
    BlockTally,
    CountedAs,
    GuardDecision,
    GuardFacts,
    GuardPolicy,
    NumberFacts,
    SendWindow,
    decide_send,
)


@dataclass(frozen=True, kw_only=True)
class BatchSend:
    """One send of a batch."""

    digits: str
    """The number without its plus sign."""
    block: str
    country: str
    address: bytes | None
    """The hash of the requesting address. None if it is unknown, and for a resend, which does not count."""
    at: datetime
    """When its request was accepted. All its sends count in that hour."""


class GuardBatch:
    """Decides on sends one after another, and counts each one before it decides on the next."""

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
        """Start from the stored counts, by number, by subject and by address hash.

        `excepted` are the countries and prefixes that an operator has allowed.
        """
        self._policy, self._excepted, self._now = policy, excepted, now
        self._numbers, self._tallies, self._addresses = dict(numbers), dict(tallies), dict(addresses)

    def decide(self, send: BatchSend) -> GuardDecision:
        """Decide on a send, and count it for the following ones."""
        number = self._numbers.get(send.digits, UNKNOWN_NUMBER)
        decision = decide_send(
            self._policy,
            GuardFacts(
                number=number,
                block=self._tallies.get(send.block, EMPTY),
                excepted=any(send.country == one or send.digits.startswith(one) for one in self._excepted),
                country=self._tallies.get(send.country, EMPTY),
                total=self._tallies.get(TOTAL, EMPTY),
                address=self._addresses.get(send.address, NO_SENDS) if send.address else None,
            ),
        )
        if send.address and decision.tries_new_block:
            self._addresses[send.address] = self._addresses.get(send.address, NO_SENDS).add_sends(1)
        if decision.allowed:
            self._numbers[send.digits] = replace(number, own=number.own + 1)
            chance = (TOTAL, send.country) if decision.counted_as is CountedAs.NEW else ()
            for subject in (*chance, send.block):
                counted = self._tallies.get(subject, EMPTY)
                self._tallies[subject] = counted.add_send(send.at, now=self._now)
        else:
            block = self._tallies.get(send.block, EMPTY)
            self._tallies[send.block] = replace(block, refused=block.refused + 1)
        return decision
