"""The public guide's two calls, with its field names and shapes, for front ends written after it.

A refusal is problem details like everywhere, with the guide's `success`, `error` and `errorCode` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import falcon

from otpqueue import clock
from otpqueue.api import bodies, idempotency, problems
from otpqueue.api.auth import Caller, Door
from otpqueue.api.http.room import Room
from otpqueue.api.representations import path_of
from otpqueue.domain import errors
from otpqueue.domain.replay import IdempotentCall, StoredResponse
from otpqueue.domain.request import OtpRequest
from otpqueue.operations.replay import IdempotentResponses
from otpqueue.operations.request import RequestCode, RequestedCode
from otpqueue.operations.verify import TypedCode, VerifyCode

# The guide knows no other status for a code that is not accepted than 400.
_ANSWERS: dict[str, tuple[str, int]] = {
    "code_incorrect": ("WRONG_PIN", 400),
    "expired": ("PIN_EXPIRED", 400),
    "request_not_found": ("PIN_NOT_FOUND", 400),
    "cancelled": ("PIN_NOT_FOUND", 400),
    "already_verified": ("PIN_NOT_FOUND", 400),
    "not_sent_yet": ("PIN_NOT_SENT", 400),
    "failed": ("PIN_NOT_SENT", 400),
    "locked": ("MAX_ATTEMPTS_EXCEEDED", 400),
    "check_in_progress": ("TOO_MANY_REQUESTS", 429),
    "idempotency_in_progress": ("TOO_MANY_REQUESTS", 429),
    "idempotency_key_reused": ("BAD_REQUEST", 400),
    "limit_exceeded": ("TOO_MANY_REQUESTS", 429),
    "too_many_wrong_codes": ("TOO_MANY_REQUESTS", 429),
    "number_locked": ("NUMBER_LOCKED", 403),
    "destination_paused": ("TOO_MANY_REQUESTS", 429),
    "invalid_phone_number": ("INVALID_PHONE_NUMBER", 400),
    "number_not_allowed": ("INVALID_PHONE_NUMBER", 400),
    "country_not_allowed": ("INVALID_PHONE_NUMBER", 400),
    "invalid_request": ("BAD_REQUEST", 400),
    "unauthenticated": ("UNAUTHORIZED", 401),
    "missing_scope": ("FORBIDDEN", 403),
}


@dataclass(frozen=True, kw_only=True)
class RequestOtp:
    """`/request-otp`."""

    door: Door
    request: RequestCode

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Accept a request, as the guide's front end makes it."""
        with _in_the_guides_words(resp):
            now = clock.now()
            with self.door.entering_guide(req, "send", now=now) as caller:
                body = bodies.read(req, bodies.GuideRequest)
                wanted = RequestedCode(
                    phone_number=body.phone_number, session_id=body.session_id, client_ip=caller.client_ip
                )
                answer = self.request.once(
                    wanted,
                    call=_call_of(req, "POST /request-otp", body, caller),
                    answer=_accepted,
                    client_id=caller.client_id,
                    now=now,
                    rate=caller.rate,
                )
            idempotency.send(resp, answer)

    def refuse(self, resp: falcon.Response, error: errors.OtpqueueError) -> None:
        """Answer a call that is refused before it gets here."""
        with _in_the_guides_words(resp):
            raise error


@dataclass(frozen=True, kw_only=True)
class VerifyOtp:
    """`/verify-otp`."""

    door: Door
    verify: VerifyCode
    room: Room
    replays: IdempotentResponses

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Check a code against the newest request for the number and session."""
        with _in_the_guides_words(resp):
            now = clock.now()
            with self.door.entering_guide(req, "verify", now=now) as caller:
                caller.rate.count()
                body = bodies.read(req, bodies.GuideVerify)
                attempted = TypedCode(
                    code=body.otp,
                    phone_number=body.phone_number,
                    session_id=body.session_id,
                    client_ip=caller.client_ip,
                )
                check = self.verify.newest_of_stranger if caller.keyless else self.verify.newest
                client_id, call = caller.client_id, _call_of(req, "POST /verify-otp", body, caller)
                with self.replays.hold(call, make=_verified, client_id=client_id, now=now) as held:
                    if held.answer is None:
                        with self.room.place():
                            request = check(attempted, client_id=client_id, now=now, held=held)
                        held.answer = _verified(request)
            idempotency.send(resp, held.answer)

    def refuse(self, resp: falcon.Response, error: errors.OtpqueueError) -> None:
        """Answer a call that is refused before it gets here."""
        with _in_the_guides_words(resp):
            raise error


def _accepted(request: OtpRequest) -> StoredResponse:
    body = {
        "success": True,
        "message": "The code is on its way.",
        "requestId": str(request.id),
        "statusUrl": path_of(request),
    }
    return StoredResponse(status=202, body=json.dumps(body))


def _verified(_request: OtpRequest) -> StoredResponse:
    return StoredResponse(
        status=200, body=json.dumps({"success": True, "message": "The phone number is verified."})
    )


def _call_of(
    req: falcon.Request, name: str, body: bodies.GuideRequest | bodies.GuideVerify, caller: Caller
) -> IdempotentCall | None:
    """Return the call that a repetition repeats, None without an idempotency key.

    All callers without an API key are one client. Their idempotency keys are theirs together with the number
    and the session, so that nobody's key is in another's way, or gets another's answer.
    """
    call = idempotency.call_of(req, name, body)
    if call is None or not caller.keyless:
        return call
    return replace(call, name=f"{name} {json.dumps([body.phone_number, body.session_id])}")


@contextmanager
def _in_the_guides_words(resp: falcon.Response) -> Iterator[None]:
    retry_after_s = None
    try:
        yield
        return
    except errors.OtpqueueError as error:
        problem, retry_after_s = problems.as_problem(error), error.retry_after_s
    word, status = _ANSWERS.get(problem["code"], ("SERVICE_UNAVAILABLE", problem["status"]))
    if status < 500 and problem["code"] not in _ANSWERS:
        word = "BAD_REQUEST"
    fields = problem.get("errors", [])
    names = {"phone_number": "phoneNumber", "session_id": "sessionId", "code": "otp"}
    problem["errors"] = [{**one, "field": names.get(one["field"], one["field"])} for one in fields]
    said = "; ".join(f"{one['field']} {one['message']}" for one in problem["errors"])
    problem |= {"status": status, "success": False, "error": said or problem["detail"], "errorCode": word}
    problems.send(resp, problem, retry_after_s=retry_after_s)
