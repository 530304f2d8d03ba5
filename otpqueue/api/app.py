"""The API: its parts and its whole route table on one screen."""

from __future__ import annotations

from typing import Any

import falcon

from otpqueue.api import openapi, problems
from otpqueue.api.auth import Door
from otpqueue.api.guide import RequestOtp, VerifyOtp
from otpqueue.api.http.peers import Peers
from otpqueue.api.http.room import Room
from otpqueue.api.middleware import CallMiddleware
from otpqueue.api.resources import receipts
from otpqueue.api.resources.alerts import Acknowledgement, Alerts, Silencing
from otpqueue.api.resources.health import Health
from otpqueue.api.resources.history import RequestHistory
from otpqueue.api.resources.metrics import Metrics
from otpqueue.api.resources.numbers import Erasure
from otpqueue.api.resources.pages import Assets, Docs, OpenApi, TryPage
from otpqueue.api.resources.requests import OneOtpRequest, OtpRequests, Resending, Verification
from otpqueue.api.resources.search import SearchByNumber
from otpqueue.api.resources.stats import Statistics
from otpqueue.api.waiting import Waiters
from otpqueue.console import routes as console
from otpqueue.wiring import Parts

App = falcon.App[falcon.Request, falcon.Response]

CONSOLE_PLACES = 4
CONSOLE_LOG_IN_PLACES = 2
"""Together fewer than the threads that the server has to spare: what is refused needs some, and health."""


def create_app(parts: Parts) -> App:
    """Return the WSGI application over these parts."""
    middleware: Any = CallMiddleware(
        Peers(parts.settings.trusted_proxies),
        tracer=parts.tracer if parts.settings.traces else None,
        https_required=parts.settings.require_https,
        open_to_http=(Health,),
        parameters=openapi.query_parameters(),
    )
    app = falcon.App(middleware=[middleware])
    app.req_options.keep_blank_qs_values = True
    app.req_options.auto_parse_qs_csv = False
    app.resp_options.default_media_type = falcon.MEDIA_JSON
    problems.install(app)

    door = Door(
        keys=parts.keys,
        access=parts.access,
        rate=parts.key_rate,
        guide_client=parts.settings.guide_client,
    )
    checking = Room(parts.settings.api_checks)
    waiters = Waiters(read=parts.status.of_many, places=parts.settings.api_waiters)
    health = Health(parts.health)

    app.add_route(
        "/v1/otp-requests",
        OtpRequests(door=door, request=parts.request, search=parts.search),
    )
    app.add_route("/v1/otp-requests/search", SearchByNumber(door=door, search=parts.search))
    app.add_route(
        "/v1/otp-requests/{request_id}",
        OneOtpRequest(door=door, status=parts.status, cancel=parts.cancel, waiters=waiters),
    )
    app.add_route(
        "/v1/otp-requests/{request_id}/verify",
        Verification(door=door, verify=parts.verify, room=checking, replays=parts.replays),
    )
    app.add_route(
        "/v1/otp-requests/{request_id}/resend",
        Resending(door=door, resend=parts.resend, replays=parts.replays),
    )
    app.add_route("/v1/otp-requests/{request_id}/history", RequestHistory(door=door, history=parts.history))
    app.add_route("/v1/phone-numbers/erase", Erasure(door=door, erase=parts.erase))
    app.add_route("/v1/alerts", Alerts(door=door, desk=parts.alert_desk))
    app.add_route("/v1/alerts/{alert_id}/acknowledge", Acknowledgement(door=door, desk=parts.alert_desk))
    app.add_route("/v1/alerts/{alert_id}/silence", Silencing(door=door, desk=parts.alert_desk))
    app.add_route("/v1/stats", Statistics(door=door, tell=parts.stats))
    app.add_route(
        receipts.PATH,
        receipts.Receipts(receive=parts.receipts, credentials=receipts.Credentials.of(parts.settings)),
    )
    app.add_route("/request-otp", RequestOtp(door=door, request=parts.request))
    app.add_route(
        "/verify-otp", VerifyOtp(door=door, verify=parts.verify, room=checking, replays=parts.replays)
    )
    app.add_route("/health", health)
    app.add_route("/health/ready", health, suffix="ready")
    app.add_route("/health/live", health, suffix="live")
    app.add_route("/metrics", _metrics(parts, door))
    app.add_route("/openapi.json", OpenApi())
    app.add_route("/docs", Docs())
    app.add_route("/assets/{name}", Assets())
    if parts.settings.try_page:
        app.add_route("/try", TryPage(simulator_url=parts.settings.require("infobip_base_url")))
    if parts.settings.console:
        console.mount(
            app, parts.aside, places=Room(CONSOLE_PLACES), log_in_places=Room(CONSOLE_LOG_IN_PLACES)
        )
    return app


def _metrics(parts: Parts, door: Door) -> Metrics:
    token = parts.settings.metrics_token
    return Metrics(door=door, token=token.get_secret_value() if token else None, readings=parts.readings)
