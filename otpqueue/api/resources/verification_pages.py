"""`/v1/verification-pages`: create a page for a person, and redeem its result."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from otpqueue import clock
from otpqueue.api import tags
from otpqueue.api.auth import ApiKeyAuthentication
from otpqueue.api.bodies import ChannelName, Country, JsonBody, Language, Number, Text
from otpqueue.api.endpoints import ApiCall, ApiEndpoint, Success, serves
from otpqueue.api.responses import ResponseModel, Timestamp
from otpqueue.domain.errors import (
    InvalidPhoneNumber,
    LimitsUnavailable,
    ReturnUrlNotRegistered,
    VerificationTokenInvalid,
)
from otpqueue.domain.page_settings import MAX_URL
from otpqueue.domain.request import Channel
from otpqueue.operations.verification_pages.create import CreateVerificationPage, WantedPage
from otpqueue.operations.verification_pages.redeem import RedeemVerificationToken, VerifiedPerson

_TOKEN_FORM = "^[A-Za-z0-9_-]+$"  # noqa: S105 - a pattern


def _check_token(text: str) -> str:
    if not re.fullmatch(_TOKEN_FORM, text):
        raise ValueError("must have only letters, digits, `-` and `_`; send the parameter unchanged")
    return text


class NewVerificationPage(JsonBody):
    """A verification page for one person."""

    return_url: Annotated[str, Field(min_length=1, max_length=MAX_URL)] = Field(
        description="where the browser goes after the page; must be covered by the client's setting "
        "`page.return_urls`: same scheme, host, port and path, or a path below one that ends with `/`",
        examples=["https://shop.example/login/done"],
    )
    phone_number: Number | None = Field(
        None,
        description="the number to verify, which the person sees masked and cannot change; without it the "
        "person enters a number. E.164, or a national number if `country` is given",
        examples=["+447700900123"],
    )
    country: Country | None = Field(
        None, description="country of a national number, ISO 3166 alpha-2", examples=["GB"]
    )
    channel: ChannelName = Field(
        "sms", description="which channel the page offers first; the person can choose the other one"
    )
    language: Language | None = Field(
        None,
        description="language of the page and the message; else the page follows the browser",
        examples=["de"],
    )
    state: Annotated[Text, Field(max_length=128)] | None = Field(
        None,
        description="returned in the parameter `state`; compare it with the value in the person's session",
    )
    client_reference: Text | None = Field(None, description="your own reference for the page's requests")


class TokenToRedeem(JsonBody):
    """A token that the browser brought to the `return_url`."""

    token: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_check_token)] = Field(
        description="the parameter `verification_token` of the return URL",
        json_schema_extra={"pattern": _TOKEN_FORM},
    )


class VerificationPageResponse(ResponseModel):
    """A new verification page."""

    id: UUID = Field(description="UUIDv7")
    url: str = Field(
        description="send the person's browser there; it works in the first browser that opens it",
        examples=["https://otp.example/verify/bR0pqf2s8cAaYy3yW8N3c0n0u7wYk0cTlKpQ2mXv9dE"],
    )
    expires_at: Timestamp = Field(description="when the link expires")


class RedeemedVerificationResponse(ResponseModel):
    """What the person proved."""

    page_id: UUID = Field(description="the `id` of the verification page")
    otp_request_id: UUID = Field(description="the request with the correct code")
    phone_number: str = Field(
        description="the verified number in E.164, not masked", examples=["+447700900123"]
    )
    channel: Channel = Field(description="how the code was sent first")
    verified_at: Timestamp = Field(description="when the correct code was entered")
    state: str | None = Field(description="the `state` of the page")
    client_reference: str | None = Field(description="the client's own reference, unchanged")

    @classmethod
    def of(cls, verified: VerifiedPerson) -> RedeemedVerificationResponse:
        """Return the response for a result."""
        request = verified.request
        if request.verified_at is None:
            raise AssertionError("a redeemed request is verified")
        return cls(
            page_id=verified.page_id,
            otp_request_id=request.id,
            phone_number=verified.e164,
            channel=request.channel,
            verified_at=request.verified_at,
            state=verified.state,
            client_reference=request.client_reference,
        )


@dataclass(frozen=True, kw_only=True)
class VerificationPages:
    """`/v1/verification-pages`."""

    authentication: ApiKeyAuthentication
    create: CreateVerificationPage
    public_url: str | None

    @serves(
        ApiEndpoint(
            method="POST",
            path="/v1/verification-pages",
            operation_id="createVerificationPage",
            tag=tags.PAGES,
            summary="Create a verification page",
            description="Returns a link to a page on which one person verifies a number. The first browser "
            "that opens the link owns the page. After the correct code the browser returns to `return_url` "
            "with a token, which your back end redeems. No code is sent before the person asks for it.",
            successes={201: Success(description="The page", model=VerificationPageResponse)},
            errors=(InvalidPhoneNumber, ReturnUrlNotRegistered, LimitsUnavailable),
            scopes=("send",),
            body=NewVerificationPage,
        )
    )
    def on_post(self, call: ApiCall, body: NewVerificationPage) -> VerificationPageResponse:
        """Create a page."""
        wanted = WantedPage(**body.model_dump() | {"channel": Channel(body.channel)})
        created = self.create(wanted, client_id=call.client_id, now=clock.now())
        base = (self.public_url or call.req.prefix).rstrip("/")
        call.resp.status = 201
        return VerificationPageResponse(
            id=created.id, url=f"{base}/verify/{created.link}", expires_at=created.expires_at
        )


@dataclass(frozen=True, kw_only=True)
class TokenRedemption:
    """`/v1/verification-pages/redeem`."""

    authentication: ApiKeyAuthentication
    redeem: RedeemVerificationToken

    @serves(
        ApiEndpoint(
            method="POST",
            path="/v1/verification-pages/redeem",
            operation_id="redeemVerification",
            tag=tags.PAGES,
            summary="Redeem the token of a verified page",
            description="Returns the verified number. A token works once, for five minutes, and only with an "
            "API key of the client that created the page.",
            successes={200: Success(description="The result", model=RedeemedVerificationResponse)},
            errors=(VerificationTokenInvalid,),
            scopes=("verify",),
            body=TokenToRedeem,
        )
    )
    def on_post(self, call: ApiCall, body: TokenToRedeem) -> RedeemedVerificationResponse:
        """Redeem a token."""
        return RedeemedVerificationResponse.of(
            self.redeem(body.token, client_id=call.client_id, now=clock.now())
        )
