"""The API: its parts, its resources and their routes."""

from __future__ import annotations

from typing import Any

import falcon

from otpqueue.api import problems
from otpqueue.api.auth import ApiKeyAuthentication
from otpqueue.api.catalog import ENDPOINTS
from otpqueue.api.demo import routes as demo
from otpqueue.api.documentation.library import locate_documentation
from otpqueue.api.endpoints import add_routes
from otpqueue.api.guide.authentication import GuideAuthentication
from otpqueue.api.guide.resources import RequestOtp, VerifyOtp
from otpqueue.api.http.concurrency import ConcurrencyLimit
from otpqueue.api.http.peers import Peers
from otpqueue.api.middleware import CallMiddleware
from otpqueue.api.pages import routes as pages
from otpqueue.api.resources.alerts import Acknowledgement, Alerts, Silencing
from otpqueue.api.resources.audit import AuditByNumber, AuditEntries, Erasures
from otpqueue.api.resources.documentation import Documentation
from otpqueue.api.resources.health import Health
from otpqueue.api.resources.history import RequestHistory
from otpqueue.api.resources.metrics import Metrics, MetricsAuthentication
from otpqueue.api.resources.numbers import Erasure
from otpqueue.api.resources.pages import OpenApi, PageAssets
from otpqueue.api.resources.receipts import Receipts, ReceiptsCredentials
from otpqueue.api.resources.reference import ApiReference, PageRedirect, ReferenceAssets
from otpqueue.api.resources.requests import OneOtpRequest, OtpRequests, Resending, Verification
from otpqueue.api.resources.search import SearchByNumber
from otpqueue.api.resources.stats import Statistics
from otpqueue.api.resources.verification_pages import TokenRedemption, VerificationPages
from otpqueue.api.waiters import StatusWaiters
from otpqueue.console import routes as console
from otpqueue.wiring import Parts

App = falcon.App[falcon.Request, falcon.Response]

CONSOLE_SLOTS = 4
CONSOLE_LOG_IN_SLOTS = 2
"""Together fewer than the reserved threads of the server: rejected calls and health checks need some, too."""


def create_app(parts: Parts) -> App:
    """Return the WSGI application over these parts."""
    middleware: Any = CallMiddleware(
        Peers(parts.settings.trusted_proxies),
        tracer=parts.tracer if parts.settings.traces else None,
        https_required=parts.settings.require_https,
        open_to_http=(Health,),
        endpoints=ENDPOINTS,
    )
    app = falcon.App(middleware=[middleware])
    app.req_options.keep_blank_qs_values = True
    app.req_options.auto_parse_qs_csv = False
    app.resp_options.default_media_type = falcon.MEDIA_JSON
    problems.install(app)
    checks = ConcurrencyLimit(parts.settings.api_checks)
    for resource in _create_resources(parts, checks=checks):
        add_routes(app, resource)
    app.add_route("/openapi.json", OpenApi())
    app.add_route("/", PageRedirect(to="/docs"))
    app.add_route("/docs/api", ApiReference())
    app.add_route("/docs/api/{name}", ReferenceAssets())
    _add_documentation(app)
    app.add_route("/assets/{name}", PageAssets())
    pages.mount(app, parts, checks=checks)
    if parts.settings.try_page:
        demo.mount(app, parts)
    if parts.settings.console:
        console.mount(
            app,
            parts.console_parts,
            places=ConcurrencyLimit(CONSOLE_SLOTS),
            log_in_places=ConcurrencyLimit(CONSOLE_LOG_IN_SLOTS),
        )
    return app


def _add_documentation(app: App) -> None:
    documentation = Documentation(locate_documentation())
    app.add_route("/docs", documentation)
    app.add_route("/docs/search", documentation, suffix="search")
    app.add_route("/docs/{path:path}", documentation)


def _create_resources(parts: Parts, *, checks: ConcurrencyLimit) -> tuple[object, ...]:
    """Return a resource of each class in the catalog."""
    settings, desk, replays = parts.settings, parts.alert_admin, parts.idempotent_responses
    keys = ApiKeyAuthentication(keys=parts.keys, access=parts.access, rate=parts.key_rate)
    guide = GuideAuthentication(api_keys=keys, client=settings.guide_client)
    token = settings.metrics_token
    metrics = MetricsAuthentication(api_keys=keys, token=token.get_secret_value() if token else None)
    waiters = StatusWaiters(read=parts.status.of_many, slots=settings.api_waiters)
    return (
        OtpRequests(authentication=keys, request=parts.request, search=parts.search),
        SearchByNumber(authentication=keys, search=parts.search),
        OneOtpRequest(authentication=keys, status=parts.status, cancel=parts.cancel, waiters=waiters),
        Verification(authentication=keys, verify=parts.verify, limit=checks, replays=replays),
        Resending(authentication=keys, resend=parts.resend, replays=replays),
        VerificationPages(authentication=keys, create=parts.create_page, public_url=settings.public_url),
        TokenRedemption(authentication=keys, redeem=parts.redeem_page),
        RequestHistory(authentication=keys, history=parts.history),
        Erasure(authentication=keys, erase=parts.erase),
        Statistics(authentication=keys, report=parts.stats),
        Alerts(authentication=keys, desk=desk),
        Acknowledgement(authentication=keys, desk=desk),
        Silencing(authentication=keys, desk=desk),
        AuditEntries(authentication=keys, trail=parts.audit),
        AuditByNumber(authentication=keys, trail=parts.audit),
        Erasures(authentication=keys, trail=parts.audit),
        Receipts(authentication=ReceiptsCredentials.of(settings), receive=parts.receipts),
        RequestOtp(authentication=guide, request=parts.request),
        VerifyOtp(authentication=guide, verify=parts.verify, limit=checks, replays=replays),
        Health(parts.health),
        Metrics(authentication=metrics, readings=parts.gauges),
    )
