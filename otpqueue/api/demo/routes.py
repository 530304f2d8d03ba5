"""The route table of the demo."""

from __future__ import annotations

from typing import Any

import falcon

from otpqueue.api.demo.resources import DemoClock, DemoPage, DemoPages, DemoRedemption, TryPage
from otpqueue.api.demo.shop import DemoShop
from otpqueue.wiring import Parts

PATH = "/try"


def mount(app: falcon.App[Any, Any], parts: Parts) -> None:
    """Add the routes of the demo to the API."""
    shop = DemoShop(
        keys=parts.keys,
        clients=parts.clients,
        create=parts.create_page,
        redeem=parts.redeem_page,
        find=parts.find_page,
    )
    simulator_url = parts.settings.require("infobip_base_url").rstrip("/")
    app.add_route(PATH, TryPage(shop=shop, simulator_url=simulator_url))
    app.add_route(f"{PATH}/pages", DemoPages(shop=shop))
    app.add_route(f"{PATH}/pages/{{page_id:uuid}}", DemoPage(shop=shop))
    app.add_route(f"{PATH}/redeem", DemoRedemption(shop=shop))
    app.add_route(f"{PATH}/clock", DemoClock(simulator_url=simulator_url))
