"""Every rate limit, in one table.

`limiter` counts. `operations.limits` decides which limits apply to a call. One module because a limit is its
row in the table and the quota format that the row uses.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property

from otpqueue.durations import InvalidDuration, parse_duration

MOST = 10_000
"""Redis stores each admitted call for the length of the window, so a larger quota costs memory."""

_LONGEST_S = 30 * 86400
_WINDOW_UNITS = ("s", "m", "h", "d")
_NAMED_UNITS = {"d": (86400, "day"), "h": (3600, "hour"), "m": (60, "minute"), "s": (1, "second")}
_QUOTA = re.compile(r"([0-9]{1,6})/([0-9]{0,5}[a-z])", re.ASCII)
OFF = "off"


@dataclass(frozen=True)
class Quota:
    """A maximum number of calls within a moving window."""

    amount: int
    window_s: int

    @classmethod
    def parse(cls, text: str) -> Quota | None:
        """Return the quota that a text such as `3/15m` describes (units s, m, h, d), or None for `off`.

        Raises ValueError with the expected format.
        """
        if text == OFF:
            return None
        found = _QUOTA.fullmatch(text)
        try:
            window = parse_duration(found[2], units=_WINDOW_UNITS, number_required=False) if found else None
        except InvalidDuration:
            window = None
        if found is None or window is None:
            raise ValueError("must be like `3/15m` (units s, m, h, d) or `off`")
        amount, window_s = int(found[1]), window // timedelta(seconds=1)
        if not 1 <= amount <= MOST:
            raise ValueError(f"must allow 1 to {MOST}")
        if not 1 <= window_s <= _LONGEST_S:
            raise ValueError("must have a window of 1 second to 30 days")
        return cls(amount, window_s)

    def __str__(self) -> str:
        count, unit, _ = self._split_window()
        return f"{self.amount}/{count if count > 1 else ''}{unit}"

    @property
    def in_words(self) -> str:
        """The quota in words: `3 in 15 minutes`."""
        count, _, word = self._split_window()
        return f"{self.amount} in {count} {word}{'s' if count > 1 else ''}"

    def get_start(self, now: datetime) -> datetime:
        """Return when the window that ends at `now` began."""
        return now - timedelta(seconds=self.window_s)

    def _split_window(self) -> tuple[int, str, str]:
        for unit, (seconds, word) in _NAMED_UNITS.items():
            if self.window_s % seconds == 0:
                return self.window_s // seconds, unit, word
        raise AssertionError("unreachable: every window is whole seconds")


class CountedBy(StrEnum):
    """The subject that a limit counts separately."""

    NUMBER_OF_CLIENT = "each number, per client"
    NUMBER = "each number, over all clients"
    ADDRESS_OF_CLIENT = "each `client_ip`, per client"
    KEY = "each API key"
    KEYLESS_PEER = "each address that calls without a key"
    KEYLESS_NETWORK = "each network that calls without a key"
    CLIENT = "each client"
    PAGE = "each verification page"
    PAGE_PEER = "each address that uses verification pages"
    PEER = "each address that logs in to the console"
    ALL = "all together"


class WithoutRedis(StrEnum):
    """What happens to a call while Redis is away and it cannot be counted."""

    REFUSED = "refused"
    ADMITTED = "admitted"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One rate limit.

    A client's own quota, where one is allowed, replaces the deployment's.
    """

    name: str
    default: str
    counted: CountedBy
    what: str
    """What is limited, in words."""
    resends: bool = False
    """Whether a resend counts, too."""
    without_redis: WithoutRedis = WithoutRedis.REFUSED

    @property
    def setting(self) -> str:
        """The environment variable that sets the deployment's quota."""
        return f"OTPQUEUE_LIMIT_{self.name.upper()}"

    @property
    def reason(self) -> str:
        """The stored reason of a rejection."""
        return f"limit_{self.name}"

    @cached_property
    def per_client(self) -> bool:
        """Whether a client may have its own quota. A count that clients share has only the deployment's."""
        return self.counted in {
            CountedBy.NUMBER_OF_CLIENT,
            CountedBy.ADDRESS_OF_CLIENT,
            CountedBy.KEY,
            CountedBy.CLIENT,
        }

    def is_visible(self, *, keyless: bool) -> bool:
        """Return whether a caller may see the remaining quota. It must not reveal the calls of others.

        Callers without a key share one client, so they see only limits that count their own address.
        """
        if keyless:
            return self.counted in {CountedBy.KEYLESS_PEER, CountedBy.ADDRESS_OF_CLIENT}
        return self.per_client


# A request is one login. A resend belongs to a request and is bounded by `MAX_SENDS` and `cool_down_s`. Daily
# limits bound messages, which cost money and disturb people, so they count resends.
REQUEST_LIMITS = (
    Limit(
        name="number_15m",
        default="3/15m",
        counted=CountedBy.NUMBER_OF_CLIENT,
        what="requests for one phone number",
    ),
    Limit(
        name="number_day",
        default="10/d",
        counted=CountedBy.NUMBER_OF_CLIENT,
        what="codes to one phone number",
        resends=True,
    ),
    Limit(
        name="number_day_all",
        default="20/d",
        counted=CountedBy.NUMBER,
        what="codes to one phone number",
        resends=True,
    ),
    # The client reports the address. Counted over all clients, one client could lock an address out of the
    # others.
    Limit(
        name="client_ip_15m",
        default="10/15m",
        counted=CountedBy.ADDRESS_OF_CLIENT,
        what="requests from one `client_ip`",
    ),
)
# Counts every call with the key. Checks of codes must work while Redis is away.
KEY_RATE = Limit(
    name="key_rate",
    default="100/s",
    counted=CountedBy.KEY,
    what="calls with one API key",
    resends=True,
    without_redis=WithoutRedis.ADMITTED,
)
# Count every call without a key to the guide's two endpoints, rejected ones too. A login takes about six
# calls, and an address gets ten logins in 15 minutes. A network is a /24, or a /48 of IPv6, which one
# attacker may own.
KEYLESS_PEER = Limit(
    name="keyless_peer",
    default="60/15m",
    counted=CountedBy.KEYLESS_PEER,
    what="calls without an API key from one address",
    resends=True,
    without_redis=WithoutRedis.ADMITTED,
)
KEYLESS_LIMITS = (
    KEYLESS_PEER,
    Limit(
        name="keyless_network",
        default="600/15m",
        counted=CountedBy.KEYLESS_NETWORK,
        what="calls without an API key from one network",
        resends=True,
        without_redis=WithoutRedis.ADMITTED,
    ),
)
PAGES = Limit(
    name="pages",
    default="1000/15m",
    counted=CountedBy.CLIENT,
    what="verification pages of one client",
)
# The client sees one call however many codes a page requests, and a page without a number takes any number.
# The other limits count each number and each address, and an attacker may have many of both.
PAGE_REQUESTS = Limit(
    name="page_requests",
    default="10/d",
    counted=CountedBy.PAGE,
    what="requests for codes on one verification page",
)
# Counts what a person does on pages: opening a link and submitting a form. Many people may share an address.
PAGE_PEER = Limit(
    name="page_peer",
    default="300/15m",
    counted=CountedBy.PAGE_PEER,
    what="actions on verification pages from one address",
    resends=True,
    without_redis=WithoutRedis.ADMITTED,
)
# Count rejected console logins. A key has 256 bits and cannot be guessed; these limits separate an attack
# from mistakes. A used-up limit does not reject a valid key.
LOG_IN_LIMITS = (
    Limit(
        name="log_in_peer",
        default="10/15m",
        counted=CountedBy.PEER,
        what="refused log-ins from one address",
        without_redis=WithoutRedis.ADMITTED,
    ),
    Limit(
        name="log_in_all",
        default="600/15m",
        counted=CountedBy.ALL,
        what="refused log-ins in all",
        without_redis=WithoutRedis.ADMITTED,
    ),
)
LIMITS: Mapping[str, Limit] = {
    limit.name: limit
    for limit in (*REQUEST_LIMITS, KEY_RATE, *KEYLESS_LIMITS, PAGES, PAGE_REQUESTS, PAGE_PEER)
}
"""The limits that can be configured."""

Quotas = Mapping[str, Quota | None]
"""Quotas by the name of the limit. None for a limit that is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStatus:
    """The status of a limit after a call."""

    limit: Limit
    quota: Quota
    left: int
    """How many more calls are admitted now."""
    more_in_s: float
    """Seconds until `left` increases."""

    @property
    def retry_after_s(self) -> int:
        """`more_in_s` rounded up to whole seconds, at least 1."""
        return max(1, math.ceil(self.more_in_s))


@dataclass(frozen=True, kw_only=True)
class WrongShare:
    """The maximum share of wrong codes of a client."""

    ceiling: float
    window_s: int
    min_checks: int
    """With fewer checks in the window the share is not evaluated."""

    def is_exceeded(self, *, checks: int, wrong: int) -> bool:
        """Return whether the share of wrong codes exceeds the ceiling."""
        return checks >= self.min_checks and wrong > checks * self.ceiling


@dataclass(frozen=True, kw_only=True)
class GuessPolicy:
    """How many wrong codes are allowed before new requests are rejected. None where a rule is off."""

    number: Quota | None
    """For one number and client."""
    client_ip: Quota | None
    """From one address and client."""
    in_a_row: int
    """Consecutive wrong codes for one number and client. NIST SP 800-63B allows at most 100."""
    max_checks: int
    """How many checks a request allows."""
    share: WrongShare

    def is_locked(self, wrong_in_a_row: int) -> bool:
        """Return whether the checks of one more request could exceed `in_a_row`."""
        return wrong_in_a_row + self.max_checks > self.in_a_row
