"""The kill switch: stop and resume sending for all, a country or a client, and show its state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain import phone
from otpqueue.domain.audit import OperatorAction
from otpqueue.domain.caps import Caps, CapScope, get_cap_day
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.operations.auditing import describe_change, record_action
from otpqueue.operations.reasons import check_reason
from otpqueue.store import clients, send_counts, stops
from otpqueue.store.engine import connection, transaction
from otpqueue.store.send_counts import SendCount, Subject
from otpqueue.store.stops import Stop
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

EVERYTHING = "everything"
"""The subject of a stop for all. Others are a `country` or a `client` and its name."""


@dataclass(frozen=True, kw_only=True)
class StopDetails:
    """A stop with readable names."""

    what: str
    reason: str | None
    stopped_by: str
    stopped_at: datetime


@dataclass(frozen=True, kw_only=True)
class CapUsage:
    """A day's count, and its cap."""

    what: str
    taken: int
    cap: int | None
    """None without a cap."""


@dataclass(frozen=True, kw_only=True)
class SendingStatus:
    """The stops in force, and today's counts."""

    stops: tuple[StopDetails, ...]
    lines: tuple[CapUsage, ...]


@dataclass(frozen=True, kw_only=True)
class SendingSwitch:
    """Stops sending. A stop takes effect with the next request and the next claim; running sends finish."""

    engine: Engine
    caps: Caps
    wake: Callable[[], bool]

    def stop(
        self, *, country: str | None, client: str | None, reason: str | None, by: str, now: datetime
    ) -> bool:
        """Stop sending for all, or for one country or client. Returns False if it was already stopped.

        Raises InvalidRequest for an invalid country, an unknown client, both at once, and a reason that
        contains a number; DatabaseUnavailable.
        """
        check_reason(reason)

        def work(conn: Connection) -> tuple[Subject, bool]:
            scope, subject = self._subject(conn, country=country, client=client)
            new = Stop(scope=scope, subject=subject, reason=reason, stopped_by=by, stopped_at=now)
            stopped = stops.stop(conn, new)
            _record(conn, OperatorAction.SENDING_STOPPED, (scope, subject), stopped, reason=reason, by=by)
            return (scope, subject), stopped

        (scope, subject), stopped = transaction(self.engine, work)
        if stopped:
            log.warning("sending_stopped", scope=scope.value, subject=subject, reason=reason, by=by)
        return stopped

    def resume(
        self,
        *,
        country: str | None,
        client: str | None,
        by: str,
        now: datetime,
        reason: str | None = None,
    ) -> bool:
        """End one stop and wake a worker. Returns whether it was in force. Other stops stay in force.

        Raises as `stop` does.
        """
        check_reason(reason)

        def work(conn: Connection) -> tuple[Subject, bool]:
            scope, subject = self._subject(conn, country=country, client=client)
            resumed = stops.resume(conn, scope=scope, subject=subject, by=by, now=now)
            _record(conn, OperatorAction.SENDING_RESUMED, (scope, subject), resumed, reason=reason, by=by)
            return (scope, subject), resumed

        (scope, subject), resumed = transaction(self.engine, work)
        if resumed:
            log.warning("sending_resumed", scope=scope.value, subject=subject, by=by)
            self.wake()
        return resumed

    def stops(self) -> tuple[StopDetails, ...]:
        """Return the stops in force. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            found = stops.list_stops(conn)
            names = (
                {str(id_): name for id_, (name, _) in clients.read_names_and_settings(conn).items()}
                if found
                else {}
            )
        return _shown(found, names)

    def status(self, *, now: datetime) -> SendingStatus:
        """Return the stops in force, and today's counts with their caps. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            found = stops.list_stops(conn)
            counts = send_counts.read_counts(conn, get_cap_day(now))
            known = clients.read_names_and_settings(conn)
        names = {str(client_id): name for client_id, (name, _) in known.items()}
        caps = {
            str(client_id): self.caps.get_client_cap(own, clients=len(known))
            for client_id, (_, own) in known.items()
        }
        if not any(count.scope is CapScope.ALL for count in counts):
            counts = [SendCount(scope=CapScope.ALL, subject="", taken=0), *counts]
        return SendingStatus(
            stops=_shown(found, names),
            lines=tuple(
                CapUsage(
                    what=_what(count.scope, count.subject, names),
                    taken=count.taken,
                    cap=self._cap(count, caps),
                )
                for count in counts
            ),
        )

    def _cap(self, count: SendCount, of_clients: dict[str, int | None]) -> int | None:
        if count.scope is CapScope.ALL:
            return self.caps.overall
        if count.scope is CapScope.CLIENT:
            return of_clients.get(count.subject, self.caps.per_client)
        return self.caps.get_country_cap(count.subject)

    def _subject(self, conn: Connection, *, country: str | None, client: str | None) -> Subject:
        if country is not None and client is not None:
            raise InvalidRequest([FieldError("client", "cannot be given together with a country")])
        if country is not None:
            if country not in phone.COUNTRIES:
                raise InvalidRequest([FieldError("country", "must be ISO 3166 alpha-2, e.g. GB, or 001")])
            return CapScope.COUNTRY, country
        if client is not None:
            client_id = clients.find_client(conn, client)
            if client_id is None:
                raise InvalidRequest([FieldError("client", "is not the name of a client", missing=True)])
            return CapScope.CLIENT, str(client_id)
        return send_counts.ALL


def _record(
    conn: Connection, action: OperatorAction, of: Subject, changed: bool, *, reason: str | None, by: str
) -> None:
    scope, subject = of
    record_action(
        conn,
        action,
        outcome=describe_change(changed),
        target=scope.value,
        client_id=UUID(subject) if scope is CapScope.CLIENT else None,
        country=subject if scope is CapScope.COUNTRY else None,
        reason=reason,
        details={"by": by},
    )


def _shown(found: Sequence[Stop], names: dict[str, str]) -> tuple[StopDetails, ...]:
    return tuple(
        StopDetails(
            what=_what(one.scope, one.subject, names),
            reason=one.reason,
            stopped_by=one.stopped_by,
            stopped_at=one.stopped_at,
        )
        for one in found
    )


def _what(scope: CapScope, subject: str, names: dict[str, str]) -> str:
    if scope is CapScope.ALL:
        return EVERYTHING
    if scope is CapScope.CLIENT:
        return f"client {names.get(subject, subject)}"
    return f"country {subject}"
