"""Infobip's words and ours: JSON in and out, and what an answer means.

Decided by HTTP status first, then by the fields; a word that nobody documented is treated by its status. The
sources are Infobip's OpenAPI document for 2FA, 3.210.0, and where that is silent the 2015 site of the same
product, which alone lists `pinError`.
"""

from __future__ import annotations

from typing import Any

from otpqueue.domain.checking import Judgement, Verdict
from otpqueue.domain.sending import Outcome, OutcomeKind
from otpqueue.infobip.transport import Answer, NotConnected, Reply

_THROTTLED = ("THROTTLE", "TOO_MANY")
_NO_ERROR = {"", "NO_ERROR"}


def error_code(body: Any) -> str | None:
    """Return the provider's identifier of an error, from either of its envelopes."""
    if not isinstance(body, dict):
        return None
    envelope = body.get("requestError")
    if isinstance(envelope, dict):
        for kind in ("serviceException", "policyException"):
            exception = envelope.get(kind)
            if isinstance(exception, dict):
                return _word(exception.get("messageId"))
    return _word(body.get("errorCode"))


def error_text(body: Any) -> str | None:
    """Return the provider's words for an error, for an operator to read."""
    if not isinstance(body, dict):
        return None
    envelope = body.get("requestError")
    exception = envelope.get("serviceException") if isinstance(envelope, dict) else None
    text = exception.get("text") if isinstance(exception, dict) else body.get("description")
    return text[:200] if isinstance(text, str) else None


def send_outcome(reply: Reply) -> Outcome:
    """Return what became of a send."""
    if isinstance(reply, NotConnected):
        return Outcome(kind=OutcomeKind.REFUSED, code=reply.code, retryable=True)
    if not isinstance(reply, Answer):
        return Outcome(kind=OutcomeKind.UNKNOWN, code=reply.code)
    if 200 <= reply.status < 300:
        return _taken(reply)
    named = error_code(reply.body)
    code = named or f"http_{reply.status}"
    if reply.status == 429 or (400 <= reply.status < 500 and code.startswith(_THROTTLED)):
        return _refused(reply, code, retryable=True)
    if reply.status in {401, 403, 404}:
        return _refused(reply, code, retryable=True, misconfigured=True)
    if 400 <= reply.status < 500:
        return _refused(reply, code)
    if reply.status == 503 or (reply.status == 500 and named):
        return _refused(reply, code, retryable=True)
    return Outcome(kind=OutcomeKind.UNKNOWN, code=code, http_status=reply.status)


def _refused(reply: Answer, code: str, *, retryable: bool = False, misconfigured: bool = False) -> Outcome:
    return Outcome(
        kind=OutcomeKind.REFUSED,
        code=code,
        http_status=reply.status,
        retryable=retryable,
        misconfigured=misconfigured,
        retry_after_s=reply.retry_after_s,
    )


def _taken(reply: Answer) -> Outcome:
    fields = reply.body if isinstance(reply.body, dict) else {}
    sms_status, pin_id = _word(fields.get("smsStatus")), _pin_id(fields.get("pinId"))
    if sms_status == "MESSAGE_SENT" and pin_id:
        return Outcome(kind=OutcomeKind.ACCEPTED, code=sms_status, http_status=reply.status, pin_id=pin_id)
    if sms_status and sms_status != "MESSAGE_SENT":
        # A 200 that says nothing was sent: the number look-up's word is the more telling one.
        code = _word(fields.get("ncStatus")) or sms_status
        return Outcome(kind=OutcomeKind.REFUSED, code=code, http_status=reply.status)
    return Outcome(kind=OutcomeKind.UNKNOWN, code="answer_not_understood", http_status=reply.status)


def judgement(reply: Reply) -> Judgement:
    """Return what the provider said of a code. Only `verified: true` is a success."""
    if isinstance(reply, NotConnected):
        return Judgement(verdict=Verdict.UNJUDGED, code=reply.code)
    if not isinstance(reply, Answer):
        return Judgement(verdict=Verdict.UNKNOWN, code=reply.code)
    if 200 <= reply.status < 300:
        return _judged(reply)
    code = error_code(reply.body) or f"http_{reply.status}"
    if reply.status == 404:
        return Judgement(verdict=Verdict.EXPIRED, code=code, http_status=reply.status)
    return Judgement(verdict=Verdict.UNJUDGED, code=code, http_status=reply.status)


def _judged(reply: Answer) -> Judgement:
    fields = reply.body if isinstance(reply.body, dict) else {}
    verified = fields.get("verified")
    error = _word(fields.get("pinError")) or ""
    if verified is True:
        return Judgement(verdict=Verdict.CORRECT, code=error or "VERIFIED", http_status=reply.status)
    if verified is not False:
        return Judgement(verdict=Verdict.UNKNOWN, code="answer_not_understood", http_status=reply.status)
    if "EXPIRED" in error:
        verdict = Verdict.EXPIRED
    elif "ATTEMPTS" in error or fields.get("attemptsRemaining") == 0:
        verdict = Verdict.EXHAUSTED
    else:
        verdict = Verdict.WRONG
    return Judgement(
        verdict=verdict, code="WRONG_PIN" if error in _NO_ERROR else error, http_status=reply.status
    )


def _pin_id(value: Any) -> str | None:
    # Cut short it would be another id.
    return _word(value, length=200) if isinstance(value, str) and len(value) <= 200 else None


def _word(value: Any, *, length: int = 64) -> str | None:
    # What goes into our tables and logs is short and printable, whatever the provider sends.
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        return None
    return value[:length] or None
