"""The rules of the sending policy: who is told at acceptance, or asking for a resend, that no code leaves.

The claim holds the same caps, stops and do-not-send list once more, exactly; here they are read so that a
caller learns it at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from otpqueue.domain.caps import Caps, Scope, day_of, seconds_to_midnight
from otpqueue.domain.errors import DailyCapReached, NumberNotAllowed, SendingStopped
from otpqueue.domain.number_policy import NumberPolicy, check_language
from otpqueue.domain.phone import WORLD
from otpqueue.operations.admission import Applicant
from otpqueue.store import do_not_send, send_counts, stops

ASK_AGAIN_S = 60
"""Nobody knows when an operator lets sending go on."""

_WHOSE = {
    Scope.ALL: ("daily_cap", "today"),
    Scope.CLIENT: ("daily_cap_of_client", "today for this client"),
    Scope.COUNTRY: ("daily_cap_of_country", "today to this country"),
}


def while_sending(conn: Connection, applicant: Applicant) -> None:
    """Admit nobody for whom sending is stopped. Raises SendingStopped."""
    country = applicant.number.country
    if stops.is_stopped(conn, client_id=applicant.client_id, country=country):
        raise SendingStopped(retry_after_s=ASK_AGAIN_S)


@dataclass(frozen=True, kw_only=True)
class NumbersAllowed:
    """Admits the countries, kinds of line and languages that codes are sent to."""

    policy: NumberPolicy

    def __call__(self, _conn: Connection, applicant: Applicant) -> None:
        """Raise CountryNotAllowed, NumberNotAllowed, or InvalidRequest for the language."""
        if refusal := self.policy.refusal(applicant.number, applicant.settings):
            raise refusal
        check_language(applicant.language, applicant.settings)


def not_blocked(conn: Connection, applicant: Applicant) -> None:
    """Admit no number of the do-not-send list. Raises NumberNotAllowed."""
    if do_not_send.is_blocked(conn, applicant.number_hashes, now=applicant.now):
        raise NumberNotAllowed("do_not_send", e164=applicant.number.e164)


@dataclass(frozen=True, kw_only=True)
class WithinCaps:
    """Admits nobody once a daily cap is reached; what is accepted and not sent yet is not counted."""

    caps: Caps

    def __call__(self, conn: Connection, applicant: Applicant) -> None:
        """Raise DailyCapReached."""
        country = applicant.number.country
        caps = {
            send_counts.ALL: self.caps.overall,
            (Scope.CLIENT, str(applicant.client_id)): self.caps.of_client(applicant.settings),
            (Scope.COUNTRY, country or WORLD): self.caps.of_country(country),
        }
        capped = {subject: cap for subject, cap in caps.items() if cap is not None}
        if not capped:
            return
        taken = send_counts.taken(conn, day_of(applicant.now), capped)
        for (scope, subject), cap in capped.items():
            if taken.get((scope, subject), 0) >= cap:
                reason, whose = _WHOSE[scope]
                raise DailyCapReached(
                    reason,
                    f"As many codes as may be sent {whose} have been sent; it goes on at midnight UTC.",
                    retry_after_s=seconds_to_midnight(applicant.now),
                )
