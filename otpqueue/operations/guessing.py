"""Rules against guessing. They stop new requests; a code in hand keeps its checks, and may be sent again.

All count per client: else one client, or the strangers in front of it, could lock a number's owner out of all
others. A resend brings no new guesses, so it passes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from otpqueue.domain.errors import NumberLocked, TooManyWrongCodes
from otpqueue.domain.limits import GuessPolicy, Quota, WrongShare
from otpqueue.operations.admission import Applicant
from otpqueue.store import guesses

_OFF = Quota(1, 1)


@dataclass(frozen=True, kw_only=True)
class WrongCodes:
    """Refuses a request when there were too many wrong codes for its number or from its address."""

    policy: GuessPolicy

    def __call__(self, conn: Connection, applicant: Applicant) -> None:
        """Look at the wrong codes so far. Raises NumberLocked, TooManyWrongCodes."""
        if applicant.resend:
            return
        now, number, address = applicant.now, self.policy.number or _OFF, self.policy.client_ip or _OFF
        recent = guesses.recent(
            conn,
            client_id=applicant.client_id,
            number_hashes=applicant.number_hashes,
            client_ip_hashes=applicant.client_ip_hashes,
            number_since=_since(number, now),
            number_count=number.amount,
            address_since=_since(address, now),
            address_count=address.amount,
        )
        if self.policy.locks(recent.in_a_row):
            raise NumberLocked("number_locked")
        if self.policy.number and recent.number_nth:
            raise _too_many("number", "for this phone number", number, recent.number_nth, now)
        if self.policy.client_ip and recent.address_nth:
            raise _too_many("client_ip", "from this `client_ip`", address, recent.address_nth, now)


@dataclass(frozen=True, kw_only=True)
class WrongShareRule:
    """Refuses a request of a client of whose codes too many are wrong."""

    share: WrongShare

    def __call__(self, conn: Connection, applicant: Applicant) -> None:
        """Look at the client's judged codes. Raises TooManyWrongCodes."""
        if applicant.resend:
            return
        since = applicant.now - timedelta(seconds=self.share.window_s)
        checks, wrong = guesses.judged(conn, applicant.client_id, since=since)
        if self.share.exceeded(checks=checks, wrong=wrong):
            raise TooManyWrongCodes(
                "wrong_codes_share",
                f"{wrong} of the last {checks} codes of this client were wrong, which looks like guessing; "
                "new codes are sent again when fewer are.",
                retry_after_s=60,
            )


def _since(quota: Quota, now: datetime) -> datetime:
    return now - timedelta(seconds=quota.window_s)


def _too_many(which: str, where: str, quota: Quota, nth: datetime, now: datetime) -> TooManyWrongCodes:
    left_s = (nth + timedelta(seconds=quota.window_s) - now).total_seconds()
    retry_after_s = max(1, math.ceil(left_s))
    return TooManyWrongCodes(
        f"wrong_codes_{which}",
        f"At most {quota.in_words}: wrong codes {where}. Try again in {retry_after_s} seconds; "
        "codes that were sent stay good.",
        retry_after_s=retry_after_s,
    )
