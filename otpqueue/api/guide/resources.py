"""The guide's two calls: `/request-otp` and `/verify-otp`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from otpqueue import clock
from otpqueue.api import tags
from otpqueue.api.endpoints import ApiCall, ApiEndpoint, Success, serves
from otpqueue.api.guide.authentication import GUIDE_ACCESS, GuideAuthentication
from otpqueue.api.guide.bodies import GuideAcceptedResponse, GuideRequest, GuideVerifiedResponse, GuideVerify
from otpqueue.api.guide.problems import GUIDE_PROBLEMS
from otpqueue.api.http.concurrency import ConcurrencyLimit
from otpqueue.api.responses import build_path
from otpqueue.domain.errors import (
    CheckRefused,
    InvalidPhoneNumber,
    LimitsUnavailable,
    NotAdmitted,
    ProviderUnavailable,
)
from otpqueue.domain.replay import IdempotentCall, StoredResponse
from otpqueue.domain.request import OtpRequest
from otpqueue.operations.replay import IdempotentResponses
from otpqueue.operations.request import RequestCode, RequestedCode
from otpqueue.operations.verify import TypedCode, VerifyCode


@dataclass(frozen=True, kw_only=True)
class RequestOtp:
    """`/request-otp`."""

    authentication: GuideAuthentication
    request: RequestCode

    @serves(
        ApiEndpoint(
            method="POST",
            path="/request-otp",
            operation_id="requestOtp",
            tag=tags.GUIDE,
            summary="Request a code (the guide's call)",
            description="For front ends written for the public guide. Errors are problem details with the "
            "guide's `success`, `error` and `errorCode`.",
            successes={202: Success(description="Accepted", model=GuideAcceptedResponse)},
            errors=(InvalidPhoneNumber, NotAdmitted, LimitsUnavailable),
            access=GUIDE_ACCESS,
            scopes=("send",),
            body=GuideRequest,
            accepts_idempotency_key=True,
            counts_rate_with_limits=True,
            problem_format=GUIDE_PROBLEMS,
        )
    )
    def on_post(self, call: ApiCall, body: GuideRequest) -> StoredResponse:
        """Accept a request."""
        caller = call.caller
        wanted = RequestedCode(
            phone_number=body.phone_number, session_id=body.session_id, client_ip=caller.client_ip
        )
        return self.request.once(
            wanted,
            call=_narrow_key(call, body),
            answer=_build_accepted,
            client_id=caller.client_id,
            now=clock.now(),
            rate=caller.rate,
        )


@dataclass(frozen=True, kw_only=True)
class VerifyOtp:
    """`/verify-otp`."""

    authentication: GuideAuthentication
    verify: VerifyCode
    limit: ConcurrencyLimit
    replays: IdempotentResponses

    @serves(
        ApiEndpoint(
            method="POST",
            path="/verify-otp",
            operation_id="verifyOtp",
            tag=tags.GUIDE,
            summary="Check a code (the guide's call)",
            description="Checks a code of the newest live request of the number and session. A code that is "
            "not accepted is a 400 whatever the reason, which is in `errorCode`. Without an API key, a "
            "number without a live request of this session is `PIN_NOT_FOUND`, whether or not it has "
            "requests of other sessions.",
            successes={200: Success(description="The code is correct", model=GuideVerifiedResponse)},
            errors=(InvalidPhoneNumber, CheckRefused, ProviderUnavailable),
            access=GUIDE_ACCESS,
            scopes=("verify",),
            body=GuideVerify,
            accepts_idempotency_key=True,
            problem_format=GUIDE_PROBLEMS,
        )
    )
    def on_post(self, call: ApiCall, body: GuideVerify) -> StoredResponse:
        """Check a code."""
        now, caller = clock.now(), call.caller
        attempted = TypedCode(
            code=body.otp,
            phone_number=body.phone_number,
            session_id=body.session_id,
            client_ip=caller.client_ip,
        )
        check = self.verify.newest_keyless if caller.keyless else self.verify.newest
        client_id, repeatable = caller.client_id, _narrow_key(call, body)
        with self.replays.hold(repeatable, make=_build_verified, client_id=client_id, now=now) as held:
            if held.answer is None:
                with self.limit.slot():
                    request = check(attempted, client_id=client_id, now=now, held=held)
                held.answer = _build_verified(request)
        return held.answer


def _build_accepted(request: OtpRequest) -> StoredResponse:
    body = GuideAcceptedResponse(request_id=request.id, status_url=build_path(request))
    return StoredResponse(status=202, body=body.model_dump_json())


def _build_verified(_request: OtpRequest) -> StoredResponse:
    return StoredResponse(status=200, body=GuideVerifiedResponse().model_dump_json())


def _narrow_key(call: ApiCall, body: GuideRequest | GuideVerify) -> IdempotentCall | None:
    """Return the call with its Idempotency-Key, None without one.

    All callers without an API key are one client. Their keys are separate for each number and session, so
    that no caller's key conflicts with, or reveals the answer to, another caller's key.
    """
    repeatable = call.repeatable
    if repeatable is None or not call.caller.keyless:
        return repeatable
    return replace(repeatable, name=f"{repeatable.name} {json.dumps([body.phone_number, body.session_id])}")
