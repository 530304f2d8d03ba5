"""The paths around the 2FA API: tokens, subscriptions and delivery reports."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import falcon
import falcon.asgi

from otpqueue.simulator.auth import is_client, is_user, make_unauthorized_error
from otpqueue.simulator.errors import ApiError, make_field_error
from otpqueue.simulator.state import SimulatorState
from otpqueue.simulator.subscriptions import CHANNELS, SubscriptionBody
from otpqueue.simulator.wire import RequestBody, parse_model, read_form, read_json_object

REPORTS: Final = 50
MAX_REPORTS: Final = 1000
MAX_PAGE: Final = 100


class _AccountResource:
    def __init__(self, state: SimulatorState) -> None:
        self._state = state


class SessionBody(RequestBody):
    """The credentials that open a session."""

    username: str
    password: str


class SessionResource(_AccountResource):
    """`/auth/1/session`."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Open a session: the token is for `Authorization: IBSSO TOKEN`; raises `ApiError` 401."""
        state = self._state
        body = parse_model(SessionBody, await read_json_object(req))
        if not is_user(body.username, body.password, state.options):
            raise make_unauthorized_error(state.options)
        with state.lock:
            resp.media = {"token": state.tokens.open_session(state.clock.now())}


class TokenResource(_AccountResource):
    """`/auth/1/oauth2/token`."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Grant an access token for `Authorization: Bearer TOKEN`; raises `ApiError` 400 and 401.

        Errors have the shape of the 2FA API's, not that of RFC 6749, which is INFERRED.
        """
        state = self._state
        fields = await read_form(req)
        for name in ("client_id", "client_secret", "grant_type"):
            if not fields.get(name):
                raise make_field_error(name, "must not be empty")
        if fields["grant_type"] != "client_credentials":
            raise make_field_error("grant_type", "must be client_credentials")
        if not is_client(fields["client_id"], fields["client_secret"], state.options):
            raise make_unauthorized_error(state.options)
        lifetime_s = state.options.token_lifetime_s
        with state.lock:
            token = state.tokens.grant_access(state.clock.now() + lifetime_s)
        resp.media = {"access_token": token, "expires_in": lifetime_s, "token_type": "Bearer"}


class SubscriptionsResource(_AccountResource):
    """`/subscriptions/1/subscription/{channel}`."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, channel: str) -> None:
        """List the subscriptions of a channel by page, newest first."""
        _check_channel(channel)
        page = _number(req, "page", 0, least=0)
        size = _number(req, "size", 20, least=1, most=MAX_PAGE)
        with self._state.lock:
            stored = self._state.outbox.subscriptions.by_channel.get(channel, {})
            found = [body.as_json() for body in reversed(stored.values())]
        resp.media = {
            "results": found[page * size : (page + 1) * size],
            "paging": {
                "page": page,
                "size": size,
                "totalPages": -(-len(found) // size),
                "totalResults": len(found),
            },
        }

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, channel: str) -> None:
        """Create a subscription, and its profile unless that exists; answers 201 with their ids."""
        _check_channel(channel)
        body = parse_model(SubscriptionBody, await read_json_object(req))
        with self._state.lock:
            subscriptions = self._state.outbox.subscriptions
            subscriptions.add(channel, body)
            profile = subscriptions.find(channel, body.subscription_id).profile
        resp.status = falcon.HTTP_201
        resp.location = f"/subscriptions/1/subscription/{channel}/{quote(body.subscription_id)}"
        resp.media = {"subscriptionId": body.subscription_id, "profile": profile.only_ids()}


class SubscriptionResource(_AccountResource):
    """`/subscriptions/1/subscription/{channel}/{subscription_id}`."""

    async def on_get(
        self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, channel: str, subscription_id: str
    ) -> None:
        """Show one subscription; its profile by id only."""
        _check_channel(channel)
        with self._state.lock:
            resp.media = self._state.outbox.subscriptions.find(channel, subscription_id).as_json()


class ProfileResource(_AccountResource):
    """`/subscriptions/1/profiles/{profile_id}`; this path is from third parties' code."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, profile_id: str) -> None:
        """Show one profile with its webhook, without its secrets."""
        with self._state.lock:
            profile = self._state.outbox.subscriptions.profiles.get(profile_id)
        if profile is None:
            raise ApiError(404)
        resp.media = profile.as_json()


class ReportsResource(_AccountResource):
    """`/sms/3/reports`."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Return delivery reports, each only once; raises `ApiError` 400 on a bad `limit`.

        It is INFERRED that they include reports of 2FA messages, by externalMessageId. These belong to no
        bulk, entity, application or campaign, so filtering by one returns no report.
        """
        limit = _number(req, "limit", REPORTS, least=1, most=MAX_REPORTS)
        options = self._state.options
        if any(req.get_param(name) for name in _FOREIGN):
            limit = 0
        with self._state.lock:
            found = self._state.outbox.pull(self._state.clock.now(), limit, req.get_param("messageId"))
            self._state.touch()
        # Pulling also makes reports ready for pushing.
        self._state.wake()
        shown: list[Mapping[str, Any]] = [report.as_json(options) for report in found]
        if options.extra_fields:
            shown = [{**report, "unknownField": {"a": [1]}} for report in shown]
        resp.media = {"results": shown}


_FOREIGN: Final = ("bulkId", "entityId", "applicationId", "campaignReferenceId")


def _check_channel(channel: str) -> None:
    if channel not in CHANNELS:
        raise make_field_error("channel", f"must be one of {', '.join(sorted(CHANNELS))}")


def _number(req: falcon.asgi.Request, name: str, default: int, *, least: int, most: int = 2**31) -> int:
    text = req.get_param(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise make_field_error(name, f"must be between {least} and {most}")
    return int(text)
