"""`/try` and the calls that its script makes to the shop's back end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import falcon
import requests
from pydantic import Field

from otpqueue import clock
from otpqueue.api import reading
from otpqueue.api.bodies import Country, JsonBody, Language, Number, Text
from otpqueue.api.demo.shop import DemoShop
from otpqueue.api.resources.pages import render_page
from otpqueue.api.resources.verification_pages import (
    RedeemedVerificationResponse,
    TokenToRedeem,
    VerificationPageResponse,
)
from otpqueue.api.responses import OtpRequestResponse
from otpqueue.domain.errors import InvalidRequest, ProviderUnavailable
from otpqueue.domain.request import Channel
from otpqueue.operations.verification_pages.create import WantedPage

_SKIPPED_S = 300
"""How far the simulated clock is moved: the lifetime of a code."""
_PATIENCE_S = 5


class DemoLogin(JsonBody):
    """What the shop's back end knows when a person logs in."""

    phone_number: Number | None = Field(None)
    country: Country | None = Field(None)
    channel: Literal["sms", "voice"] = Field("sms")
    language: Language | None = Field(None)
    state: Text = Field()


@dataclass(frozen=True, kw_only=True)
class TryPage:
    """`/try`: the shop, the handset, and what the API says meanwhile."""

    shop: DemoShop
    simulator_url: str

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the page."""
        refused = False
        try:
            self.shop.prepare(req.prefix, now=clock.now())
        except InvalidRequest:
            # Plain HTTP from another machine, where a page cannot return to.
            refused = True
        render_page(
            resp,
            "try.html",
            connect=self.simulator_url,
            frames=True,
            simulator_url=self.simulator_url,
            refused=refused,
        )


@dataclass(frozen=True, kw_only=True)
class DemoPages:
    """`/try/pages`: as `POST /v1/verification-pages`."""

    shop: DemoShop

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Create a page for the person who logs in."""
        body = reading.read(req, DemoLogin)
        wanted = WantedPage(
            return_url=f"{req.prefix}/try", **body.model_dump() | {"channel": Channel(body.channel)}
        )
        created = self.shop.create_page(wanted, now=clock.now())
        resp.status = 201
        resp.text = VerificationPageResponse(
            id=created.id, url=f"{req.prefix}/verify/{created.link}", expires_at=created.expires_at
        ).model_dump_json()


@dataclass(frozen=True, kw_only=True)
class DemoPage:
    """`/try/pages/{page_id}`: for the live view."""

    shop: DemoShop

    def on_get(self, _req: falcon.Request, resp: falcon.Response, page_id: UUID) -> None:
        """Answer with the stage of the page, and its request as `GET /v1/otp-requests/{id}` does."""
        found = self.shop.read_page(page_id, now=clock.now())
        if found is None:
            raise falcon.HTTPNotFound(description="The page has expired.")
        request = OtpRequestResponse.of(found.request).model_dump(mode="json") if found.request else None
        resp.text = json.dumps({"stage": found.stage.value, "request": request})


@dataclass(frozen=True, kw_only=True)
class DemoRedemption:
    """`/try/redeem`: as `POST /v1/verification-pages/redeem`."""

    shop: DemoShop

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Redeem a token."""
        verified = self.shop.redeem_token(reading.read(req, TokenToRedeem).token, now=clock.now())
        resp.text = RedeemedVerificationResponse.of(verified).model_dump_json()


@dataclass(frozen=True, kw_only=True)
class DemoClock:
    """`/try/clock`: lets a code expire at the simulated provider."""

    simulator_url: str

    def on_post(self, _req: falcon.Request, resp: falcon.Response) -> None:
        """Move the simulator's clock forward."""
        try:
            answer = requests.post(
                f"{self.simulator_url}/_simulator/clock", json={"advance_s": _SKIPPED_S}, timeout=_PATIENCE_S
            )
            answer.raise_for_status()
        except requests.RequestException as error:
            raise ProviderUnavailable(retry_after_s=1) from error
        resp.text = json.dumps({"advanced_s": _SKIPPED_S})
