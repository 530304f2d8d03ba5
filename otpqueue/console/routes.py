"""The route table of the console."""

from __future__ import annotations

from typing import Any

import falcon

from otpqueue.console.actions import ActionListPage, ActionPage
from otpqueue.console.alerts import AcknowledgePage, AlertListPage, AlertPage, EndSilencePage, SilencePage
from otpqueue.console.audit import AuditTrailPage, ErasuresPage
from otpqueue.console.authentication import ConsoleAuthentication
from otpqueue.console.breakdown import BreakdownPage
from otpqueue.console.dashboard import DashboardPage
from otpqueue.console.layout import ConsolePage, PageLayout, RequestSlots
from otpqueue.console.login import AssetFiles, LoginPage, LogoutPage
from otpqueue.console.requests import RequestListPage, RequestPage, RequestSearchPage
from otpqueue.console.runbooks import RunbookListPage, RunbookPage
from otpqueue.console.sealed import NumberSealer
from otpqueue.console.sessions import PURPOSE, SessionSigner
from otpqueue.console.settings import SettingsPage
from otpqueue.wiring import Parts

PATH = "/console"
RESOURCES = (ConsolePage, AssetFiles)
"""The base classes of the resources that answer console calls."""


def mount(
    app: falcon.App[Any, Any], parts: Parts, *, places: RequestSlots, log_in_places: RequestSlots
) -> None:
    """Add the routes of the console to the API.

    `parts` must have their own connection pool, which API calls cannot exhaust. `places` are the request
    slots for pages, `log_in_places` those for logins, which need no session.
    """
    layout = PageLayout(
        authentication=ConsoleAuthentication(
            log_in=parts.console_login,
            sessions=SessionSigner(parts.vault.keys_for(PURPOSE)),
            https_required=parts.settings.require_https,
        ),
        places=places,
        log_in_places=log_in_places,
        read_banner=parts.read_banner,
        redis_answers=parts.ping_redis,
        deployment=parts.settings.deployment_name,
    )
    desk, sealer = parts.alert_admin, NumberSealer(parts.vault)
    app.add_route(f"{PATH}/log-in", LoginPage(layout=layout))
    app.add_route(f"{PATH}/log-out", LogoutPage(layout=layout))
    app.add_route(f"{PATH}/assets/{{name}}", AssetFiles())
    app.add_route(PATH, DashboardPage(layout=layout, overview=parts.overview, desk=desk))
    app.add_route(
        f"{PATH}/requests", RequestListPage(layout=layout, search=parts.search, clients=parts.clients)
    )
    app.add_route(
        f"{PATH}/requests/find",
        RequestSearchPage(
            layout=layout,
            search=parts.search,
            numbers=parts.numbers,
            blocklist=parts.blocklist,
            trail=parts.audit,
            sealer=sealer,
        ),
    )
    app.add_route(
        f"{PATH}/requests/{{request_id}}",
        RequestPage(layout=layout, history=parts.history, desk=desk, webhooks=parts.webhooks),
    )
    app.add_route(f"{PATH}/alerts", AlertListPage(layout=layout, desk=desk))
    app.add_route(f"{PATH}/alerts/{{alert_id}}", AlertPage(layout=layout, desk=desk))
    app.add_route(f"{PATH}/alerts/{{alert_id}}/acknowledge", AcknowledgePage(layout=layout, desk=desk))
    app.add_route(f"{PATH}/alerts/{{alert_id}}/silence", SilencePage(layout=layout, desk=desk))
    app.add_route(f"{PATH}/silences/{{silence_id}}/end", EndSilencePage(layout=layout, desk=desk))
    app.add_route(
        f"{PATH}/countries",
        BreakdownPage(
            layout=layout, groups=parts.breakdown, conversion=parts.alert_rules["country_conversion"]
        ),
    )
    app.add_route(
        f"{PATH}/settings",
        SettingsPage(layout=layout, settings=parts.settings, clients=parts.clients),
    )
    app.add_route(f"{PATH}/runbooks", RunbookListPage(layout=layout))
    app.add_route(f"{PATH}/runbooks/{{rule}}", RunbookPage(layout=layout))
    app.add_route(f"{PATH}/actions", ActionListPage(layout=layout, parts=parts))
    app.add_route(f"{PATH}/actions/{{name}}", ActionPage(layout=layout, parts=parts, sealer=sealer))
    app.add_route(f"{PATH}/audit", AuditTrailPage(layout=layout, trail=parts.audit, clients=parts.clients))
    app.add_route(f"{PATH}/erasures", ErasuresPage(layout=layout, trail=parts.audit))
    # Unknown paths under /console get an error page.
    app.add_sink(layout.not_found, prefix=f"{PATH}(?:/.*)?$")
