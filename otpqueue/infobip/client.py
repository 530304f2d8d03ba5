"""Calls to Infobip's 2FA API: send, resend and verify codes, and query what was sent."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from otpqueue.domain.checking import Judgement
from otpqueue.domain.receipts import Receipt
from otpqueue.domain.request import Channel
from otpqueue.domain.sending import (
    APPLICATION_NOT_FOUND,
    NUMBER_NOT_FOUND,
    TEMPLATE_NOT_FOUND,
    Outcome,
    OutcomeEvidence,
    OutgoingMessage,
    RefusalCause,
)
from otpqueue.infobip import receipts, wire
from otpqueue.infobip.transport import MAX_BODY_BYTES, ProviderResponse, Reply, Transport
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_CLOCKS_DIFFER = timedelta(seconds=5)
_REPORTS_AT_ONCE = 1000
_REPORTS_BYTES = _REPORTS_AT_ONCE * 4096
"""A report takes about 700 bytes.

Infobip returns each report once, so an oversized answer would lose its reports.
"""

_PIN = "/2fa/2/pin/{pinId}"
_SENT = "/2fa/2/applications/{applicationId}/verifications"
_TEMPLATES = "/2fa/2/applications/{applicationId}/messages"
_EVIDENCE_SHARE = 0.2
"""The share of the send timeout for an evidence query. The lease must not expire during it."""

_TEMPLATES_KEPT_S = 5.0
"""How long a template list is cached. A burst of 404s needs only one list."""

_CODES = {
    RefusalCause.APPLICATION: APPLICATION_NOT_FOUND,
    RefusalCause.TEMPLATE: TEMPLATE_NOT_FOUND,
    RefusalCause.NUMBER: NUMBER_NOT_FOUND,
}


class InfobipClient:
    """Sends and verifies codes. Thread-safe.

    It returns provider and network failures as values and never raises for them.
    """

    def __init__(self, transport: Transport, *, track_delivery: bool) -> None:
        self._transport, self._track_delivery = transport, track_delivery
        self._templates: dict[str, tuple[float, Reply]] = {}
        """The newest template list of each application, and when it arrived on the monotonic clock."""
        self._templates_lock = threading.Lock()

    def send(self, message: OutgoingMessage) -> Outcome:
        """Have Infobip generate and send a code, or resend an earlier one.

        Disables the number look-up (`ncNeeded=false`), which costs extra, takes time and must be booked.
        """
        tracked = {"trackDelivery": True} if self._track_delivery else {}
        voice = "/voice" if message.channel is Channel.VOICE else ""
        if message.pin_id is not None:
            path = f"/2fa/2/pin/{quote(message.pin_id, safe='')}/resend{voice}"
            reply = self._call("resend", "POST", path, tracked, template=f"{_PIN}/resend{voice}")
            return wire.parse_resend(reply, message.pin_id)
        body: dict[str, Any] = {
            "applicationId": message.application_id,
            "messageId": message.message_id,
            "to": message.to,
            **tracked,
        }
        if message.sender:
            body["from"] = message.sender
        path = "/2fa/2/pin/voice" if voice else "/2fa/2/pin?ncNeeded=false"
        outcome = wire.parse_send(self._call("send", "POST", path, body, template=f"/2fa/2/pin{voice}"))
        if outcome.cause is RefusalCause.UNCLEAR and outcome.http_status == 404:
            return self._classify_not_found(outcome, message)
        return outcome

    def _classify_not_found(self, outcome: Outcome, message: OutgoingMessage) -> Outcome:
        """Return the outcome of a send that was answered 404, with the cause that the template list shows."""
        reply = self._list_templates(message.application_id)
        cause = wire.find_not_found_cause(reply, message.message_id)
        return replace(outcome, cause=cause, code=_CODES.get(cause, outcome.code))

    def _list_templates(self, application_id: str) -> Reply:
        # Concurrent callers wait for one query, at most for its timeout.
        with self._templates_lock:
            at, reply = self._templates.get(application_id, (-math.inf, None))
            if reply is None or time.monotonic() - at > _TEMPLATES_KEPT_S:
                path = f"/2fa/2/applications/{quote(application_id, safe='')}/messages"
                timeout_s = self._transport.timeout_s * _EVIDENCE_SHARE
                reply = self._call("templates", "GET", path, template=_TEMPLATES, timeout_s=timeout_s)
                self._templates[application_id] = time.monotonic(), reply
            return reply

    def verify(self, *, pin_id: str, code: str) -> Judgement:
        """Check whether `code` is the one that Infobip sent as `pin_id`."""
        path = f"/2fa/2/pin/{quote(pin_id, safe='')}/verify"
        return wire.parse_judgement(
            self._call("verify", "POST", path, {"pin": code}, template=f"{_PIN}/verify")
        )

    def query_sent_since(self, *, to: str, application_id: str, since: datetime) -> OutcomeEvidence:
        """Return whether a code was sent to `to` at or after `since`. Used after a send without an answer."""
        path = f"/2fa/2/applications/{quote(application_id, safe='')}/verifications?msisdn={to}"
        timeout_s = self._transport.timeout_s * _EVIDENCE_SHARE
        reply = self._call("evidence", "GET", path, template=_SENT, timeout_s=timeout_s)
        times = wire.parse_sent_times(reply)
        if times is None:
            return OutcomeEvidence.NO_ANSWER
        return (
            OutcomeEvidence.LEFT
            if any(time >= since - _CLOCKS_DIFFER for time in times)
            else OutcomeEvidence.NOT_SEEN
        )

    def fetch_reports(self) -> list[Receipt]:
        """Fetch the delivery reports that have not been fetched yet. Infobip returns each one once.

        Returns an empty list if Infobip does not answer. The reports remain for the next call.
        """
        path = f"/sms/3/reports?limit={_REPORTS_AT_ONCE}"
        reply = self._call("reports", "GET", path, template="/sms/3/reports", max_bytes=_REPORTS_BYTES)
        if isinstance(reply, ProviderResponse) and reply.status == 200 and receipts.is_batch(reply.body):
            return receipts.parse_reports(reply.body)
        status = reply.status if isinstance(reply, ProviderResponse) else None
        code = wire.get_error_code(reply.body) if isinstance(reply, ProviderResponse) else reply.code
        log.warning("reports_not_pulled", http_status=status, code=code)
        return []

    def _call(
        self,
        call: str,
        method: str,
        path: str,
        body: object = None,
        *,
        template: str,
        timeout_s: float | None = None,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> Reply:
        begun = time.monotonic()
        reply = self._transport.call(
            method, path, body, template=template, timeout_s=timeout_s, max_bytes=max_bytes
        )
        metrics.observe(metrics.PROVIDER_DURATION, time.monotonic() - begun, call)
        answer = metrics.classify_status(reply.status) if isinstance(reply, ProviderResponse) else "none"
        metrics.count(metrics.PROVIDER_REQUESTS, call, answer)
        return reply

    def close(self) -> None:
        """Close the pooled connections."""
        self._transport.close()
