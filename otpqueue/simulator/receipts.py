"""Delivery reports of tracked messages, and the rules by which tests choose them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from otpqueue.simulator.clock import format_report_time
from otpqueue.simulator.faults import check_recipient
from otpqueue.simulator.inbox import InboxMessage
from otpqueue.simulator.options import Options
from otpqueue.simulator.statuses import STATUSES, StatusName

Outcome = Literal["delivered", "undelivered", "rejected", "expired", "operator", "none"]

MAX_DELAY_MS: Final = 365 * 86_400_000

# Delay of overtaken reports after the final one: enough for a separate push.
_OVERTAKEN_S: Final = 0.2
_SMS_CHARACTERS: Final = 160
_PART_CHARACTERS: Final = 153
_MCC_MNC: Final = "23400"

_FINAL: dict[Outcome, StatusName] = {
    "delivered": "DELIVERED_TO_HANDSET",
    "undelivered": "UNDELIVERABLE_NOT_DELIVERED",
    "rejected": "REJECTED_FLOODING_FILTER",
    "expired": "EXPIRED_EXPIRED",
}

Milliseconds = Annotated[int, Field(ge=0, le=MAX_DELAY_MS)]


class ReceiptRuleMatch(BaseModel):
    """The messages that a rule applies to: those to one number, or all."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    to: Annotated[str, AfterValidator(check_recipient)] | None = None


class ReceiptRuleBody(BaseModel):
    """The reports of a message, for up to `times` messages (null or absent: until deleted).

    `outcome` is the final report; `operator` ends with DELIVERED_TO_OPERATOR, `none` gives no report at
    all. `delay_ms` is how long after sending it comes, in simulated time. `then` is another final report
    `then_delay_ms` after the first. `duplicate` is the number of extra pushes of each report. `reorder`
    lets the final report overtake the earlier ones. `before_answer` pushes the reports due at once, and
    waits for the webhook, before the send responds.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    match: ReceiptRuleMatch = ReceiptRuleMatch()
    times: Annotated[int, Field(ge=1)] | None = None
    outcome: Outcome = "delivered"
    delay_ms: Milliseconds | None = None
    then: Literal["delivered", "undelivered", "rejected", "expired"] | None = None
    then_delay_ms: Milliseconds = 1000
    duplicate: Annotated[int, Field(ge=0, le=100)] = 0
    reorder: bool = False
    before_answer: bool = False

    @model_validator(mode="after")
    def _check_combination(self) -> "ReceiptRuleBody":
        if self.outcome == "none" and self.then is not None:
            raise ValueError("then needs an outcome other than none")
        return self


@dataclass(slots=True)
class ReceiptRule:
    """An active rule; `used` counts the messages it applied to."""

    id: str
    body: ReceiptRuleBody
    used: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the rule as the receipts endpoint shows it."""
        return {"id": self.id, **self.body.model_dump(exclude_unset=True), "used": self.used}


class ReceiptRules:
    """The rules in order of creation; used-up ones stay listed but no longer apply."""

    def __init__(self) -> None:
        self._rules: list[ReceiptRule] = []

    def add(self, body: ReceiptRuleBody) -> ReceiptRule:
        """Append a rule."""
        rule = ReceiptRule(str(uuid4()), body)
        self._rules.append(rule)
        return rule

    def all(self) -> list[ReceiptRule]:
        """Return all rules, oldest first."""
        return list(self._rules)

    def clear(self) -> None:
        """Delete all rules."""
        self._rules.clear()

    def take(self, to: str) -> ReceiptRuleBody | None:
        """Return the body of the first active rule for a number, and count its use."""
        for rule in self._rules:
            spent = rule.body.times is not None and rule.used >= rule.body.times
            if not spent and rule.body.match.to in {None, to}:
                rule.used += 1
                return rule.body
        return None


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """One report on one message; times are epoch seconds of the simulator's clock.

    `due_at` is when it is sent, `done_at` when the reported event happened. A `copy` is only pushed.
    """

    message_id: str
    to: str
    channel: Literal["SMS", "VOICE"]
    sender: str | None
    status: StatusName
    parts: int
    sent_at: float
    done_at: float
    due_at: float
    copy: bool = False

    def as_json(self, options: Options, *, legacy: bool = False) -> dict[str, Any]:
        """Return the report in the V3 shape or the legacy one (Infobip OpenAPI for SMS, 3.210.0)."""
        status = STATUSES[self.status]
        shown: dict[str, Any] = {"messageId": self.message_id, "status": status.as_json()}
        if options.optional_fields != "keep":
            return shown
        shown["to"] = self.to
        if self.sender is not None:
            shown["from" if legacy else "sender"] = self.sender
        price = 0.0 if status.group_name == "REJECTED" else options.receipts_price
        shown |= {
            "sentAt": format_report_time(self.sent_at),
            "doneAt": format_report_time(self.done_at),
            "smsCount" if legacy else "messageCount": self.parts,
            "mccMnc": _MCC_MNC,
            "price": {"pricePerMessage": price, "currency": options.receipts_currency},
            "error": status.error.as_json(legacy=legacy),
        }
        return shown


def plan_reports(
    message: InboxMessage, message_id: str, rule: ReceiptRuleBody, options: Options
) -> list[DeliveryReport]:
    """Return the reports a message gets, in the order in which they become due."""
    if rule.outcome == "none" or message.channel == "EMAIL":
        return []
    final_s = (options.receipts_delay_ms if rule.delay_ms is None else rule.delay_ms) / 1000
    last: list[tuple[StatusName, float]] = []
    if rule.outcome != "operator":
        last.append((_FINAL[rule.outcome], final_s))
    if rule.then is not None:
        last.append((_FINAL[rule.then], final_s + rule.then_delay_ms / 1000))
    before = [(name, 0.0) for name in _before_final(message, rule, options)]
    overtaken_s = final_s + _OVERTAKEN_S
    if rule.reorder and last:
        timed = [*((*step, step[1]) for step in last), *((name, at, overtaken_s) for name, at in before)]
        timed.sort(key=lambda step: step[2])
    else:
        timed = [(*step, step[1]) for step in (*before, *last)]
    return _reports(message, message_id, timed, copies=rule.duplicate)


def _before_final(message: InboxMessage, rule: ReceiptRuleBody, options: Options) -> Sequence[StatusName]:
    chosen = options.receipts_before_final
    operator = (chosen in {"both", "operator"} and message.channel == "SMS") or rule.outcome == "operator"
    names: list[StatusName] = ["PENDING_ENROUTE"] if chosen in {"both", "pending"} else []
    return [*names, "DELIVERED_TO_OPERATOR"] if operator else names


def _reports(
    message: InboxMessage, message_id: str, timed: Sequence[tuple[StatusName, float, float]], *, copies: int
) -> list[DeliveryReport]:
    length = len(message.text)
    parts = 1 if length <= _SMS_CHARACTERS else math.ceil(length / _PART_CHARACTERS)
    return [
        DeliveryReport(
            message_id,
            message.to,
            "VOICE" if message.channel == "VOICE" else "SMS",
            message.sender,
            name,
            1 if message.channel == "VOICE" else parts,
            sent_at=message.sent_at,
            done_at=message.sent_at + after_s,
            due_at=message.sent_at + due_s,
            copy=copy > 0,
        )
        for name, after_s, due_s in timed
        for copy in range(copies + 1)
    ]
