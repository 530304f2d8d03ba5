"""The history of a request: attempts, checks, reports and status moves, and their timeline.

It holds no secrets and no personal data: no code, no pinId, no session, and only the masked number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from uuid import UUID

from otpqueue.domain.request import Resend, SendState, Status, get_shown_status

Value = str | int | bool | datetime | Decimal | None


class MoveSubject(StrEnum):
    """The state that a move changed."""

    STATUS = "status"
    RESEND = "resend"


class EventKind(StrEnum):
    """The type of an event."""

    ACCEPTED = "accepted"
    ATTEMPT_CLAIMED = "attempt_claimed"
    ATTEMPT_FINISHED = "attempt_finished"
    CHECK_STARTED = "check_started"
    CHECK_FINISHED = "check_finished"
    RECEIPT = "receipt"
    STATUS = "status"
    RESEND = "resend"


class _Rank(IntEnum):
    """The order of events at the same time: request, start, end, consequence."""

    ACCEPTED = 0
    ASKED = 1
    BEGUN = 2
    ENDED = 3
    MOVED = 4


@dataclass(frozen=True, kw_only=True)
class SendAttempt:
    """One attempt to send. Values are those of the domain, or the provider's identifiers."""

    number: int
    kind: str
    channel: str
    worker: str
    claimed_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str | None
    retryable: bool | None
    code: str | None
    http_status: int | None
    latency_ms: int | None
    evidence: str | None
    delivery: str | None
    delivery_status: str | None
    delivery_error: str | None
    done_at: datetime | None
    price: Decimal | None
    currency: str | None


@dataclass(frozen=True, kw_only=True)
class CodeCheck:
    """One check of a code."""

    number: int
    started_at: datetime
    finished_at: datetime | None
    verdict: str | None
    code: str | None
    """The provider's identifier of its answer. Never the entered code."""
    http_status: int | None
    latency_ms: int | None


@dataclass(frozen=True, kw_only=True)
class ReportedDelivery:
    """One delivery report."""

    attempt: int | None
    received_at: datetime
    done_at: datetime | None
    delivery: str
    status: str
    error: str | None
    price: Decimal | None
    currency: str | None


@dataclass(frozen=True, kw_only=True)
class StatusMove:
    """One change of a state, in the order of `number`."""

    number: int
    at: datetime
    of: MoveSubject
    was: str | None
    became: str
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class HistoryEvent:
    """One event of the timeline."""

    at: datetime
    kind: EventKind
    summary: str
    """One line of text."""
    details: Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class History:
    """A request and its history."""

    id: UUID
    client: str
    phone_number: str | None
    """Masked. None if the key that decrypts it is no longer configured."""
    client_reference: str | None
    """The client's own text, unchanged."""
    country: str | None
    language: str | None
    channel: str
    status: Status
    send_state: SendState
    reason: str | None
    provider_code: str | None
    created_at: datetime
    send_by: datetime
    """The deadline of the newest send."""
    sent_at: datetime | None
    expires_at: datetime | None
    verified_at: datetime | None
    finished_at: datetime | None
    sends: int
    checks_used: int
    checks_allowed: int
    attempts: tuple[SendAttempt, ...]
    checks: tuple[CodeCheck, ...]
    receipts: tuple[ReportedDelivery, ...]
    moves: tuple[StatusMove, ...]

    @property
    def shown_status(self) -> str:
        """The status that callers see."""
        return get_shown_status(self.status, self.send_state)

    @property
    def events(self) -> list[HistoryEvent]:
        """All events in chronological order.

        Several hosts wrote these times with their own clocks. Moves keep the order in which they were made,
        and no end precedes its start.
        """
        placed = [
            *self._place_acceptance(),
            *self._place_attempts(),
            *self._place_checks(),
            *self._place_reports(),
            *self._place_moves(),
        ]
        return [event for _, event in sorted(placed, key=lambda one: one[0])]

    def _place_acceptance(self) -> Iterator[_Placed]:
        first: dict[str, Value] = {
            "client": self.client,
            "phone_number": self.phone_number,
            "channel": self.channel,
            "country": self.country,
            "language": self.language,
        }
        summary = _join_parts(f"accepted: {self.client}", self.phone_number, self.country, self.channel)
        yield _place_event(self.created_at, _Rank.ACCEPTED, EventKind.ACCEPTED, summary, first)

    def _place_attempts(self) -> Iterator[_Placed]:
        for one in self.attempts:
            name = f"attempt {one.number}"
            begun: dict[str, Value] = {
                "number": one.number,
                "kind": one.kind,
                "channel": one.channel,
                "worker": one.worker,
            }
            summary = f"{name} claimed: {one.kind}, {one.channel}, by {one.worker}"
            yield _place_event(one.claimed_at, _Rank.BEGUN, EventKind.ATTEMPT_CLAIMED, summary, begun)
            if one.finished_at:
                retry = " (retryable)" if one.retryable else ""
                answer = _format_answer(one.code, one.http_status, one.latency_ms)
                evidence = f"evidence {one.evidence}" if one.evidence else None
                summary = _join_parts(f"{name} {one.outcome}{retry}: {answer}", evidence)
                yield _place_event(
                    one.finished_at,
                    _Rank.ENDED,
                    EventKind.ATTEMPT_FINISHED,
                    summary,
                    asdict(one),
                    not_before=one.claimed_at,
                )

    def _place_checks(self) -> Iterator[_Placed]:
        for one in self.checks:
            name = f"check {one.number}"
            begun = {"number": one.number}
            yield _place_event(one.started_at, _Rank.BEGUN, EventKind.CHECK_STARTED, f"{name} started", begun)
            if one.finished_at:
                summary = f"{name} {one.verdict}: {_format_answer(one.code, one.http_status, one.latency_ms)}"
                yield _place_event(
                    one.finished_at,
                    _Rank.ENDED,
                    EventKind.CHECK_FINISHED,
                    summary,
                    asdict(one),
                    not_before=one.started_at,
                )

    def _place_reports(self) -> Iterator[_Placed]:
        for one in self.receipts:
            summary = _join_parts(
                f"report on attempt {one.attempt}: {one.delivery}, {one.status}",
                f"error {one.error}" if one.error else None,
                f"done {one.done_at:%H:%M:%S}" if one.done_at else None,
                f"{one.price} {one.currency or ''}".strip() if one.price is not None else None,
            )
            yield _place_event(one.received_at, _Rank.ENDED, EventKind.RECEIPT, summary, asdict(one))

    def _place_moves(self) -> Iterator[_Placed]:
        at, rank = self.created_at, _Rank.ACCEPTED
        for one in self.moves:
            asked = one.of is MoveSubject.RESEND and one.became == Resend.PENDING
            at, rank = max((at, rank), (one.at, _Rank.ASKED if asked else _Rank.MOVED))
            because = f": {one.reason}" if one.reason else ""
            if one.of is MoveSubject.STATUS:
                kind, summary = EventKind.STATUS, f"{one.was} -> {one.became}{because}"
            else:
                said = "asked for" if asked else one.became
                kind, summary = EventKind.RESEND, f"resend {said}{because}"
            details = {"was": one.was, "became": one.became, "reason": one.reason}
            place = (at, rank, one.number)
            yield place, HistoryEvent(at=one.at, kind=kind, summary=summary, details=details)


_Placed = tuple[tuple[datetime, int, int], HistoryEvent]


def _place_event(
    at: datetime,
    rank: _Rank,
    kind: EventKind,
    summary: str,
    details: Mapping[str, Value],
    *,
    not_before: datetime | None = None,
) -> _Placed:
    number = details.get("number")
    place = (max(at, not_before or at), rank, number if isinstance(number, int) else 0)
    return place, HistoryEvent(at=at, kind=kind, summary=summary, details=details)


def _format_answer(code: str | None, http_status: int | None, latency_ms: int | None) -> str:
    return _join_parts(
        code,
        f"HTTP {http_status}" if http_status is not None else None,
        f"{latency_ms} ms" if latency_ms is not None else None,
    )


def _join_parts(*parts: str | None) -> str:
    return ", ".join(part for part in parts if part)
