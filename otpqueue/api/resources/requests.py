"""`/v1/otp-requests`: ask for a code, see how it stands, check it, cancel it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from uuid import UUID

import falcon

from otpqueue import clock
from otpqueue.api import bodies, idempotency
from otpqueue.api.auth import Door
from otpqueue.api.http.room import Room
from otpqueue.api.representations import path_of, representation, retry_after_s
from otpqueue.api.resources.search import found_by_query
from otpqueue.api.waiting import Waiters
from otpqueue.domain.errors import FieldError, InvalidRequest, RequestNotFound
from otpqueue.domain.replay import StoredResponse
from otpqueue.domain.request import Channel, OtpRequest
from otpqueue.operations.cancel import CancelRequest
from otpqueue.operations.replay import IdempotentResponses
from otpqueue.operations.request import RequestCode, RequestedCode
from otpqueue.operations.resend import ResendCode
from otpqueue.operations.search import SearchRequests
from otpqueue.operations.status import ReadStatus
from otpqueue.operations.verify import TypedCode, VerifyCode
from otpqueue.telemetry import logs

MAX_WAIT_S = 30
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def parse_id(text: str) -> UUID:
    """Return the id in a path.

    Raises RequestNotFound for what cannot be one.
    """
    if not _UUID.fullmatch(text):
        raise RequestNotFound("The id in the path is not a UUID; use the `id` that the 202 answered.")
    request_id = UUID(text)
    logs.bind(otp_id=str(request_id))
    return request_id


def _etag(request: OtpRequest) -> str:
    return f"{request.shown_status}-{int(request.updated_at.timestamp() * 1_000_000):x}"


def _accepted(request: OtpRequest) -> StoredResponse:
    return StoredResponse(
        status=202,
        headers={"Location": path_of(request), "Retry-After": str(retry_after_s(request))},
        body=json.dumps(representation(request)),
    )


def _verified(request: OtpRequest) -> StoredResponse:
    return StoredResponse(status=200, body=json.dumps({"verified": True, **representation(request)}))


@dataclass(frozen=True, kw_only=True)
class OtpRequests:
    """`/v1/otp-requests`."""

    door: Door
    request: RequestCode
    search: SearchRequests

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer requests of every client, newest first."""
        resp.text = found_by_query(req, door=self.door, search=self.search)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Accept a request and answer 202 with its id at once."""
        with self.door.entering(req, "send") as caller:
            body = bodies.read(req, bodies.NewOtpRequest)
            answer = self.request.once(
                RequestedCode(**body.model_dump() | {"channel": Channel(body.channel)}),
                call=idempotency.call_of(req, "POST /v1/otp-requests", body),
                answer=_accepted,
                client_id=caller.client_id,
                now=clock.now(),
                rate=caller.rate,
            )
        idempotency.send(resp, answer)


@dataclass(frozen=True, kw_only=True)
class OneOtpRequest:
    """`/v1/otp-requests/{id}`."""

    door: Door
    status: ReadStatus
    cancel: CancelRequest
    waiters: Waiters

    def on_get(self, req: falcon.Request, resp: falcon.Response, request_id: str) -> None:
        """Answer how the request stands; with `wait`, as soon as its status changes from what it is."""
        client_id = self.door.enter(req, "send", "verify")
        wait_s = _wait_s(req)
        known = parse_id(request_id)
        request = self.status(known, client_id=client_id)
        if wait_s and not request.is_final and _knows(req, request):
            self.waiters.wait(known, request.status, seconds=wait_s)
            request = self.status(known, client_id=client_id)
        resp.etag = _etag(request)
        if not request.is_final:
            resp.set_header("Retry-After", str(retry_after_s(request)))
        if req.if_none_match and _knows(req, request):
            resp.status = falcon.HTTP_304
            return
        resp.text = json.dumps(representation(request))

    def on_delete(self, req: falcon.Request, resp: falcon.Response, request_id: str) -> None:
        """Cancel a live request; one that has ended is answered as it is."""
        client_id = self.door.enter(req, "send", "verify")
        request = self.cancel(parse_id(request_id), client_id=client_id, now=clock.now())
        resp.text = json.dumps(representation(request))


@dataclass(frozen=True, kw_only=True)
class Verification:
    """`/v1/otp-requests/{id}/verify`."""

    door: Door
    verify: VerifyCode
    room: Room
    replays: IdempotentResponses

    def on_post(self, req: falcon.Request, resp: falcon.Response, request_id: str) -> None:
        """Check a code; 200 only if it is the right one."""
        client_id = self.door.enter(req, "verify")
        body = bodies.read(req, bodies.CodeToVerify)
        known, now = parse_id(request_id), clock.now()
        attempted = TypedCode(**body.model_dump())
        call = idempotency.call_of(req, f"POST /v1/otp-requests/{known}/verify", body)
        with self.replays.hold(call, make=_verified, client_id=client_id, now=now) as held:
            if held.answer is None:
                with self.room.place():
                    request = self.verify(known, attempted, client_id=client_id, now=now, held=held)
                held.answer = _verified(request)
        idempotency.send(resp, held.answer)


@dataclass(frozen=True, kw_only=True)
class Resending:
    """`/v1/otp-requests/{id}/resend`."""

    door: Door
    resend: ResendCode
    replays: IdempotentResponses

    def on_post(self, req: falcon.Request, resp: falcon.Response, request_id: str) -> None:
        """Accept the wish to send the same code once more; the body may be left out."""
        client_id = self.door.enter(req, "send")
        given = req.content_length or req.get_header("Transfer-Encoding")
        body = bodies.read(req, bodies.ResendWanted) if given else bodies.ResendWanted()
        channel = Channel(body.channel) if body.channel else None
        known, now = parse_id(request_id), clock.now()
        call = idempotency.call_of(req, f"POST /v1/otp-requests/{known}/resend", body)
        with self.replays.hold(call, make=_accepted, client_id=client_id, now=now) as held:
            if held.answer is None:
                request = self.resend(known, client_id=client_id, channel=channel, now=now, held=held)
                held.answer = _accepted(request)
        idempotency.send(resp, held.answer)


def _knows(req: falcon.Request, request: OtpRequest) -> bool:
    """Whether the caller has seen this state: it says so by If-None-Match, or says nothing."""
    tags = req.if_none_match
    return tags is None or any(tag == "*" or tag == _etag(request) for tag in tags)


def _wait_s(req: falcon.Request) -> float:
    text = req.params.get("wait", "0")
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,3})?", text):
        raise InvalidRequest([FieldError("wait", f"must be seconds, 0 to {MAX_WAIT_S}")])
    if float(text) > MAX_WAIT_S:
        raise InvalidRequest([FieldError("wait", f"must be at most {MAX_WAIT_S} seconds")])
    return float(text)
