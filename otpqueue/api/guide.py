"""The public guide's two calls, with its field names and shapes, for front ends written after it.

A refusal is problem details like everywhere, with the guide's `success`, `error` and `errorCode` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import falcon

from otpqueue import clock
from otpqueue.api import bodies, problems
from otpqueue.api.auth import Door
from otpqueue.api.representations import path_of
from otpqueue.api.room import Room
from otpqueue.domain import errors
from otpqueue.operations.request import CodeWanted, RequestCode
from otpqueue.operations.verify import Attempted, VerifyCode

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
                wanted = CodeWanted(
                    phone_number=body.phone_number, session_id=body.session_id, client_ip=caller.client_ip
                )
                request = self.request(wanted, client_id=caller.client_id, now=now, rate=caller.rate)
            resp.status = falcon.HTTP_202
            resp.text = json.dumps(
                {
                    "success": True,
                    "message": "The code is on its way.",
                    "requestId": str(request.id),
                    "statusUrl": path_of(request),
                }
            )

    def refuse(self, resp: falcon.Response, error: errors.OtpqueueError | problems.Refused) -> None:
        """Answer a call that is refused before it gets here."""
        with _in_the_guides_words(resp):
            raise error


@dataclass(frozen=True, kw_only=True)
class VerifyOtp:
    """`/verify-otp`."""

    door: Door
    verify: VerifyCode
    room: Room

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Check a code against the newest request for the number and session."""
        with _in_the_guides_words(resp):
            now = clock.now()
            with self.door.entering_guide(req, "verify", now=now) as caller:
                caller.rate.count()
                body = bodies.read(req, bodies.GuideVerify)
                attempted = Attempted(
                    code=body.otp,
                    phone_number=body.phone_number,
                    session_id=body.session_id,
                    client_ip=caller.client_ip,
                )
                with self.room.place():
                    self.verify.newest(attempted, client_id=caller.client_id, now=now)
            resp.text = json.dumps({"success": True, "message": "The phone number is verified."})

    def refuse(self, resp: falcon.Response, error: errors.OtpqueueError | problems.Refused) -> None:
        """Answer a call that is refused before it gets here."""
        with _in_the_guides_words(resp):
            raise error


@contextmanager
def _in_the_guides_words(resp: falcon.Response) -> Iterator[None]:
    retry_after_s = None
    try:
        yield
        return
    except errors.OtpqueueError as error:
        problem, retry_after_s = problems.of(error), error.retry_after_s
    except problems.Refused as error:
        problem = problems.document(error.code, detail=error.detail)
    word, status = _ANSWERS.get(problem["code"], ("SERVICE_UNAVAILABLE", problem["status"]))
    if status < 500 and problem["code"] not in _ANSWERS:
        word = "BAD_REQUEST"
    fields = problem.get("errors", [])
    names = {"phone_number": "phoneNumber", "session_id": "sessionId", "code": "otp"}
    problem["errors"] = [{**one, "field": names.get(one["field"], one["field"])} for one in fields]
    said = "; ".join(f"{one['field']} {one['message']}" for one in problem["errors"])
    problem |= {"status": status, "success": False, "error": said or problem["detail"], "errorCode": word}
    problems.answer(resp, problem, retry_after_s=retry_after_s)
