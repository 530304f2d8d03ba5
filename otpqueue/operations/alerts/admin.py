"""Alert administration by operators: list, acknowledge, silence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain.alert_rules import OF_NUMBERS
from otpqueue.domain.alerts import Alert, AlertRule, AlertState, contains_number, find_tag
from otpqueue.domain.audit import AuditSubject, OperatorAction
from otpqueue.domain.errors import AlertNotFound, FieldError, InvalidRequest
from otpqueue.operations.auditing import describe_change, record_action
from otpqueue.store.alerts import evaluations, records, silences
from otpqueue.store.alerts import notices as alert_notices
from otpqueue.store.alerts.notices import Notice
from otpqueue.store.alerts.records import AlertEvent, AlertValue
from otpqueue.store.alerts.silences import Silence
from otpqueue.store.engine import connection, transaction
from otpqueue.store.vault import Vault
from otpqueue.telemetry import masks
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

MOST = 500
LONGEST = timedelta(days=90)
_LONGEST_TEXT = 500
_MOST_VALUES = 1440


@dataclass(frozen=True, kw_only=True)
class AlertDetails(Alert):
    """An alert with its history."""

    history: Sequence[AlertEvent]
    notices: Sequence[Notice]
    values: Sequence[AlertValue]
    """The measurements of the evaluations while it was open, of the last day at most."""


@dataclass(frozen=True, kw_only=True)
class AlertAdmin:
    """Lists, acknowledges and silences alerts."""

    engine: Engine
    vault: Vault
    rules: Mapping[str, AlertRule]
    """The rules by name, as configured."""
    clock: Callable[[], datetime]

    def list(
        self, *, state: AlertState | None = None, rule: str | None = None, limit: int = 100
    ) -> Sequence[Alert]:
        """Return alerts, the newest first, at most 500. Raises InvalidRequest, DatabaseUnavailable."""
        self._check_rule(rule)
        now, limit = self.clock(), min(max(limit, 1), MOST)
        with connection(self.engine) as conn:
            return records.list_newest(conn, state=state, rule=rule, limit=limit, now=now, vault=self.vault)

    def get(self, alert_id: UUID) -> AlertDetails:
        """Return an alert with its history. Raises AlertNotFound, DatabaseUnavailable."""
        with connection(self.engine) as conn:
            alert = self._find(conn, alert_id, self.clock())
            return AlertDetails(
                **{field.name: getattr(alert, field.name) for field in fields(Alert)},
                history=records.list_events(conn, alert_id),
                notices=alert_notices.list_notices(conn, alert_id),
                values=records.list_values(conn, alert_id, limit=_MOST_VALUES),
            )

    def count_open(self) -> int:
        """Return how many alerts are open. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            return sum(records.count_open(conn).values())

    def naming(self, request_id: UUID) -> Sequence[Alert]:
        """Return the alerts with evidence that names a request, newest first. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            return records.list_alerts_naming(conn, request_id, now=self.clock(), vault=self.vault)

    def ack(self, alert_id: UUID, *, by: str) -> Alert:
        """Acknowledge an alert unless it already is. Returns the alert.

        Its resolution is still notified. Raises AlertNotFound, InvalidRequest, DatabaseUnavailable.
        """
        now, by = self.clock(), _checked("by", by)

        def work(conn: Connection) -> tuple[Alert, bool]:
            self._find(conn, alert_id, now)
            changed = records.acknowledge(conn, alert_id, by=by, now=now)
            if changed:
                records.add_event(conn, alert_id, "acknowledged", now=now, actor=by)
            alert = self._find(conn, alert_id, now)
            record_action(
                conn,
                OperatorAction.ALERT_ACKNOWLEDGED,
                outcome=describe_change(changed),
                target=str(alert_id),
                details={"rule": alert.rule, "by": by},
            )
            return alert, changed

        alert, changed = transaction(self.engine, work)
        if changed:
            log.info("alert_acknowledged", alert_id=str(alert_id), rule=alert.rule, by=by)
        return alert

    def silence(
        self, *, rule: str, subject: str | None, until: datetime, by: str, reason: str | None = None
    ) -> Silence:
        """Suppress notifications about one subject of a rule, or all its subjects, until a time.

        A number is given by its tag, as in its alerts. Raises InvalidRequest for an unknown rule, a number
        without an alert, or a time in the past or too far ahead; DatabaseUnavailable.
        """
        self._check_rule(rule)
        if subject is not None:
            of_numbers = rule in OF_NUMBERS
            subject = _checked("subject", subject, typed=not of_numbers)
            if of_numbers and find_tag(subject) is None:
                raise _no_number()
        return self._silence(rule=rule, subject=subject, until=until, by=by, reason=reason)

    def _silence(
        self, *, rule: str, subject: str | None, until: datetime, by: str, reason: str | None
    ) -> Silence:
        now, by = self.clock(), _checked("by", by)
        if not now < until <= now + LONGEST:
            raise InvalidRequest([FieldError("until", f"must be within the next {LONGEST.days} days")])
        if reason is not None:
            reason = _checked("reason", reason, typed=True)

        def work(conn: Connection) -> Silence:
            tag, number_hash = self._number(conn, rule, subject)
            made = silences.add_silence(
                conn,
                rule=rule,
                subject=tag or subject,
                number_hash=number_hash,
                until=until,
                by=by,
                reason=reason,
                now=now,
                vault=self.vault,
            )
            for alert_id in silences.find_silenced_alerts(conn, made.id):
                records.add_event(conn, alert_id, "silenced", now=now, actor=by, detail=_until(made))
            # The tag of a number would identify it after its erasure.
            record_action(
                conn,
                OperatorAction.ALERT_SILENCED,
                target=rule,
                subject=AuditSubject(number_hash=number_hash) if number_hash else None,
                reason=reason,
                details={
                    "silence": str(made.id),
                    "until": until.isoformat(),
                    "subject": None if number_hash else subject,
                    "by": by,
                },
            )
            return made

        made = transaction(self.engine, work)
        log.info("alert_silenced", silence_id=str(made.id), rule=rule, by=by, until=until.isoformat())
        return made

    def _number(self, conn: Connection, rule: str, subject: str | None) -> tuple[str | None, bytes | None]:
        """Return the tag and the hash of the number that is the subject; None for any other subject.

        Erasure finds the silence by the hash. Raises InvalidRequest for a number without an alert.
        """
        tag = find_tag(subject) if subject is not None and rule in OF_NUMBERS else None
        if tag is None:
            return None, None
        number_hash = records.find_number(conn, tag)
        if number_hash is None:
            raise _no_number()
        return tag, number_hash

    def silence_alert(
        self, alert_id: UUID, *, until: datetime, by: str, reason: str | None, every_subject: bool
    ) -> Silence:
        """Silence the subject of an alert, or its whole rule. Raises AlertNotFound; else as `silence`."""
        with connection(self.engine) as conn:
            alert = self._find(conn, alert_id, self.clock())
        if alert.subject is None and not every_subject:
            raise InvalidRequest([FieldError("alert", "is about a number that has been erased")])
        subject = None if every_subject else alert.subject
        return self._silence(rule=alert.rule, subject=subject, until=until, by=by, reason=reason)

    def unsilence(self, silence_id: UUID, *, by: str | None = None) -> bool:
        """End a silence. Returns whether one was in force. Raises DatabaseUnavailable."""
        now = self.clock()

        def work(conn: Connection) -> Silence | None:
            ended = silences.end_silence(conn, silence_id, now=now, vault=self.vault)
            for alert_id in silences.find_silenced_alerts(conn, ended.id) if ended else ():
                records.add_event(conn, alert_id, "silence_ended", now=now, actor=by)
            record_action(
                conn,
                OperatorAction.ALERT_UNSILENCED,
                outcome=describe_change(ended is not None),
                target=ended.rule if ended else None,
                details={"silence": str(silence_id), "by": by},
            )
            return ended

        ended = transaction(self.engine, work)
        if ended:
            log.info("alert_unsilenced", silence_id=str(silence_id), rule=ended.rule, by=by)
        return ended is not None

    def silences(self) -> Sequence[Silence]:
        """Return the silences in force, by their end. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            return silences.list_silences(conn, now=self.clock(), vault=self.vault)

    def evaluated_at(self) -> datetime | None:
        """Return when the rules were last evaluated. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            last = evaluations.find_last_evaluation(conn, "rules")
        return last.at if last else None

    def _find(self, conn: Connection, alert_id: UUID, now: datetime) -> Alert:
        alert = records.find(conn, alert_id, now=now, vault=self.vault)
        if alert is None:
            raise AlertNotFound
        return alert

    def _check_rule(self, rule: str | None) -> None:
        if rule is not None and rule not in self.rules:
            raise InvalidRequest([FieldError("rule", f"must be one of {', '.join(sorted(self.rules))}")])


def _no_number() -> InvalidRequest:
    return InvalidRequest(
        [FieldError("subject", "must be a number's tag, `#` and six letters, as an alert about it shows it")]
    )


def _checked(field: str, text: str, *, typed: bool = False) -> str:
    """Return a text that may be stored and shown. Text that an operator typed must contain no secret."""
    text = text.strip()
    if not text or len(text) > _LONGEST_TEXT or not text.isprintable():
        raise InvalidRequest([FieldError(field, f"must be 1 to {_LONGEST_TEXT} printable characters")])
    if typed and (masks.mask_text(text) != text or contains_number(text)):
        raise InvalidRequest([FieldError(field, "must not contain what may be a phone number or a secret")])
    return text


def _until(silence: Silence) -> str:
    why = f": {silence.reason}" if silence.reason else ""
    return f"until {silence.until:%Y-%m-%d %H:%M} UTC{why}"
