"""`/v1/otp-requests`: request a code, poll the request, check the code, resend it, cancel the request."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import falcon

from otpqueue import clock
from otpqueue.api import tags
from otpqueue.api.auth import ApiKeyAuthentication
from otpqueue.api.bodies import CodeToVerify, NewOtpRequest, ResendWanted, SearchQuery, StatusQuery
from otpqueue.api.endpoints import ApiCall, ApiEndpoint, HeaderParameter, Success, serves
from otpqueue.api.http.concurrency import ConcurrencyLimit
from otpqueue.api.resources.search import find_requests
from otpqueue.api.responses import (
    FoundResponse,
    OtpRequestResponse,
    VerifiedResponse,
    build_path,
    choose_retry_after_s,
)
from otpqueue.api.waiters import StatusWaiters
from otpqueue.domain.errors import (
    AlreadyVerified,
    CheckRefused,
    CodeExpired,
    CountryNotAllowed,
    DailyCapReached,
    DestinationPaused,
    InvalidPhoneNumber,
    LimitsUnavailable,
    NotAdmitted,
    NotSentYet,
    NumberNotAllowed,
    ProviderUnavailable,
    RequestCancelled,
    RequestFailed,
    RequestLocked,
    ResendRefused,
    SendingStopped,
)
from otpqueue.domain.replay import StoredResponse
from otpqueue.domain.request import Channel, OtpRequest
from otpqueue.operations.cancel import CancelRequest
from otpqueue.operations.replay import IdempotentResponses
from otpqueue.operations.request import RequestCode, RequestedCode
from otpqueue.operations.resend import ResendCode
from otpqueue.operations.search import SearchRequests
from otpqueue.operations.status import ReadStatus
from otpqueue.operations.verify import TypedCode, VerifyCode

_IF_NONE_MATCH = HeaderParameter(
    name="If-None-Match",
    description="the `ETag` of the last answer; `wait` applies only while the request still has that state",
    schema={"type": "string"},
)


def _compute_etag(request: OtpRequest) -> str:
    return f"{request.shown_status}-{int(request.updated_at.timestamp() * 1_000_000):x}"


def _build_accepted(request: OtpRequest) -> StoredResponse:
    return StoredResponse(
        status=202,
        headers={"Location": build_path(request), "Retry-After": str(choose_retry_after_s(request))},
        body=OtpRequestResponse.of(request).model_dump_json(),
    )


def _build_verified(request: OtpRequest) -> StoredResponse:
    return StoredResponse(status=200, body=VerifiedResponse.of(request).model_dump_json())


@dataclass(frozen=True, kw_only=True)
class OtpRequests:
    """`/v1/otp-requests`."""

    authentication: ApiKeyAuthentication
    request: RequestCode
    search: SearchRequests

    @serves(
        ApiEndpoint(
            method="POST",
            path="/v1/otp-requests",
            operation_id="sendCode",
            tag=tags.CODES,
            summary="Request a code",
            description="Answers at once; a worker sends the code. A new request replaces a live one of the "
            "same number and session.",
            successes={202: Success(description="Accepted; poll at `Location`", model=OtpRequestResponse)},
            errors=(InvalidPhoneNumber, NotAdmitted, LimitsUnavailable),
            scopes=("send",),
            body=NewOtpRequest,
            accepts_idempotency_key=True,
            counts_rate_with_limits=True,
        )
    )
    def on_post(self, call: ApiCall, body: NewOtpRequest) -> StoredResponse:
        """Accept a request."""
        return self.request.once(
            RequestedCode(**body.model_dump() | {"channel": Channel(body.channel)}),
            call=call.repeatable,
            answer=_build_accepted,
            client_id=call.client_id,
            now=clock.now(),
            rate=call.caller.rate,
        )

    @serves(
        ApiEndpoint(
            method="GET",
            path="/v1/otp-requests",
            operation_id="listRequests",
            tag=tags.REQUESTS,
            summary="List requests (for operators)",
            description="Requests of all clients, newest first. `next_cursor` is the cursor of the next "
            "page, null on the last page. A page can be short, or empty, before the last one, because the "
            "number of requests examined for a page is bounded.",
            successes={200: Success(description="A page of requests", model=FoundResponse)},
            scopes=("admin",),
            query=SearchQuery,
        )
    )
    def on_get(self, call: ApiCall, query: SearchQuery) -> FoundResponse:
        """List requests."""
        return find_requests(self.search, query, reader=call.client_id)


@dataclass(frozen=True, kw_only=True)
class OneOtpRequest:
    """`/v1/otp-requests/{request_id}`."""

    authentication: ApiKeyAuthentication
    status: ReadStatus
    cancel: CancelRequest
    waiters: StatusWaiters

    @serves(
        ApiEndpoint(
            method="GET",
            path="/v1/otp-requests/{request_id}",
            operation_id="getRequest",
            tag=tags.CODES,
            summary="Poll a request",
            description="Answers at once, or with `wait` as soon as the status changes. `Retry-After` says "
            "when to poll again.",
            successes={
                200: Success(description="The request", model=OtpRequestResponse),
                304: Success(description="The request still has the state of `If-None-Match`"),
            },
            scopes=("send", "verify"),
            query=StatusQuery,
            headers=(_IF_NONE_MATCH,),
        )
    )
    def on_get(self, call: ApiCall, request_id: UUID, query: StatusQuery) -> OtpRequestResponse | None:
        """Answer with the request."""
        req, resp, client_id = call.req, call.resp, call.client_id
        request = self.status(request_id, client_id=client_id)
        if query.wait and not request.is_final and _has_seen(req, request):
            self.waiters.wait(request_id, request.status, seconds=query.wait)
            request = self.status(request_id, client_id=client_id)
        resp.etag = _compute_etag(request)
        if not request.is_final:
            resp.set_header("Retry-After", str(choose_retry_after_s(request)))
        if req.if_none_match and _has_seen(req, request):
            resp.status = falcon.HTTP_304
            return None
        return OtpRequestResponse.of(request)

    @serves(
        ApiEndpoint(
            method="DELETE",
            path="/v1/otp-requests/{request_id}",
            operation_id="cancelRequest",
            tag=tags.CODES,
            summary="Cancel a request",
            description="Idempotent: a request that has ended does not change.",
            successes={200: Success(description="The request", model=OtpRequestResponse)},
            scopes=("send", "verify"),
        )
    )
    def on_delete(self, call: ApiCall, request_id: UUID) -> OtpRequestResponse:
        """Cancel a live request."""
        return OtpRequestResponse.of(self.cancel(request_id, client_id=call.client_id, now=clock.now()))


@dataclass(frozen=True, kw_only=True)
class Verification:
    """`/v1/otp-requests/{request_id}/verify`."""

    authentication: ApiKeyAuthentication
    verify: VerifyCode
    limit: ConcurrencyLimit
    replays: IdempotentResponses

    @serves(
        ApiEndpoint(
            method="POST",
            path="/v1/otp-requests/{request_id}/verify",
            operation_id="verifyCode",
            tag=tags.CODES,
            summary="Check a code",
            description="Only status 200 means that the code is correct. It is answered once, and again to "
            "a repeated call with the same `Idempotency-Key`. A wrong code uses up a check. With a "
            "`session_id` other than that of the request every code is answered as wrong, and no check is "
            "used up.",
            successes={200: Success(description="The code is correct", model=VerifiedResponse)},
            errors=(InvalidPhoneNumber, CheckRefused, ProviderUnavailable),
            scopes=("verify",),
            body=CodeToVerify,
            accepts_idempotency_key=True,
        )
    )
    def on_post(self, call: ApiCall, request_id: UUID, body: CodeToVerify) -> StoredResponse:
        """Check a code."""
        now, client_id = clock.now(), call.client_id
        attempted = TypedCode(**body.model_dump())
        with self.replays.hold(call.repeatable, make=_build_verified, client_id=client_id, now=now) as held:
            if held.answer is None:
                with self.limit.slot():
                    request = self.verify(request_id, attempted, client_id=client_id, now=now, held=held)
                held.answer = _build_verified(request)
        return held.answer


@dataclass(frozen=True, kw_only=True)
class Resending:
    """`/v1/otp-requests/{request_id}/resend`."""

    authentication: ApiKeyAuthentication
    resend: ResendCode
    replays: IdempotentResponses

    @serves(
        ApiEndpoint(
            method="POST",
            path="/v1/otp-requests/{request_id}/resend",
            operation_id="resendCode",
            tag=tags.CODES,
            summary="Resend the code",
            description="Sends the same code again, by SMS or voice. A code is sent up to 5 times in all. A "
            "resend is possible 30 seconds after the first send, then after 60, 120 and 240 seconds, until "
            "20 seconds before the code expires. The code stays valid meanwhile. A resend that fails is "
            "shown in `resend` and changes nothing else.",
            successes={202: Success(description="Accepted; poll as before", model=OtpRequestResponse)},
            errors=(
                *(NumberNotAllowed, CountryNotAllowed, SendingStopped, DailyCapReached, DestinationPaused),
                *(NotSentYet, AlreadyVerified, CodeExpired, RequestLocked, RequestCancelled, RequestFailed),
                *(ResendRefused, LimitsUnavailable),
            ),
            scopes=("send",),
            body=ResendWanted,
            body_optional=True,
            accepts_idempotency_key=True,
        )
    )
    def on_post(self, call: ApiCall, request_id: UUID, body: ResendWanted) -> StoredResponse:
        """Accept a resend."""
        now, client_id = clock.now(), call.client_id
        channel = Channel(body.channel) if body.channel else None
        with self.replays.hold(call.repeatable, make=_build_accepted, client_id=client_id, now=now) as held:
            if held.answer is None:
                request = self.resend(request_id, client_id=client_id, channel=channel, now=now, held=held)
                held.answer = _build_accepted(request)
        return held.answer


def _has_seen(req: falcon.Request, request: OtpRequest) -> bool:
    """Return whether the caller has this state by its If-None-Match, or sends none."""
    tags = req.if_none_match
    return tags is None or any(tag == "*" or tag == _compute_etag(request) for tag in tags)
