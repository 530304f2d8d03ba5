"""The observations of a run, as plain values that checks evaluate and files store.

Times are seconds since the epoch. All processes share one machine and its clock.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from otpqueue.domain.request import FINAL

FINAL_STATUSES = frozenset(status.value for status in FINAL)

AMBIGUOUS_CODES = frozenset({"database_unavailable", "internal_error"})
"""Refusals after which the call may still have had its effect: the outage may have followed it."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call with its answer."""

    script: int
    """The number of the script that made the call."""
    kind: str
    """`ask`, `poll`, `verify`, `cancel` or `resend`."""
    began: float
    ended: float
    request: str | None = None
    """The id of its request; for an ask, the id in the answer."""
    status: int | None = None
    """HTTP status; None when no answer came."""
    body: Mapping[str, Any] = field(default_factory=dict)
    code: str | None = None
    """The code of a verify."""
    session: str | None = None
    """The session it came with: a code is good only for the one that asked for it."""
    reference: str | None = None
    """The `client_reference` of an ask: finds the row of an ask that was never answered."""
    stranger: bool = False
    """Whether it was made with another client's key."""
    flood: bool = False
    """Whether it was made by the client that floods."""
    retry_after: str | None = None
    """The header `Retry-After`."""

    @property
    def problem(self) -> str | None:
        """The problem's code, if it was refused with one."""
        return self.body.get("code")

    @property
    def ambiguous(self) -> bool:
        """Whether its effect is unknown."""
        return self.status is None or (self.status >= 500 and self.problem in {None, *AMBIGUOUS_CODES})


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request's state, as read between two moments."""

    request: str
    began: float
    ended: float
    status: str
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One message that the simulator sent."""

    number: str
    at: float
    pin: str
    pin_id: str


@dataclass(frozen=True, kw_only=True)
class RequestRow:
    """A row of `otp_requests` at the end; `number` is the harness's own knowledge."""

    id: str
    number: str
    status: str
    send_state: str
    created_at: float
    send_by: float
    reason: str | None = None
    reference: str | None = None
    sends: int = 1
    pin_id: str | None = None
    lease_until: float | None = None
    check_lease_until: float | None = None
    expires_at: float | None = None
    finished_at: float | None = None
    flood: bool = False
    """Whether it belongs to the client that floods."""


@dataclass(frozen=True, kw_only=True)
class AttemptRow:
    """A row of `send_attempts` at the end."""

    request: str
    number: int
    worker: str
    claimed_at: float
    started_at: float | None = None
    finished_at: float | None = None
    outcome: str | None = None
    code: str | None = None
    pin_id: str | None = None
    kind: str = "fresh"

    @property
    def pid(self) -> int:
        """The process id of the worker that claimed it."""
        return int(self.worker.rpartition(":")[2])


@dataclass(frozen=True, kw_only=True)
class Disruption:
    """An interval without a node, from the fault to its next heartbeat."""

    node: str
    role: str
    how: str
    pid: int
    began: float
    ended: float


@dataclass(frozen=True, kw_only=True)
class LockedRows:
    """An interval in which a foreign session locked the rows of some requests."""

    began: float
    ended: float
    requests: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The settings that the checks need. Times in seconds."""

    send_lease_s: float = 6
    unknown_resends: int = 1
    max_checks: int = 5
    provider_timeout_s: float = 2
    expire_every_s: float = 2
    senders: int = 2
    """How many processes send. While all of them are down, no request can be claimed."""
    number_quota: int = 20
    """How many requests for one number are admitted in 15 minutes, by one client."""


@dataclass(frozen=True, kw_only=True)
class History:
    """All observations of a run."""

    calls: tuple[Call, ...] = ()
    seen: tuple[Seen, ...] = ()
    sent: tuple[Sent, ...] = ()
    requests: tuple[RequestRow, ...] = ()
    attempts: tuple[AttemptRow, ...] = ()
    disruptions: tuple[Disruption, ...] = ()
    faults: Mapping[str, int] = field(default_factory=dict)
    """How many faults occurred, by kind, at the provider and elsewhere."""
    policy: Policy = Policy()
    miscounted: tuple[str, ...] = ()
    """Where the statistics differ from a recount."""
    miscapped: tuple[str, ...] = ()
    """Where the counts of the daily caps differ from a recount."""
    misbehaved: tuple[str, ...] = ()
    """Processes that ended unexpectedly, or outlived their main process."""
    locks: tuple[LockedRows, ...] = ()
    open_circuit: tuple[tuple[float, float], ...] = ()
    """The intervals in which the circuit breaker let only probes through, one every few seconds."""
    emptied: tuple[float, ...] = ()
    """When Redis may have lost counts."""
    ended: float = 0.0
    """When the tables were read, after a while without faults."""

    def calls_of(self, request: str) -> list[Call]:
        """Return the calls about a request, in the order in which they began."""
        return sorted((call for call in self.calls if call.request == request), key=lambda one: one.began)

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1))


@dataclass(frozen=True)
class Violation:
    """A broken guarantee. `request` is None if it is about a number or the whole system."""

    check: str
    text: str
    request: str | None = None
    number: str | None = None


@dataclass(frozen=True)
class Deliveries:
    """The messages of each attempt."""

    by_attempt: Mapping[tuple[str, int], tuple[Sent, ...]]
    strays: tuple[Sent, ...]
    """Messages without an attempt."""

    def of(self, attempts: Iterable[AttemptRow]) -> list[Sent]:
        """Return the messages of some attempts."""
        return [sent for one in attempts for sent in self.by_attempt.get((one.request, one.number), ())]


CLOCK_SLACK_S = 0.1
"""The simulator uses the same clock, with a precision of milliseconds."""


def deliveries(history: History) -> Deliveries:
    """Match messages to attempts: by pinId where an attempt knows it, else by number and time.

    An attempt with an unknown outcome may have sent one message after it was claimed. The newest such
    attempt that had been claimed by then gets the message.
    """
    number_of = {row.id: row.number for row in history.requests}
    by_attempt: dict[tuple[str, int], list[Sent]] = defaultdict(list)
    known: dict[str, list[AttemptRow]] = defaultdict(list)
    unsure: dict[str, list[AttemptRow]] = defaultdict(list)
    for attempt in sorted(history.attempts, key=lambda one: one.claimed_at):
        if attempt.outcome == "accepted" and attempt.pin_id:
            known[attempt.pin_id].append(attempt)
        elif attempt.outcome in {"unknown", None}:
            unsure[number_of.get(attempt.request, "")].append(attempt)
    strays = []
    for sent in sorted(history.sent, key=lambda one: one.at):
        fits = [one for one in known[sent.pin_id] if one.claimed_at <= sent.at + CLOCK_SLACK_S]
        if not fits:
            fits = [one for one in unsure[sent.number] if one.claimed_at <= sent.at + CLOCK_SLACK_S]
            group = unsure[sent.number]
        else:
            group = known[sent.pin_id]
        if not fits:
            strays.append(sent)
            continue
        group.remove(fits[-1])
        by_attempt[fits[-1].request, fits[-1].number].append(sent)
    return Deliveries({key: tuple(value) for key, value in by_attempt.items()}, tuple(strays))
