"""The route table."""

from typing import Any

import falcon.asgi

from otpqueue.simulator import account, control, resources
from otpqueue.simulator.background import LifespanMiddleware
from otpqueue.simulator.errors import ApiError, ErrorResponder
from otpqueue.simulator.inbox import Channel
from otpqueue.simulator.middleware import RequestMiddleware
from otpqueue.simulator.options import Options
from otpqueue.simulator.pushing import Pusher
from otpqueue.simulator.state import SimulatorState
from otpqueue.simulator.storage import StateFile

App = falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]


def create_app(
    options: Options, state: SimulatorState | None = None, *, state_file: StateFile | None = None
) -> App:
    """Return the simulator as an ASGI application, with new state unless `state` is given.

    Faults that cut connections work only under `otpqueue.simulator.server`. Delivery reports are pushed, and
    `state_file` is written, only by a server that speaks ASGI's lifespan.
    """
    state = state or SimulatorState(options)
    pusher = Pusher(state)
    refusals = ErrorResponder(options)
    middleware = RequestMiddleware(state, refusals)
    app = falcon.asgi.App(middleware=[middleware])
    app.add_middleware(LifespanMiddleware(pusher, state_file))
    app.set_error_serializer(refusals.serialize)
    app.add_error_handler(ApiError, refusals.answer)
    _add_two_factor_routes(app, state, pusher)
    for path, resource in _account_routes(state).items():
        app.add_route(path, resource)
    app.add_sink(middleware.handle_unknown_path, prefix=r"/(?:2fa|auth|sms|subscriptions)(?:/|$)")
    for path, resource in _control_routes(state).items():
        app.add_route(path, resource)
    return app


def _add_two_factor_routes(app: App, state: SimulatorState, pusher: Pusher) -> None:
    application = "/2fa/2/applications/{application_id}"
    app.add_route("/2fa/2/applications", resources.ApplicationsResource(state))
    app.add_route(application, resources.ApplicationResource(state))
    app.add_route(f"{application}/messages", resources.TemplatesResource(state))
    app.add_route(f"{application}/messages/{{message_id}}", resources.TemplateResource(state))
    app.add_route(f"{application}/email/messages", resources.EmailTemplatesResource(state))
    app.add_route(f"{application}/email/messages/{{message_id}}", resources.EmailTemplateResource(state))
    app.add_route(f"{application}/verifications", resources.VerificationsResource(state))
    channels: tuple[tuple[str, Channel], ...] = (("", "SMS"), ("/voice", "VOICE"), ("/email", "EMAIL"))
    for suffix, channel in channels:
        app.add_route(f"/2fa/2/pin{suffix}", resources.SendResource(state, pusher, channel))
        resending = resources.ResendResource(state, pusher, channel)
        app.add_route(f"/2fa/2/pin/{{pin_id}}/resend{suffix}", resending)
    app.add_route("/2fa/2/pin/{pin_id}/verify", resources.VerifyResource(state))


def _account_routes(state: SimulatorState) -> dict[str, Any]:
    subscription = "/subscriptions/1/subscription/{channel}"
    return {
        "/auth/1/session": account.SessionResource(state),
        "/auth/1/oauth2/token": account.TokenResource(state),
        subscription: account.SubscriptionsResource(state),
        f"{subscription}/{{subscription_id}}": account.SubscriptionResource(state),
        "/subscriptions/1/profiles/{profile_id}": account.ProfileResource(state),
        "/sms/3/reports": account.ReportsResource(state),
    }


def _control_routes(state: SimulatorState) -> dict[str, Any]:
    return {
        "/": control.PageResource(),
        "/_simulator/messages": control.MessagesResource(state),
        "/_simulator/faults": control.FaultsResource(state),
        "/_simulator/receipts": control.ReceiptsResource(state),
        "/_simulator/magic-numbers": control.MagicNumbersResource(),
        "/_simulator/clock": control.ClockResource(state),
        "/_simulator/reset": control.ResetResource(state),
        "/_simulator/stats": control.StatsResource(state),
    }
