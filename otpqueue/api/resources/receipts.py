"""`/v1/infobip/receipts`: delivery reports that Infobip pushes, in batches, in either of its formats."""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field
from typing import Annotated, Any

import falcon
from pydantic import BaseModel, Field, WithJsonSchema, model_validator

from otpqueue import clock
from otpqueue.api import tags
from otpqueue.api.endpoints import AUTHENTICATED_ERRORS, Access, ApiCall, ApiEndpoint, Success, serves
from otpqueue.api.http.errors import MalformedJson
from otpqueue.api.problems import ProblemFormat
from otpqueue.api.responses import ResponseModel
from otpqueue.domain.errors import CredentialFault, OtpqueueError, Unauthenticated
from otpqueue.infobip import receipts
from otpqueue.operations.receive_receipts import ReceiveReceipts
from otpqueue.settings import Settings

PATH = "/v1/infobip/receipts"

MAX_BODY_BYTES = 4 * 1024 * 1024
"""More than 2000 reports, the largest batch that Infobip sends."""

_SEND_BASIC = "Send the user and password for delivery reports: `Authorization: Basic <credentials>`."

_ACCESS = Access(
    errors=AUTHENTICATED_ERRORS, security=({"receipts": []},), note="Basic credentials of its own"
)


class ReportsBody(BaseModel):
    """Infobip's delivery reports."""

    results: list[Annotated[Any, WithJsonSchema({"type": "object", "additionalProperties": True})]]
    """Invalid reports are ignored, so they must not make the body invalid."""

    @model_validator(mode="before")
    @classmethod
    def _check_batch(cls, body: object) -> object:
        if not receipts.is_batch(body):
            raise MalformedJson('The body must be {"results": [...]}.')
        return body


class TakenResponse(ResponseModel):
    """How many reports a batch had."""

    received: int = Field(description="valid reports in the batch")
    new: int = Field(description="reports that were not stored before")


class ReceiptsProblems(ProblemFormat):
    """Problem details with the challenge for Infobip's credentials."""

    def write(self, resp: falcon.Response, error: OtpqueueError) -> None:
        """Make an error the response."""
        if error.code == Unauthenticated.code:
            resp.set_header("WWW-Authenticate", 'Basic realm="delivery reports"')
        super().write(resp, error)


@dataclass(frozen=True, kw_only=True)
class ReceiptsCredentials:
    """Infobip's Basic credentials for delivery reports; None if none are accepted."""

    user: str | None
    password: str | None = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> ReceiptsCredentials:
        """Return the credentials in the settings."""
        password = settings.receipts_password
        return cls(user=settings.receipts_user, password=password.get_secret_value() if password else None)

    def refusal(self, authorization: str | None) -> Unauthenticated | None:
        """Return why an `Authorization` header is not accepted, None if it is."""
        if self.user is None or self.password is None:
            return Unauthenticated(CredentialFault.NOT_CONFIGURED)
        if not authorization:
            return Unauthenticated(CredentialFault.NO_CREDENTIALS, _SEND_BASIC)
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic":
            return Unauthenticated(CredentialFault.WRONG_SCHEME, _SEND_BASIC)
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            given = b""
        if hmac.compare_digest(given, f"{self.user}:{self.password}".encode()):
            return None
        return Unauthenticated(CredentialFault.WRONG_PASSWORD)

    def authenticate(self, req: falcon.Request) -> None:
        """Check the credentials of a call. Raises Unauthenticated."""
        refusal = self.refusal(req.get_header("Authorization"))
        if refusal is not None:
            raise refusal


@dataclass(frozen=True, kw_only=True)
class Receipts:
    """`/v1/infobip/receipts`."""

    authentication: ReceiptsCredentials
    receive: ReceiveReceipts

    @serves(
        ApiEndpoint(
            method="POST",
            path=PATH,
            operation_id="receiveDeliveryReports",
            tag=tags.INFOBIP,
            summary="Receive delivery reports (for Infobip)",
            description="Infobip calls this with the Basic credentials of OTPQUEUE_RECEIPTS_USER. Both "
            "formats of reports are accepted, in batches. Duplicate and late reports change nothing.",
            successes={200: Success(description="Received", model=TakenResponse)},
            access=_ACCESS,
            body=ReportsBody,
            max_body_bytes=MAX_BODY_BYTES,
            problem_format=ReceiptsProblems(),
        )
    )
    def on_post(self, _call: ApiCall, body: ReportsBody) -> TakenResponse:
        """Receive reports. Answers 200 whatever they are about: Infobip would push others again and again."""
        reports = receipts.parse_reports({"results": body.results})
        return TakenResponse(received=len(reports), new=self.receive(reports, now=clock.now()))
