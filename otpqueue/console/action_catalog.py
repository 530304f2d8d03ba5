"""What operators can do in the console. Every action is an operation that the command line uses too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from urllib.parse import urlencode
from uuid import UUID

from otpqueue.console.layout import PageContext
from otpqueue.domain import phone
from otpqueue.domain.audit import OperatorAction
from otpqueue.domain.errors import FieldError, InvalidPhoneNumber, InvalidRequest, RequestNotFound
from otpqueue.wiring import Parts

HERE = "/console/actions"
_AUDIT = "/console/audit"
_REQUESTS = "/console/requests"

DURATIONS: Mapping[str, tuple[str, timedelta]] = MappingProxyType(
    {
        "1h": ("1 hour", timedelta(hours=1)),
        "4h": ("4 hours", timedelta(hours=4)),
        "24h": ("24 hours", timedelta(hours=24)),
        "7d": ("7 days", timedelta(days=7)),
    }
)


@dataclass(frozen=True, kw_only=True)
class ActionForm:
    """What an operator has sent: the fields of the form, the reason, and the number if there is one."""

    page: PageContext
    fields: Mapping[str, str]
    reason: str
    number: str | None

    def get(self, name: str) -> str | None:
        """Return a field, None if it is missing or blank."""
        return self.fields.get(name, "").strip() or None

    @property
    def phone_number(self) -> str:
        """The number. Raises InvalidRequest if there is none."""
        if self.number is None:
            raise InvalidRequest([FieldError("number", "is missing. Search for the number first")])
        return self.number

    def require(self, name: str) -> str:
        """Return a field. Raises InvalidRequest if it is missing."""
        value = self.get(name)
        if value is None:
            raise InvalidRequest([FieldError(name, "is required")])
        return value

    @property
    def by(self) -> str:
        """The operator's name, for the record."""
        return self.page.operator.name

    @property
    def now(self) -> datetime:
        """The time of the call."""
        return self.page.now


@dataclass(frozen=True, kw_only=True)
class ConsoleAction:
    """One action and its page."""

    title: str
    button: str
    explanation: str
    records: OperatorAction
    """What it is called in the audit trail."""
    run: Callable[[Parts, ActionForm], str]
    """Acts, and returns the page to go to."""
    fields: tuple[str, ...] = ()
    """The fields that the page asks for."""
    of_number: bool = False
    is_final: bool = False
    """Whether it cannot be undone."""


def _shown(action: OperatorAction) -> str:
    """Return the page that shows the newest entry of an action: there is no URL of a number."""
    return f"{_AUDIT}?{urlencode({'action': action.value})}"


def _parse_day(text: str) -> datetime:
    """Return the day in a form field, in UTC. Raises InvalidRequest."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise InvalidRequest([FieldError("until", "must be a day like 2026-03-01")]) from None


def _stop(parts: Parts, form: ActionForm) -> str:
    parts.switch.stop(
        country=form.get("country"), client=form.get("client"), reason=form.reason, by=form.by, now=form.now
    )
    return HERE


def _resume(parts: Parts, form: ActionForm) -> str:
    parts.switch.resume(
        country=form.get("country"), client=form.get("client"), reason=form.reason, by=form.by, now=form.now
    )
    return HERE


def _block(parts: Parts, form: ActionForm) -> str:
    until = form.get("until")
    end = _parse_day(until) if until else None
    parts.blocklist.block(form.phone_number, reason=form.reason, until=end, now=form.now)
    return _shown(OperatorAction.NUMBER_BLOCKED)


def _unblock(parts: Parts, form: ActionForm) -> str:
    parts.blocklist.unblock(form.phone_number, reason=form.reason)
    return _shown(OperatorAction.NUMBER_UNBLOCKED)


def _unlock(parts: Parts, form: ActionForm) -> str:
    parts.numbers.unlock(form.phone_number, client=form.get("client"), reason=form.reason, now=form.now)
    return _shown(OperatorAction.NUMBER_UNLOCKED)


def _erase(parts: Parts, form: ActionForm) -> str:
    typed = form.require("typed")
    try:
        same = form.phone_number in phone.list_stored_forms(typed)
    except InvalidPhoneNumber:
        same = False
    if not same:
        raise InvalidRequest([FieldError("number", "is not the one above. Type it with its country code")])
    parts.erase(
        form.phone_number,
        country=None,
        client_id=form.page.operator.key.client_id,
        reason=form.reason,
        now=form.now,
    )
    return _shown(OperatorAction.NUMBER_ERASED)


def _cancel(parts: Parts, form: ActionForm) -> str:
    try:
        request_id = UUID(form.require("request"))
    except ValueError:
        raise RequestNotFound from None
    parts.cancel.by_operator(request_id, reason=form.reason, now=form.now)
    return f"{_REQUESTS}/{request_id}"


def _enable_webhook(parts: Parts, form: ActionForm) -> str:
    parts.webhooks.enable(form.require("client"), reason=form.reason, now=form.now)
    return HERE


def _allow(parts: Parts, form: ActionForm) -> str:
    lasting = DURATIONS.get(form.require("lasting"))
    if lasting is None:
        raise InvalidRequest([FieldError("lasting", f"must be one of {', '.join(DURATIONS)}")])
    parts.guard_admin.allow(form.require("subject"), lasting=lasting[1], reason=form.reason, now=form.now)
    return HERE


def _disallow(parts: Parts, form: ActionForm) -> str:
    parts.guard_admin.disallow(form.require("subject"), reason=form.reason)
    return HERE


ACTIONS: Mapping[str, ConsoleAction] = MappingProxyType(
    {
        "stop-sending": ConsoleAction(
            title="Stop sending",
            button="Stop sending",
            explanation="New requests are refused with 503. Accepted requests wait until their deadline. "
            "Sends in progress complete, and sent codes can be verified.",
            records=OperatorAction.SENDING_STOPPED,
            run=_stop,
            fields=("country", "client"),
        ),
        "resume-sending": ConsoleAction(
            title="Resume sending",
            button="Resume sending",
            explanation="Ends this stop. Other stops remain in force.",
            records=OperatorAction.SENDING_RESUMED,
            run=_resume,
        ),
        "block-number": ConsoleAction(
            title="Block a number",
            button="Block",
            explanation="The number gets no codes. A code that is being sent still arrives.",
            records=OperatorAction.NUMBER_BLOCKED,
            run=_block,
            fields=("until",),
            of_number=True,
        ),
        "unblock-number": ConsoleAction(
            title="Unblock a number",
            button="Unblock",
            explanation="The number can get codes again.",
            records=OperatorAction.NUMBER_UNBLOCKED,
            run=_unblock,
            of_number=True,
        ),
        "unlock-number": ConsoleAction(
            title="Unlock a number",
            button="Unlock",
            explanation="Resets the wrong codes of the number, so that new requests for it are accepted. "
            "Make sure that this is not an attack.",
            records=OperatorAction.NUMBER_UNLOCKED,
            run=_unlock,
            of_number=True,
        ),
        "erase-number": ConsoleAction(
            title="Erase a number",
            button="Erase permanently",
            explanation="Cancels the number's live requests and deletes all data about it, of every client. "
            "A block and wrong codes stay. This cannot be undone.",
            records=OperatorAction.NUMBER_ERASED,
            run=_erase,
            fields=("typed",),
            of_number=True,
            is_final=True,
        ),
        "cancel-request": ConsoleAction(
            title="Cancel a request",
            button="Cancel the request",
            explanation="The code is not sent, or can no longer be verified. A new request is possible.",
            records=OperatorAction.REQUEST_CANCELLED,
            run=_cancel,
        ),
        "enable-webhook": ConsoleAction(
            title="Enable a webhook",
            button="Enable",
            explanation="Events are sent again, those that wait first. If the receiver still fails, it is "
            "disabled again.",
            records=OperatorAction.WEBHOOK_ENABLED,
            run=_enable_webhook,
        ),
        "allow-through-guard": ConsoleAction(
            title="Allow through the pumping guard",
            button="Allow",
            explanation="The guard does not limit this country, or numbers that begin with these digits, for "
            "a while.",
            records=OperatorAction.GUARD_ALLOWED,
            run=_allow,
            fields=("subject", "lasting"),
        ),
        "guard-again": ConsoleAction(
            title="End an exception of the pumping guard",
            button="Guard again",
            explanation="The guard limits this country, or numbers that begin with these digits, again.",
            records=OperatorAction.GUARD_DISALLOWED,
            run=_disallow,
        ),
    }
)
"""By the last part of their URLs."""
