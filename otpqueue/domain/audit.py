"""The audit trail: what operators did, when, from where, to what and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID


class OperatorAction(StrEnum):
    """Every action of an operator that is recorded. A test compares them with commands, pages and calls."""

    KEY_CREATED = "key_created"
    KEY_ROTATED = "key_rotated"
    KEY_REVOKED = "key_revoked"
    CLIENT_CREATED = "client_created"
    CLIENT_SETTING_SET = "client_setting_set"
    CLIENT_SETTING_UNSET = "client_setting_unset"
    NUMBER_SEARCHED = "number_searched"
    NUMBER_BLOCKED = "number_blocked"
    NUMBER_UNBLOCKED = "number_unblocked"
    NUMBER_UNLOCKED = "number_unlocked"
    NUMBER_ERASED = "number_erased"
    REQUEST_CANCELLED = "request_cancelled"
    SENDING_STOPPED = "sending_stopped"
    SENDING_RESUMED = "sending_resumed"
    GUARD_ALLOWED = "guard_allowed"
    GUARD_DISALLOWED = "guard_disallowed"
    WEBHOOK_SET = "webhook_set"
    WEBHOOK_REMOVED = "webhook_removed"
    WEBHOOK_ENABLED = "webhook_enabled"
    WEBHOOK_SECRET_ROTATED = "webhook_secret_rotated"  # noqa: S105 - a name
    WEBHOOK_RETRIED = "webhook_retried"
    WEBHOOK_TESTED = "webhook_tested"
    ALERT_ACKNOWLEDGED = "alert_acknowledged"
    ALERT_SILENCED = "alert_silenced"
    ALERT_UNSILENCED = "alert_unsilenced"
    ALERT_CHANNELS_TESTED = "alert_channels_tested"
    SEAL_KEY_ROTATED = "seal_key_rotated"
    HASH_KEY_ROTATED = "hash_key_rotated"
    SEALED_NUMBERS_DROPPED = "sealed_numbers_dropped"
    PURGED = "purged"
    PROVISIONED = "provisioned"
    CONSOLE_LOGIN = "console_login"
    CONSOLE_LOGIN_REFUSED = "console_login_refused"
    CONSOLE_LOGOUT = "console_logout"


class AuditSurface(StrEnum):
    """Where an action came from."""

    CONSOLE = "console"
    API = "api"
    CLI = "cli"
    BEAT = "beat"
    """A periodic job."""
    PROCESS = "process"
    """Code that named no operator."""


class AuditOutcome(StrEnum):
    """How an action ended."""

    DONE = "done"
    UNCHANGED = "unchanged"
    """There was nothing to change, for example a number that was not blocked."""
    STARTED = "started"
    """A long action has begun; a second entry says how it ended. Without one, it was interrupted."""
    FAILED = "failed"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True)
class AuditActor:
    """Who acts, and from where."""

    surface: AuditSurface
    name: str
    """The prefix of an API key, the system user and host of the command line, or a job."""
    key_id: UUID | None = None
    session: str | None = None
    """A short name of the console session, which grants nothing."""
    peer: str | None = None
    """The network of the caller, as in logs: /24, or /48 for IPv6."""
    call_id: str | None = None
    """The X-Request-Id of the call."""


_NOBODY = AuditActor(surface=AuditSurface.PROCESS, name="otpqueue")
_acting: ContextVar[AuditActor] = ContextVar("acting", default=_NOBODY)


def current_actor() -> AuditActor:
    """Return who acts in this thread."""
    return _acting.get()


@contextmanager
def acting_as(actor: AuditActor) -> Iterator[None]:
    """Name who acts in this thread. What operations record in the block is attributed to it."""
    token = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(token)


@dataclass(frozen=True, kw_only=True)
class AuditSubject:
    """The phone number, and perhaps the request, that an entry is about. An erasure deletes the link."""

    number_hash: bytes
    request_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One entry of the audit trail."""

    id: UUID
    at: datetime
    action: str
    """An OperatorAction, or one of another version."""
    outcome: AuditOutcome
    actor: AuditActor
    client: str | None
    """Name of the client that it concerned."""
    target: str | None
    """What it concerned: a key prefix, a rule, a guard subject, the id of an alert or an erasure."""
    country: str | None
    phone_number: str | None
    """Masked, with a tag; None if it concerned no number, or the link was deleted."""
    request_id: UUID | None
    reason: str | None
    details: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class AuditFilters:
    """The filters of a search. None matches every entry."""

    since: datetime | None = None
    """Inclusive."""
    until: datetime | None = None
    """Exclusive."""
    action: OperatorAction | None = None
    surface: AuditSurface | None = None
    actor: str | None = None
    """The beginning of the actor's name."""
    client: str | None = None
    """The name of a client."""
    phone_number: str | None = field(default=None, repr=False)

    def to_text(self) -> str:
        """Return a text that is equal for equal filters only."""
        return repr(astuple(self))


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """One page of the audit trail, newest first."""

    entries: tuple[AuditEntry, ...]
    next_cursor: str | None
    """None at the end of the list."""


@dataclass(frozen=True, kw_only=True)
class ErasureRecord:
    """Proof of an erasure, without the number."""

    id: UUID
    at: datetime
    by: str
    """The actor's name; of an erasure before the audit trail, its client or `operator`."""
    surface: AuditSurface | None
    """None for an erasure before the audit trail."""
    reason: str | None
    counts: Mapping[str, int]
    """How many rows of each kind were erased."""
