"""The console's route table, on one screen."""

from __future__ import annotations

from typing import Any

import falcon

from otpqueue.console.alerts import Acknowledge, AlertList, EndSilence, OneAlert, SilenceAlert
from otpqueue.console.door import Door
from otpqueue.console.groups import Countries
from otpqueue.console.house import House, Page, Places
from otpqueue.console.log_in import Assets, LogInPage, LogOut
from otpqueue.console.now import Now
from otpqueue.console.requests import FindRequest, OneRequest, RequestList
from otpqueue.console.sessions import PURPOSE, Sessions
from otpqueue.console.settings import SettingsPage
from otpqueue.wiring import Parts

PATH = "/console"
RESOURCES = (Page, Assets)
"""What answers operators."""


def mount(app: falcon.App[Any, Any], parts: Parts, *, places: Places, log_in_places: Places) -> None:
    """Add the console's routes to the API. `parts` must be some that the API's calls cannot use up.

    `places` are for pages, `log_in_places` for strangers, who must not take those.
    """
    house = House(
        door=Door(
            log_in=parts.log_in,
            sessions=Sessions(parts.vault.keys_for(PURPOSE)),
            https_required=parts.settings.require_https,
        ),
        places=places,
        log_in_places=log_in_places,
        standing=parts.standing,
        redis_answers=parts.redis_answers,
    )
    desk = parts.alert_desk
    app.add_route(f"{PATH}/log-in", LogInPage(house=house))
    app.add_route(f"{PATH}/log-out", LogOut(house=house))
    app.add_route(f"{PATH}/assets/{{name}}", Assets())
    app.add_route(PATH, Now(house=house, overview=parts.overview, desk=desk))
    app.add_route(f"{PATH}/requests", RequestList(house=house, search=parts.search, clients=parts.clients))
    app.add_route(
        f"{PATH}/requests/find",
        FindRequest(house=house, search=parts.search, numbers=parts.numbers, vault=parts.vault),
    )
    app.add_route(
        f"{PATH}/requests/{{request_id}}",
        OneRequest(house=house, history=parts.history, desk=desk, webhooks=parts.webhooks),
    )
    app.add_route(f"{PATH}/alerts", AlertList(house=house, desk=desk))
    app.add_route(f"{PATH}/alerts/{{alert_id}}", OneAlert(house=house, desk=desk))
    app.add_route(f"{PATH}/alerts/{{alert_id}}/acknowledge", Acknowledge(house=house, desk=desk))
    app.add_route(f"{PATH}/alerts/{{alert_id}}/silence", SilenceAlert(house=house, desk=desk))
    app.add_route(f"{PATH}/silences/{{silence_id}}/end", EndSilence(house=house, desk=desk))
    app.add_route(
        f"{PATH}/countries",
        Countries(house=house, groups=parts.groups, conversion=parts.alert_rules["country_conversion"]),
    )
    app.add_route(
        f"{PATH}/settings",
        SettingsPage(house=house, settings=parts.settings, clients=parts.clients),
    )
    # What else begins so is answered with a page, too.
    app.add_sink(house.nothing_here, prefix=f"{PATH}(?:/.*)?$")
