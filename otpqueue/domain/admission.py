"""The admission rules: decide whether to send a code, from facts that the caller has gathered.

| facts                                            | from                                               |
|--------------------------------------------------|----------------------------------------------------|
| `stopped`, `taken`, `judged`, client settings    | the process's snapshot, at most a second old       |
| `limit`                                          | Redis, in the one script that also counts the call |
| `stored`: do-not-send list, wrong codes          | Postgres, in the one call that also stores the row |

The order of the rules:

1. The sending stop. It applies to every number, test numbers included.
2. Rules with a result that does not change with time, so that no caller waits for a retry that must fail.
3. Rules with a result that changes with time, and counted limits.

SQL accepts or rejects the row by `stored` alone, with `AdmissionRules.most_wrong_in_a_row` and the windows as
arguments. A test compares it with these rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from otpqueue.domain.caps import Caps, CapScope, count_seconds_to_midnight
from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import (
    DailyCapReached,
    LimitExceeded,
    LimitsUnavailable,
    NumberLocked,
    NumberNotAllowed,
    OtpqueueError,
    SendingStopped,
    TooManyWrongCodes,
)
from otpqueue.domain.limits import REQUEST_LIMITS, CountedBy, GuessPolicy, Quota
from otpqueue.domain.number_policy import NumberPolicy, find_language_refusal
from otpqueue.domain.phone import WORLD, PhoneNumber

STOPPED_RETRY_AFTER_S = 60
"""An operator may resume sending at any moment."""

REASONS_OF_KNOWN_NUMBERS = frozenset(
    {
        "do_not_send",
        "number_locked",
        "wrong_codes_number",
        *(
            limit.reason
            for limit in REQUEST_LIMITS
            if limit.counted in {CountedBy.NUMBER, CountedBy.NUMBER_OF_CLIENT}
        ),
    }
)
"""Refusal reasons that occur only for numbers which were used or blocked before.

Other reasons occur for any number, so an attacker could fill tables that are keyed by number and reason.
"""

_CAP_REASONS = {
    CapScope.ALL: ("daily_cap", ""),
    CapScope.CLIENT: ("daily_cap_of_client", " of this client"),
    CapScope.COUNTRY: ("daily_cap_of_country", " of this country"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFacts:
    """What Postgres stores about a number and an end user's address, for one client."""

    blocked: bool = False
    """Whether the number is on the do-not-send list."""
    wrong_in_a_row: int = 0
    """Consecutive wrong codes for the number."""
    number_nth: datetime | None = None
    """When the n-th newest wrong code for the number was checked. None if the window holds fewer than n."""
    address_nth: datetime | None = None
    """Like `number_nth`, for the address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionFacts:
    """The input of the admission rules."""

    now: datetime
    client_id: UUID
    settings: ClientSettings
    number: PhoneNumber
    language: str | None
    is_test: bool
    """Whether the number is a test number. No code is sent to it, and only the sending stop applies."""
    is_resend: bool
    """Whether this is a resend. A resend brings no additional guesses."""
    stopped: bool
    taken: Mapping[tuple[CapScope, str], int]
    """How many codes of the current day count towards each cap."""
    clients: int = 1
    """The number of clients."""
    judged: tuple[int, int] = (0, 0)
    """Checked codes of the client in the window of the wrong-code share, and how many of them were wrong."""
    stored: StoredFacts = field(default_factory=StoredFacts)
    limit: LimitExceeded | LimitsUnavailable | None = None
    """The rate limit that rejected the request, if any."""


@dataclass(frozen=True, kw_only=True)
class AdmissionRules:
    """The deployment's admission policies."""

    numbers: NumberPolicy
    guesses: GuessPolicy
    share_refuses: bool
    """Whether a client with too large a share of wrong codes is rejected."""
    caps: Caps

    @property
    def most_wrong_in_a_row(self) -> int:
        """A number with more consecutive wrong codes than this is locked."""
        return self.guesses.in_a_row - self.guesses.max_checks

    def find_refusal(self, facts: AdmissionFacts) -> OtpqueueError | None:
        """Return the error of the first rule that rejects the request, or None if a code may be sent."""
        rules = _RULES_FOR_ALL if facts.is_test else _RULES_FOR_ALL + _RULES
        for rule in rules:
            refusal = rule(self, facts)
            if refusal is not None:
                return refusal
        return None


def _check_sending_stop(_rules: AdmissionRules, facts: AdmissionFacts) -> OtpqueueError | None:
    return SendingStopped(retry_after_s=STOPPED_RETRY_AFTER_S) if facts.stopped else None


def _check_number(rules: AdmissionRules, facts: AdmissionFacts) -> OtpqueueError | None:
    return rules.numbers.find_refusal(facts.number, facts.settings)


def _check_language(_rules: AdmissionRules, facts: AdmissionFacts) -> OtpqueueError | None:
    return find_language_refusal(facts.language, facts.settings)


def _check_blocklist(_rules: AdmissionRules, facts: AdmissionFacts) -> OtpqueueError | None:
    return NumberNotAllowed("do_not_send", e164=facts.number.e164) if facts.stored.blocked else None


def _check_wrong_codes(rules: AdmissionRules, facts: AdmissionFacts) -> OtpqueueError | None:
    if facts.is_resend:
        return None
    stored, guesses = facts.stored, rules.guesses
    if stored.wrong_in_a_row > rules.most_wrong_in_a_row:
        return NumberLocked("number_locked")
    if guesses.number and stored.number_nth:
        return _build_wrong_codes_error(
            "number", "for this phone number", guesses.number, stored.number_nth, facts.now
        )
    if guesses.client_ip and stored.address_nth:
        where = "from this `client_ip`"
        return _build_wrong_codes_error("client_ip", where, guesses.client_ip, stored.address_nth, facts.now)
    return None


def _check_wrong_share(rules: AdmissionRules, facts: AdmissionFacts) -> OtpqueueError | None:
    checks, wrong = facts.judged
    share = rules.guesses.share
    if not rules.share_refuses or facts.is_resend or not share.is_exceeded(checks=checks, wrong=wrong):
        return None
    return TooManyWrongCodes(
        "wrong_codes_share",
        f"{wrong} of this client's last {checks} checked codes were wrong. "
        "New codes are sent again once the share falls.",
        retry_after_s=60,
    )


def _check_caps(rules: AdmissionRules, facts: AdmissionFacts) -> OtpqueueError | None:
    country, caps = facts.number.country, rules.caps
    for subject, cap in (
        ((CapScope.ALL, ""), caps.overall),
        ((CapScope.CLIENT, str(facts.client_id)), caps.get_client_cap(facts.settings, clients=facts.clients)),
        ((CapScope.COUNTRY, country or WORLD), caps.get_country_cap(country)),
    ):
        if cap is not None and facts.taken.get(subject, 0) >= cap:
            reason, scope = _CAP_REASONS[subject[0]]
            detail = f"Daily sending cap{scope} reached. Sending resumes at 00:00 UTC."
            if subject[0] is CapScope.CLIENT and caps.is_share(facts.settings, clients=facts.clients):
                reason = "daily_cap_share"
                detail = (
                    "This client has sent its share of the codes that all clients may send today. "
                    "Sending resumes at 00:00 UTC, or when an operator sets a `daily_cap` for this client."
                )
            return DailyCapReached(reason, detail, retry_after_s=count_seconds_to_midnight(facts.now))
    return None


def _check_limit(_rules: AdmissionRules, facts: AdmissionFacts) -> OtpqueueError | None:
    return facts.limit


Rule = Callable[[AdmissionRules, AdmissionFacts], OtpqueueError | None]

_RULES_FOR_ALL: tuple[Rule, ...] = (_check_sending_stop,)
_RULES: tuple[Rule, ...] = (
    _check_number,
    _check_language,
    _check_blocklist,
    _check_wrong_codes,
    _check_wrong_share,
    _check_caps,
    _check_limit,
)


def _build_wrong_codes_error(
    which: str, where: str, quota: Quota, nth: datetime, now: datetime
) -> TooManyWrongCodes:
    left_s = (nth + timedelta(seconds=quota.window_s) - now).total_seconds()
    retry_after_s = max(1, math.ceil(left_s))
    return TooManyWrongCodes(
        f"wrong_codes_{which}",
        f"Too many wrong codes {where}: at most {quota.in_words}. Retry in {retry_after_s} seconds. "
        "Codes that were already sent remain valid.",
        retry_after_s=retry_after_s,
    )
