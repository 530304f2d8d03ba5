"""A day of made-up traffic with an attack in it, and the fourteen days before.

Honest people: 40 countries, the largest with 35 % of them, 20 with 0.35 % each; in each country 70 to 90 % of
requests are verified, most within a minute. A country has 300 to 20 000 blocks of 10 000 numbers, of which
some are much more popular than others (log-normal, sigma 1.2). 35 % of requests come from numbers that were
verified in the last 14 days, 30 % from one of 300 addresses that many people share.

The attack: numbers that are never verified, in separate blocks by default, from addresses at
random.
"""

from __future__ import annotations

import itertools
import math
import random
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

DAY_S = 86_400
HISTORY_DAYS = 14
_WARM_DAYS = 7
_CODES = (  # noqa: SIM905 - a table is easier to read
    "GB44 US1 DE49 FR33 ES34 IT39 BR55 IN91 MX52 NL31 SE46 PL48 PT351 BE32 AT43 CH41 DK45 NO47 FI358 IE353 "
    "GR30 CZ420 RO40 HU36 BG359 HR385 SK421 SI386 LT370 LV371 EE372 IS354 MT356 CY357 LU352 GE995 AM374 "
    "RS381 BA387 MK389"
).split()
_SHARES = (35, 15, 10, 8, 6, 5, 4, 3, 3, 2, *[1] * 4, *[0.5] * 6, *[0.35] * 20)
_BLOCKS = (6000, 20000, 4000, 3000, 5000, 2000, 1500, 1500, 1000, 1000)
_EMPTY_COUNTRIES = ("AZ994", "TJ992", "UZ998", "KG996", "TN216", "DZ213", "ML223", "TG228", "BJ229", "SO252")
ATTACKERS_BLOCK = 90_000
"""The first of the blocks that no honest person has."""


@dataclass(frozen=True)
class Try:
    """One request for a code."""

    at_s: float
    """Seconds since midnight."""
    country: str
    number: str = field(repr=False)
    address: str
    verified_after_s: float | None
    """When its code is typed; None for never."""
    attack: bool
    returning: bool
    """Whether its number was verified in the last 14 days."""


@dataclass(frozen=True)
class Country:
    """A country and its people."""

    iso: str
    calling_code: str
    share: float
    weights: list[float]
    verified: float

    def number(self, block: int, rng: random.Random) -> str:
        """Return a number of a block."""
        return f"+{self.calling_code}{block:05}{rng.randrange(10_000):04}"


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What the attacker does."""

    where: str = "hidden"
    """`hidden` in the largest country, `sparse` in one with many blocks, `small`, `empty` (a country without
    people), `many` (the forty), `mixed` (ten without people and the forty)."""
    start_h: float = 10
    hours: float = 6
    order: str = "random"
    """`random` over all blocks, or `sequential`: one block after another."""
    numbers: int = 10_000
    prefixes: int = 200
    addresses: int = 500
    populated: float = 0
    """Share of its blocks in which honest people verified."""
    sends_client_ip: bool = True


class World:
    """People, as many requests a day as asked for, in as large a share of the blocks."""

    def __init__(self, *, daily: int, share_of_blocks: float = 1, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self._share_of_blocks = share_of_blocks
        self.daily = daily
        self.countries = [self._country(index) for index in range(len(_CODES))]
        self._weights = list(itertools.accumulate(country.share for country in self.countries))

    def _country(self, index: int) -> Country:
        name, rng = _CODES[index], self.rng
        blocks = _BLOCKS[index] if index < len(_BLOCKS) else rng.choice([300, 600, 1000])
        blocks = max(1, round(blocks * self._share_of_blocks))
        weights = list(itertools.accumulate(math.exp(rng.gauss(0, 1.2)) for _ in range(blocks)))
        return Country(name[:2], name[2:], _SHARES[index], weights, rng.uniform(0.7, 0.9))

    def day(self) -> list[Try]:
        """Return a day's honest requests in order."""
        return sorted((self._try() for _ in range(self.daily)), key=lambda one: one.at_s)

    def _try(self) -> Try:
        rng = self.rng
        country = rng.choices(self.countries, cum_weights=self._weights)[0]
        block = bisect(country.weights, rng.random() * country.weights[-1])
        shared = rng.random() < 0.3
        address = _address(10, rng.randrange(300)) if shared else _address(11, rng.randrange(2**24))
        typed = rng.random() < country.verified
        return Try(
            self._time(),
            country.iso,
            country.number(block, rng),
            address,
            min(280.0, rng.lognormvariate(math.log(25), 0.7)) if typed else None,
            attack=False,
            returning=rng.random() < 0.35,
        )

    def _time(self) -> float:
        while True:
            at = self.rng.random() * DAY_S
            if self.rng.random() < 0.55 - 0.45 * math.cos(2 * math.pi * (at / DAY_S - 0.125)):
                return at

    def history(self) -> tuple[dict[tuple[str, str, int], list[int]], dict[tuple[str, int], list[int]]]:
        """Return [sent, verified] of 14 days: by (country, block, hour), and of chances by (country, hour).

        Hours are counted back from the midnight before the day: -1 is the last.
        """
        blocks: dict[tuple[str, str, int], list[int]] = {}
        chances: dict[tuple[str, int], list[int]] = {}
        known: dict[str, int] = {}
        for day in range(-HISTORY_DAYS - _WARM_DAYS, 0):
            for one in self.day():
                block, hour = one.number[1:-4], day * 24 + int(one.at_s // 3600)
                verified = int(one.verified_after_s is not None)
                if day >= -HISTORY_DAYS:
                    _add(blocks.setdefault((one.country, block, hour), [0, 0]), verified)
                    if known.get(block, -99) < day - HISTORY_DAYS and not one.returning:
                        _add(chances.setdefault((one.country, hour), [0, 0]), verified)
                        _add(chances.setdefault(("*", hour), [0, 0]), verified)
                if verified:
                    known[block] = day
        return blocks, chances

    def attack(self, attack: Attack, populated: list[tuple[str, str]]) -> list[Try]:
        """Return an attack's tries in order; `populated` has country and block of honest people."""
        rng = random.Random(3)
        blocks = list(self._attacked(attack, populated, rng))
        count = attack.numbers
        if attack.order == "sequential":
            order = [blocks[i * len(blocks) // count] for i in range(count)]
        else:
            order = [blocks[i % len(blocks)] for i in range(count)]
            rng.shuffle(order)
        times = sorted(attack.start_h * 3600 + rng.random() * attack.hours * 3600 for _ in range(count))
        last = itertools.count()
        return [
            Try(
                at,
                country,
                f"+{block}{next(last) % 10_000:04}",
                _address(12, rng.randrange(attack.addresses)),
                None,
                attack=True,
                returning=False,
            )
            for at, (country, block) in zip(times, order, strict=True)
        ]

    def _attacked(
        self, attack: Attack, populated: list[tuple[str, str]], rng: random.Random
    ) -> Iterator[tuple[str, str]]:
        empty = [(name[:2], name[2:]) for name in _EMPTY_COUNTRIES]
        people = [(country.iso, country.calling_code) for country in self.countries]
        where = {
            "hidden": people[:1],
            "sparse": people[1:2],
            "small": people[12:13],
            "empty": empty[:1],
            "many": people,
            "mixed": empty + people,
        }[attack.where]
        theirs = {iso for iso, _ in where}
        honest = [one for one in populated if one[0] in theirs]
        for index in range(attack.prefixes):
            if rng.random() < attack.populated:
                yield rng.choice(honest)
            else:
                iso, code = where[index % len(where)]
                yield iso, f"{code}{ATTACKERS_BLOCK + index:05}"


def _address(network: int, number: int) -> str:
    return str(IPv4Address(network * 2**24 + number))


def _add(counts: list[int], verified: int) -> None:
    counts[0] += 1
    counts[1] += verified
