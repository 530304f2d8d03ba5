"""Bodies of the guide's calls, with its field names."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import ConfigDict, Field

from otpqueue.api.bodies import Code, JsonBody, Number, Text
from otpqueue.api.responses import ResponseModel


class GuideRequest(JsonBody):
    """The guide's `POST /request-otp`."""

    phone_number: Number = Field(alias="phoneNumber", description="E.164", examples=["+447700900123"])
    session_id: Text | None = Field(
        None,
        alias="sessionId",
        description="binds the code to a login session; `verify-otp` needs the same value",
    )


class GuideVerify(JsonBody):
    """The guide's `POST /verify-otp`."""

    phone_number: Number = Field(alias="phoneNumber", description="E.164", examples=["+447700900123"])
    otp: Code = Field(description="six digits; spaces and hyphens are ignored", examples=["123456"])
    session_id: Text | None = Field(
        None, alias="sessionId", description="the value sent with the request for the code"
    )


class GuideAcceptedResponse(ResponseModel):
    """A request was accepted."""

    model_config = ConfigDict(serialize_by_alias=True)

    success: Literal[True] = True
    message: str = "The code is being sent."
    request_id: UUID = Field(serialization_alias="requestId")
    status_url: str = Field(serialization_alias="statusUrl", description="path to poll")


class GuideVerifiedResponse(ResponseModel):
    """The code is correct."""

    success: Literal[True] = True
    message: str = "The phone number is verified."
