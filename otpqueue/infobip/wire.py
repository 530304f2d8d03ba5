"""Convert between Infobip's JSON and our values.

The HTTP status decides first, then the fields. An undocumented identifier is treated by its status. A status
may also come from a proxy or gateway. Only an error in one of Infobip's own envelopes ends a code, rejects a
send permanently, or reports that our configuration is wrong.

The sources are Infobip's OpenAPI document for 2FA, 3.210.0, and where it is silent the product's
documentation of 2015, the only one that lists `pinError`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from otpqueue.domain.checking import CheckVerdict, Judgement
from otpqueue.domain.sending import Outcome, OutcomeKind, RefusalCause
from otpqueue.infobip.transport import NotConnected, ProviderResponse, Reply

_THROTTLED = ("THROTTLE", "TOO_MANY")
_FIELDS_OF_A_SEND = frozenset({"pinId", "to", "ncStatus", "smsStatus", "callStatus"})
_NOT_THERE = ("NOT_FOUND", "E404")
_NEW_CODE = re.compile(r"E[0-9]{3}")
_NO_ERROR = {"", "NO_ERROR"}
_NO_CALL = ("BAD_REQUEST", "REJECTED", "FAILED", "UNDELIVERABLE")
_CAUSES = {401: RefusalCause.KEY, 403: RefusalCause.UNCLEAR, 404: RefusalCause.UNCLEAR}
_MILLISECONDS_FROM = 10**11
_LATEST_MS = 10**14
# Infobip's documents do not contain these. A popular guide does, so they are accepted.
_UNDOCUMENTED_CODES = {
    "PIN_EXPIRED": CheckVerdict.EXPIRED,
    "PIN_NOT_FOUND": CheckVerdict.EXPIRED,
    "MAX_ATTEMPTS_EXCEEDED": CheckVerdict.EXHAUSTED,
}


def get_error_code(body: Any) -> str | None:
    """Return Infobip's error identifier from either of its envelopes."""
    if not isinstance(body, dict):
        return None
    envelope = body.get("requestError")
    if isinstance(envelope, dict):
        for kind in ("serviceException", "policyException"):
            exception = envelope.get(kind)
            if isinstance(exception, dict):
                return clean_word(exception.get("messageId"))
    return clean_word(body.get("errorCode"))


def get_own_error(body: Any) -> str | None:
    """Return the identifier of an error that certainly comes from Infobip, or None.

    Other servers also use a field `errorCode`. Infobip's newer envelope has codes of one form there.
    """
    code = get_error_code(body)
    if code is None or isinstance(body.get("requestError"), dict):
        return code
    return code if _NEW_CODE.fullmatch(code) else None


def get_error_text(body: Any) -> str | None:
    """Return Infobip's error text for operators, at most 200 characters."""
    if not isinstance(body, dict):
        return None
    envelope = body.get("requestError")
    exception = envelope.get("serviceException") if isinstance(envelope, dict) else None
    text = exception.get("text") if isinstance(exception, dict) else body.get("description")
    return text[:200] if isinstance(text, str) else None


def parse_send(reply: Reply) -> Outcome:
    """Return the outcome of a send."""
    if isinstance(reply, NotConnected):
        return Outcome(kind=OutcomeKind.REFUSED, code=reply.code, retryable=True)
    if not isinstance(reply, ProviderResponse):
        return Outcome(kind=OutcomeKind.UNKNOWN, code=reply.code)
    if 200 <= reply.status < 300:
        return _parse_accepted(reply)
    is_own = get_own_error(reply.body) is not None
    code = get_error_code(reply.body) or f"http_{reply.status}"
    if 400 <= reply.status < 500:
        return _classify_rejection(reply, code, is_own=is_own)
    # A gateway that sends `Retry-After` has not forwarded the request. Without it, a 503 may also follow a
    # connection that broke after the request was forwarded.
    if reply.status in {500, 503} and (is_own or (reply.status == 503 and reply.retry_after_s is not None)):
        return _make_refusal(reply, code, retryable=True)
    return Outcome(kind=OutcomeKind.UNKNOWN, code=code, http_status=reply.status)


def _classify_rejection(reply: ProviderResponse, code: str, *, is_own: bool) -> Outcome:
    if reply.status == 429 or code.startswith(_THROTTLED):
        return _make_refusal(reply, code, retryable=True)
    if not is_own:
        return replace(_make_refusal(reply, code, retryable=True), by_provider=False)
    cause = _CAUSES.get(reply.status)
    return replace(_make_refusal(reply, code, retryable=cause is not None), cause=cause)


def parse_resend(reply: Reply, pin_id: str) -> Outcome:
    """Return the outcome of a resend of `pin_id`.

    Infobip does not document whether the answer repeats the pinId. If it names one, that one must be checked.
    """
    if isinstance(reply, ProviderResponse) and reply.status == 404 and (code := get_own_error(reply.body)):
        return replace(_make_refusal(reply, code), pin_unknown=True)
    if isinstance(reply, ProviderResponse) and isinstance(reply.body, dict) and not reply.body.get("pinId"):
        reply = replace(reply, body={**reply.body, "pinId": pin_id})
    return parse_send(reply)


def find_not_found_cause(reply: Reply, message_id: str) -> RefusalCause:
    """Return why a send was answered 404, from the list of its application's templates.

    The 404 itself does not say it: "Application or message with given ID cannot be found."
    """
    if not isinstance(reply, ProviderResponse):
        return RefusalCause.UNCLEAR
    if reply.status == 401 and get_own_error(reply.body):
        return RefusalCause.KEY
    if reply.status == 404 and get_own_error(reply.body):
        return RefusalCause.APPLICATION
    if not 200 <= reply.status < 300 or not isinstance(reply.body, list):
        return RefusalCause.UNCLEAR
    known = {one.get("messageId") for one in reply.body if isinstance(one, dict)}
    return RefusalCause.NUMBER if message_id in known else RefusalCause.TEMPLATE


def parse_sent_times(reply: Reply) -> list[datetime] | None:
    """Return when codes were sent to a number, from a verification status answer.

    None if the reply is not one.

    Infobip documents milliseconds, but its sample shows seconds. Ten digits are read as seconds, 0 as never.
    """
    if not isinstance(reply, ProviderResponse) or not 200 <= reply.status < 300:
        return None
    found = reply.body.get("verifications") if isinstance(reply.body, dict) else reply.body
    if not isinstance(found, list):
        return None
    stamps = [one.get("sentAt") for one in found if isinstance(one, dict)]
    return [
        datetime.fromtimestamp(stamp if stamp < _MILLISECONDS_FROM else stamp / 1000, UTC)
        for stamp in stamps
        if isinstance(stamp, int) and not isinstance(stamp, bool) and 0 < stamp < _LATEST_MS
    ]


def _make_refusal(reply: ProviderResponse, code: str, *, retryable: bool = False) -> Outcome:
    return Outcome(
        kind=OutcomeKind.REFUSED,
        code=code,
        http_status=reply.status,
        retryable=retryable,
        retry_after_s=reply.retry_after_s,
    )


def _parse_accepted(reply: ProviderResponse) -> Outcome:
    fields = reply.body if isinstance(reply.body, dict) else {}
    sms, call = clean_word(fields.get("smsStatus")), clean_word(fields.get("callStatus"))
    # For an SMS the only success value is known. For a call the set of values is open.
    if (sms and sms != "MESSAGE_SENT") or (not sms and call and call.startswith(_NO_CALL)):
        # A 200 that reports no send. The number look-up's identifier is the more precise one.
        code = clean_word(fields.get("ncStatus")) or str(sms or call)
        return Outcome(kind=OutcomeKind.REFUSED, code=code, http_status=reply.status)
    status, pin_id = sms or call, clean_id(fields.get("pinId"), length=200)
    if status and pin_id:
        return Outcome(
            kind=OutcomeKind.ACCEPTED,
            code=status,
            http_status=reply.status,
            pin_id=pin_id,
            external_message_id=clean_id(fields.get("externalMessageId"), length=100),
        )
    return Outcome(
        kind=OutcomeKind.UNKNOWN,
        code="answer_not_understood",
        http_status=reply.status,
        by_provider=bool(_FIELDS_OF_A_SEND.intersection(fields)) or get_own_error(reply.body) is not None,
    )


def parse_judgement(reply: Reply) -> Judgement:
    """Return the verdict on a code. Only `verified: true` is a success."""
    if isinstance(reply, NotConnected):
        return Judgement(verdict=CheckVerdict.UNJUDGED, code=reply.code)
    if not isinstance(reply, ProviderResponse):
        return Judgement(verdict=CheckVerdict.UNKNOWN, code=reply.code)
    if 200 <= reply.status < 300:
        return _parse_verdict(reply)
    verdict, own = CheckVerdict.UNJUDGED, get_own_error(reply.body)
    if own and 400 <= reply.status < 500:
        verdict = _UNDOCUMENTED_CODES.get(own, verdict)
        if reply.status == 404 and own.endswith(_NOT_THERE):
            verdict = CheckVerdict.EXPIRED
    code = get_error_code(reply.body) or f"http_{reply.status}"
    return Judgement(verdict=verdict, code=code, http_status=reply.status)


def _parse_verdict(reply: ProviderResponse) -> Judgement:
    fields = reply.body if isinstance(reply.body, dict) else {}
    verified = fields.get("verified")
    error = clean_word(fields.get("pinError")) or ""
    if verified is True:
        return Judgement(verdict=CheckVerdict.CORRECT, code=error or "VERIFIED", http_status=reply.status)
    if verified is not False:
        return Judgement(verdict=CheckVerdict.UNKNOWN, code="answer_not_understood", http_status=reply.status)
    if "EXPIRED" in error:
        verdict = CheckVerdict.EXPIRED
    elif "ATTEMPTS" in error or fields.get("attemptsRemaining") == 0:
        verdict = CheckVerdict.EXHAUSTED
    else:
        verdict = CheckVerdict.WRONG
    return Judgement(
        verdict=verdict, code="WRONG_PIN" if error in _NO_ERROR else error, http_status=reply.status
    )


def clean_id(value: Any, *, length: int) -> str | None:
    """Return an identifier of Infobip's, or None if it is longer than `length`.

    A truncated identifier would be a different one.
    """
    return clean_word(value, length=length) if isinstance(value, str) and len(value) <= length else None


def clean_word(value: Any, *, length: int = 64) -> str | None:
    """Return a value of Infobip's that is safe to store and log: printable ASCII, truncated to `length`."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        return None
    return value[:length] or None
