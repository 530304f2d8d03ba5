"""How often something may be asked for: every limit of ours, in one table.

Here stands what is limited; `limiter` says how it is counted, `operations.limits` whose tries are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from otpqueue.durations import InvalidDuration, parse_duration

MOST = 10_000
"""Each admitted try is kept for the length of the window: more would cost memory, not only time."""

_LONGEST_S = 30 * 86400
_WINDOW_UNITS = ("s", "m", "h", "d")
_NAMED_UNITS = {"d": (86400, "day"), "h": (3600, "hour"), "m": (60, "minute"), "s": (1, "second")}
_QUOTA = re.compile(r"([0-9]{1,6})/([0-9]{0,5}[a-z])", re.ASCII)
OFF = "off"


@dataclass(frozen=True)
class Quota:
    """So many in any stretch of time of this length."""

    amount: int
    window_s: int

    @classmethod
    def parse(cls, text: str) -> Quota | None:
        """Return what `3/15m` says (units s, m, h, d), None for `off`.

        Raises ValueError that tells how it is written.
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
            raise ValueError(f"must admit 1 to {MOST}")
        if not 1 <= window_s <= _LONGEST_S:
            raise ValueError("must be of a window of 1 second to 30 days")
        return cls(amount, window_s)

    def __str__(self) -> str:
        count, unit, _ = self._window()
        return f"{self.amount}/{count if count > 1 else ''}{unit}"

    @property
    def in_words(self) -> str:
        """As a person says it: `3 in 15 minutes`."""
        count, _, word = self._window()
        return f"{self.amount} in {count} {word}{'s' if count > 1 else ''}"

    def since(self, now: datetime) -> datetime:
        """Return when the window that ends now began."""
        return now - timedelta(seconds=self.window_s)

    def _window(self) -> tuple[int, str, str]:
        for unit, (seconds, word) in _NAMED_UNITS.items():
            if self.window_s % seconds == 0:
                return self.window_s // seconds, unit, word
        raise AssertionError("unreachable: every window is whole seconds")


class CountedBy(StrEnum):
    """What a limit has a count of its own for."""

    NUMBER_OF_CLIENT = "each number, per client"
    NUMBER = "each number, over all clients"
    ADDRESS_OF_CLIENT = "each `client_ip`, per client"
    KEY = "each API key"
    KEYLESS_PEER = "each address that calls without a key"
    KEYLESS_NETWORK = "each network that calls without a key"
    PEER = "each address that logs in to the console"
    ALL = "all together"


class WithoutRedis(StrEnum):
    """What becomes of a try that cannot be counted."""

    REFUSED = "refused"
    ADMITTED = "admitted"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One limit. A client's own quota, where there may be one, takes the place of the deployment's."""

    name: str
    default: str
    counted: CountedBy
    what: str
    """What there may be so many of, in words."""
    resends: bool = False
    """Whether a resend counts, too."""
    without_redis: WithoutRedis = WithoutRedis.REFUSED

    @property
    def setting(self) -> str:
        """The environment variable that sets it for the deployment."""
        return f"OTPQUEUE_LIMIT_{self.name.upper()}"

    @property
    def reason(self) -> str:
        """What a refusal by it is stored as."""
        return f"limit_{self.name}"

    @property
    def per_client(self) -> bool:
        """Whether a client may have a quota of its own: not with a count that clients share."""
        return self.counted in {CountedBy.NUMBER_OF_CLIENT, CountedBy.ADDRESS_OF_CLIENT, CountedBy.KEY}

    def is_shown(self, *, keyless: bool) -> bool:
        """Return whether a caller may see how it stands: not where that would show what others do.

        To a caller without a key everybody else is such another, whichever number they ask for.
        """
        if keyless:
            return self.counted in {CountedBy.KEYLESS_PEER, CountedBy.ADDRESS_OF_CLIENT}
        return self.per_client


# A request is a login that somebody tries; a resend belongs to one, and has limits of its own (`MAX_SENDS`,
# `cool_down_s`). The limits of a day bound messages, to a person and on the bill: there a resend is one more.
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
    # The address is what the client says: over all clients one could lock it out at the others.
    Limit(
        name="client_ip_15m",
        default="10/15m",
        counted=CountedBy.ADDRESS_OF_CLIENT,
        what="requests from one `client_ip`",
    ),
)
# Every call with this key, the checking of codes among them, which must go on while Redis is away.
KEY_RATE = Limit(
    name="key_rate",
    default="100/s",
    counted=CountedBy.KEY,
    what="calls with one API key",
    resends=True,
    without_redis=WithoutRedis.ADMITTED,
)
# Every call without a key to the guide's two endpoints, refused ones too. A login takes some six calls, and
# an address gets ten logins in 15 minutes. A network is /24, or /48 of IPv6: one stranger may have all of it.
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
# Log-ins to the console that were refused. A key has 256 bits, so nobody guesses one: these tell a flood from
# mistakes. Whoever uses them up keeps nobody out who has the right key.
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
LIMITS: Mapping[str, Limit] = {limit.name: limit for limit in (*REQUEST_LIMITS, KEY_RATE, *KEYLESS_LIMITS)}
"""Those that can be set."""

Quotas = Mapping[str, Quota | None]
"""Quotas by the names of their limits; None for a limit that is off."""


@dataclass(frozen=True, kw_only=True)
class LimitStatus:
    """How a limit stands after a try."""

    limit: Limit
    quota: Quota
    left: int
    """How many more are admitted now."""
    more_in_s: float
    """When `left` grows next."""

    @property
    def retry_after_s(self) -> int:
        """The same in whole seconds, after which it surely has grown."""
        return max(1, math.ceil(self.more_in_s))


@dataclass(frozen=True, kw_only=True)
class WrongShare:
    """The ceiling of a client's share of wrong codes."""

    ceiling: float
    window_s: int
    min_checks: int
    """With fewer checks in the window nothing is concluded."""

    def exceeded(self, *, checks: int, wrong: int) -> bool:
        """Return whether so many wrong ones of so many checks are too many."""
        return checks >= self.min_checks and wrong > checks * self.ceiling


@dataclass(frozen=True, kw_only=True)
class GuessPolicy:
    """How many wrong codes there may be before no new request is taken; None where a rule is off."""

    number: Quota | None
    """For one number, by one client."""
    client_ip: Quota | None
    """From one address, by one client."""
    in_a_row: int
    """For one number, by one client, without a right one between: NIST SP 800-63B allows at most 100."""
    max_checks: int
    """Checks that a new request brings."""
    share: WrongShare

    def locks(self, wrong_in_a_row: int) -> bool:
        """Return whether the checks of one more request might exceed `in_a_row`."""
        return wrong_in_a_row + self.max_checks > self.in_a_row
