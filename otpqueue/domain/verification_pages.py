"""The hosted verification page: what it shows next, and the URL that it returns to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from urllib.parse import quote
from uuid import UUID

from otpqueue.domain.page_settings import ERROR_PARAMETER, STATE_PARAMETER, TOKEN_PARAMETER
from otpqueue.domain.request import Channel, OtpRequest, Status


class PageStage(StrEnum):
    """What the person does next."""

    NUMBER = "number"
    """Give a number."""
    CONFIRM = "confirm"
    """Request a code for the number that the client gave."""
    SENDING = "sending"
    """Wait until the code is sent."""
    CODE = "code"
    """Enter the code."""
    ENDED = "ended"
    """Start again: the request ended without a correct code."""
    VERIFIED = "verified"
    """Return to the client's site."""
    REDEEMED = "redeemed"
    """Nothing: the client has redeemed the result."""


@dataclass(frozen=True, kw_only=True)
class VerificationPage:
    """A snapshot of one page."""

    id: UUID
    client_id: UUID
    client_name: str
    is_opened: bool
    """Whether a browser has opened the link."""
    is_embedded: bool
    has_number: bool
    """Whether the client gave the number. The person cannot change it then."""
    phone_number: str | None
    """The number that the client gave, masked. None if there is none, or its key is no longer configured."""
    channel: Channel
    language: str | None
    return_url: str
    state: str | None
    client_reference: str | None
    request_id: UUID | None
    created_at: datetime
    expires_at: datetime
    redeemed_at: datetime | None


def get_stage(page: VerificationPage, request: OtpRequest | None) -> PageStage:
    """Return the stage of a page and its newest request."""
    if page.redeemed_at is not None:
        return PageStage.REDEEMED
    if request is None:
        return PageStage.CONFIRM if page.has_number else PageStage.NUMBER
    if request.status is Status.VERIFIED:
        return PageStage.VERIFIED
    if request.is_final:
        return PageStage.ENDED
    return PageStage.SENDING if request.status is Status.QUEUED else PageStage.CODE


def build_return_url(page: VerificationPage, *, token: str | None = None, error: str | None = None) -> str:
    """Return where the browser goes after the page, with a token, or with the reason why there is none."""
    parameters = {TOKEN_PARAMETER: token, ERROR_PARAMETER: error, STATE_PARAMETER: page.state}
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items() if value)
    joint = "&" if "?" in page.return_url else "?"
    return f"{page.return_url}{joint}{query}" if query else page.return_url
