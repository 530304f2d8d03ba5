"""Report of the pumping guard, and its exceptions."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta

import phonenumbers
from phonenumbers import NumberParseException, ValidationResult
from sqlalchemy import Connection, Engine

from otpqueue.domain.audit import OperatorAction
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.guard import BLOCK_DIGITS, GuardPolicy, compute_budget
from otpqueue.domain.phone import NO_COUNTRY
from otpqueue.operations.auditing import describe_change, record_action
from otpqueue.operations.reasons import check_reason
from otpqueue.store.engine import allow_time, connection, transaction
from otpqueue.store.guard import reports
from otpqueue.store.guard.reports import BlockSums, GuardException, RefusalCount

LONGEST = timedelta(days=90)
_PATIENCE_S = 60


@dataclass(frozen=True, kw_only=True)
class GuardReportLine:
    """A country or a block in the report."""

    subject: str
    blocks: int
    sent: int
    verified: int
    refused: int
    refused_verified: int
    budget: float | None
    """The budget of unverified sends a day; 1 for a new block.

    None for a country: each known block has its own.
    """

    @property
    def share(self) -> float | None:
        """The share of verified sends."""
        return self.verified / self.sent if self.sent else None


@dataclass(frozen=True, kw_only=True)
class GuardReport:
    """Sends and rejections by country and block, those with most rejections and unverified sends first."""

    since: datetime
    countries: list[GuardReportLine]
    blocks: list[GuardReportLine]
    reasons: dict[tuple[str, str], int]
    """Rejected attempts by mode and reason."""


@dataclass(frozen=True, kw_only=True)
class GuardAdmin:
    """Reports on the guard and manages its exceptions."""

    engine: Engine
    policy: GuardPolicy

    def report(self, *, since: datetime, now: datetime, country: str | None = None) -> GuardReport:
        """Return the report since a time (whole hours), of one country or all.

        Raises DatabaseUnavailable.
        """

        def read(conn: Connection) -> GuardReport:
            allow_time(conn, _PATIENCE_S)  # it may read 14 days of a busy deployment
            sums = reports.list_blocks(conn, since=since, now=now, country=country)
            return GuardReport(
                since=since,
                countries=self._countries(sums),
                blocks=_worst_first([self._line(one) for one in sums]),
                reasons=reports.count_reasons(conn, since=since),
            )

        return transaction(self.engine, read)

    def decisions(self, *, since: datetime, limit: int) -> list[RefusalCount]:
        """Return the newest rejections, those of shadow mode included. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            return reports.list_refusals(conn, since=since, limit=limit)

    def allow(
        self, subject: str, *, lasting: timedelta, now: datetime, reason: str | None = None
    ) -> datetime:
        """Exempt a country or prefix from the guard. Returns the end of the exception.

        Raises InvalidRequest, DatabaseUnavailable.
        """
        subject = _checked(subject)
        # It could identify a person, and the audit trail keeps it.
        if is_longer_than_block(subject):
            raise InvalidRequest(
                [FieldError("subject", "must leave out at least the last four digits of a number")]
            )
        if not timedelta() < lasting <= LONGEST:
            raise InvalidRequest([FieldError("for", f"must be over 0 and at most {LONGEST.days} days")])
        check_reason(reason)
        until = now + lasting

        def work(conn: Connection) -> None:
            reports.add_exception(conn, subject, until=until, now=now)
            details = {"until": until.isoformat()}
            record_action(conn, OperatorAction.GUARD_ALLOWED, target=subject, reason=reason, details=details)

        transaction(self.engine, work)
        return until

    def disallow(self, subject: str, *, reason: str | None = None) -> bool:
        """End an exception. Returns whether there was one. Raises InvalidRequest, DatabaseUnavailable."""
        subject = _checked(subject)
        check_reason(reason)

        def work(conn: Connection) -> bool:
            ended = reports.end_exception(conn, subject)
            outcome = describe_change(ended)
            # Earlier versions accepted longer prefixes.
            target = None if is_longer_than_block(subject) else subject
            record_action(
                conn, OperatorAction.GUARD_DISALLOWED, outcome=outcome, target=target, reason=reason
            )
            return ended

        return transaction(self.engine, work)

    def exceptions(self, *, now: datetime) -> list[GuardException]:
        """Return the exceptions in force. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            return reports.list_exceptions(conn, now=now)

    def _line(self, one: BlockSums) -> GuardReportLine:
        may = compute_budget(self.policy.block_floor, self.policy.share, one.best_day) if one.best_day else 1
        return GuardReportLine(
            subject=one.block,
            blocks=1,
            sent=one.sent,
            verified=one.verified,
            refused=one.refused,
            refused_verified=one.refused_verified,
            budget=may,
        )

    def _countries(self, sums: list[BlockSums]) -> list[GuardReportLine]:
        by_country: dict[str, list[BlockSums]] = defaultdict(list)
        for one in sums:
            by_country[one.country].append(one)
        return _worst_first(
            [
                GuardReportLine(
                    subject=country,
                    blocks=len(ones),
                    sent=sum(one.sent for one in ones),
                    verified=sum(one.verified for one in ones),
                    refused=sum(one.refused for one in ones),
                    refused_verified=sum(one.refused_verified for one in ones),
                    budget=None,
                )
                for country, ones in by_country.items()
            ]
        )


def is_longer_than_block(prefix: str) -> bool:
    """Return whether the first digits of a number are more than those of any block of its country.

    Returns False for other subjects, such as `GB`.
    """
    if not prefix.isdecimal():
        return False
    try:
        number = phonenumbers.parse(f"+{prefix}{'0' * BLOCK_DIGITS}")
    except NumberParseException as error:
        return bool(error.error_type == NumberParseException.TOO_LONG)
    return bool(phonenumbers.is_possible_number_with_reason(number) == ValidationResult.TOO_LONG)


def _worst_first(lines: list[GuardReportLine]) -> list[GuardReportLine]:
    return sorted(lines, key=lambda line: (-line.refused, line.verified - line.sent, line.subject))


def _checked(subject: str) -> str:
    subject = subject.strip().removeprefix("+").upper()
    if subject in phonenumbers.SUPPORTED_REGIONS or subject == NO_COUNTRY:
        return subject
    if not re.fullmatch(r"[1-9][0-9]{0,10}", subject, re.ASCII):
        raise InvalidRequest(
            [FieldError("subject", "must be a country like GB or the first digits of numbers")]
        )
    return subject
