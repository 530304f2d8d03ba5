"""The route table."""

import falcon.asgi

from otpqueue.simulator import control, resources
from otpqueue.simulator.errors import ApiError, answer_api_error, serialize_http_error
from otpqueue.simulator.gate import Gate
from otpqueue.simulator.options import Options
from otpqueue.simulator.state import State

App = falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]


def create_app(options: Options, state: State | None = None) -> App:
    """Return the simulator as an ASGI application, with a memory of its own unless one is given.

    Faults that cut connections work only under `otpqueue.simulator.server`.
    """
    state = state or State(options)
    gate = Gate(state)
    app = falcon.asgi.App(middleware=[gate])
    app.set_error_serializer(serialize_http_error)
    app.add_error_handler(ApiError, answer_api_error)

    application = "/2fa/2/applications/{application_id}"
    app.add_route("/2fa/2/applications", resources.ApplicationsResource(state))
    app.add_route(application, resources.ApplicationResource(state))
    app.add_route(f"{application}/messages", resources.TemplatesResource(state))
    app.add_route(f"{application}/messages/{{message_id}}", resources.TemplateResource(state))
    app.add_route(f"{application}/verifications", resources.VerificationsResource(state))
    app.add_route("/2fa/2/pin", resources.SendResource(state))
    app.add_route("/2fa/2/pin/{pin_id}/resend", resources.ResendResource(state))
    app.add_route("/2fa/2/pin/{pin_id}/verify", resources.VerifyResource(state))
    app.add_sink(gate.unknown, prefix=r"/2fa(?:/|$)")

    app.add_route("/", control.PageResource())
    app.add_route("/_simulator/messages", control.MessagesResource(state))
    app.add_route("/_simulator/faults", control.FaultsResource(state))
    app.add_route("/_simulator/clock", control.ClockResource(state))
    app.add_route("/_simulator/reset", control.ResetResource(state))
    app.add_route("/_simulator/stats", control.StatsResource(state))
    return app
