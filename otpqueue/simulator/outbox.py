"""The queue of delivery reports: scheduled, ready to be pulled, ready to be pushed, to be retried."""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from otpqueue.simulator.inbox import InboxMessage
from otpqueue.simulator.options import Options
from otpqueue.simulator.receipts import DeliveryReport, ReceiptRuleBody, ReceiptRules, plan_reports
from otpqueue.simulator.subscriptions import Subscriptions, Target, make_basic_header

# "you can only access reports for the last 48h" (Infobip OpenAPI for SMS).
PULL_S: Final = 48 * 3600
REPORTS_KEPT: Final = 200_000

_EVENT: Final = "DELIVERY"
_SUBSCRIBED_AS: Final = {"SMS": "SMS", "VOICE": "VOICE_VIDEO"}


@dataclass(slots=True)
class Push:
    """One request to a webhook; `failures` counts its failed attempts, `due_at` is the next attempt."""

    target: Target
    reports: list[DeliveryReport]
    failures: int = 0
    due_at: float = 0.0


@dataclass(slots=True)
class Counts:
    """Pushes so far: `accepted` by a webhook, `failed` attempts, and pushes `given_up`."""

    accepted: int = 0
    failed: int = 0
    given_up: int = 0


class Outbox:
    """All reports of one simulator; times are epoch seconds of its clock. Hold the state's lock."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.rules = ReceiptRules()
        self.subscriptions = Subscriptions()
        self.counts = Counts()
        self.scheduled: list[tuple[float, int, DeliveryReport]] = []
        self.pullable: deque[DeliveryReport] = deque(maxlen=REPORTS_KEPT)
        self.ready: deque[DeliveryReport] = deque(maxlen=REPORTS_KEPT)
        self.retries: list[Push] = []
        self._order = count()

    def track(self, message: InboxMessage, message_id: str, rule: ReceiptRuleBody) -> None:
        """Schedule the reports of a message that was sent."""
        self.schedule(plan_reports(message, message_id, rule, self._options))

    def schedule(self, reports: Iterable[DeliveryReport]) -> None:
        """Schedule reports for their due times."""
        for report in reports:
            heapq.heappush(self.scheduled, (report.due_at, next(self._order), report))

    def release(self, now: float) -> bool:
        """Make due reports ready to be pulled and pushed; return whether there were any."""
        released = False
        while self.scheduled and self.scheduled[0][0] <= now:
            report = heapq.heappop(self.scheduled)[2]
            released = True
            self.ready.append(report)
            if not report.copy:
                self.pullable.append(report)
        return released

    def next_due(self) -> float | None:
        """Return when the next report or retry is due, None if there is none."""
        due = [push.due_at for push in self.retries]
        if self.scheduled:
            due.append(self.scheduled[0][0])
        return min(due, default=None)

    def take_pushes(self, now: float, *, message_id: str | None = None) -> list[Push]:
        """Return the pushes to be made now, including due retries; only those of one message if given.

        Reports without a webhook are dropped here; they can still be pulled.
        """
        taken = [report for report in self.ready if message_id in {None, report.message_id}]
        if message_id is None:
            self.ready.clear()
            due = [push for push in self.retries if push.due_at <= now]
            self.retries = [push for push in self.retries if push.due_at > now]
        else:
            due = []
            self.ready = deque(
                (report for report in self.ready if report.message_id != message_id), maxlen=REPORTS_KEPT
            )
        return due + self._batches(taken)

    def failed(self, push: Push, now: float) -> None:
        """Schedule a retry after `1 min + 1 min * n * n`, or give up; the delay is Infobip's."""
        self.counts.failed += 1
        n = push.failures
        push.failures += 1
        if n >= self._options.receipts_retries:
            self.counts.given_up += 1
            return
        push.due_at = now + (60 + 60 * n * n) * self._options.receipts_retry_scale
        self.retries.append(push)

    def pull(self, now: float, limit: int, message_id: str | None) -> list[DeliveryReport]:
        """Remove and return at most `limit` SMS reports of the last 48 h, of one message if given one.

        That the oldest come first is INFERRED.
        """
        self.release(now)
        taken: list[DeliveryReport] = []
        kept: deque[DeliveryReport] = deque(maxlen=REPORTS_KEPT)
        for report in self.pullable:
            if report.due_at < now - PULL_S:
                continue
            wanted = report.channel == "SMS" and message_id in {None, report.message_id}
            (taken if wanted and len(taken) < limit else kept).append(report)
        self.pullable = kept
        return taken

    def as_json(self) -> dict[str, Any]:
        """Return rules and numbers as the receipts endpoint shows them."""
        return {
            "rules": [rule.as_json() for rule in self.rules.all()],
            "scheduled": len(self.scheduled),
            "retrying": len(self.retries),
            "accepted": self.counts.accepted,
            "failed": self.counts.failed,
            "given_up": self.counts.given_up,
        }

    def _batches(self, reports: Iterable[DeliveryReport]) -> list[Push]:
        gathered: dict[tuple[str, tuple[tuple[str, str], ...]], Push] = {}
        full: list[Push] = []
        for report in reports:
            for target in self._targets(report):
                key = (target.url, tuple(target.headers.items()))
                push = gathered.setdefault(key, Push(target, []))
                push.reports.append(report)
                if len(push.reports) >= target.batch:
                    full.append(gathered.pop(key))
        return full + list(gathered.values())

    def _targets(self, report: DeliveryReport) -> list[Target]:
        options = self._options
        found = list(
            self.subscriptions.targets(
                _SUBSCRIBED_AS[report.channel],
                _EVENT,
                report.sender,
                batch=options.receipts_batch,
                timeout_s=options.receipts_timeout_s,
            )
        )
        if options.receipts_url is not None:
            headers = make_basic_header(options.receipts_user) if options.receipts_user is not None else {}
            found.append(
                Target(options.receipts_url, headers, options.receipts_batch, options.receipts_timeout_s)
            )
        return found
