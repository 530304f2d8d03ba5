"""The resources of the 2FA API."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import falcon.asgi

from otpqueue.simulator import applications, templates
from otpqueue.simulator.applications import Application, ApplicationBody
from otpqueue.simulator.errors import ApiError, make_field_error
from otpqueue.simulator.inbox import Channel
from otpqueue.simulator.pushing import Pusher
from otpqueue.simulator.sending import (
    EmailResendBody,
    EmailSendBody,
    ResendBody,
    SendBody,
    SendReply,
    resend_pin,
    send_pin,
)
from otpqueue.simulator.state import SimulatorState, new_id
from otpqueue.simulator.templates import EmailTemplateBody, Template, TemplateBody
from otpqueue.simulator.verifying import VerifyBody, list_verifications, verify_pin
from otpqueue.simulator.wire import parse_model, read_boolean, read_json_object


class _TwoFactorResource:
    def __init__(self, state: SimulatorState) -> None:
        self._state = state

    def _template(self, application_id: str, message_id: str) -> tuple[Application, Template]:
        application = self._state.application(application_id)
        template = application.templates.get(message_id)
        if template is None:
            raise ApiError(404)
        return application, template

    def _update_template(
        self,
        application_id: str,
        message_id: str,
        kind: type[TemplateBody | EmailTemplateBody],
        changes: Mapping[str, Any],
    ) -> dict[str, Any]:
        with self._state.lock:
            application, old = self._template(application_id, message_id)
            if not isinstance(old.body, kind):
                raise ApiError(404)
            body = templates.merge_template(old.body, changes)
            new = replace(old, body=body, pin_length=body.pin_length or old.pin_length)
            application.templates[message_id] = new
        return new.reply()


class ApplicationsResource(_TwoFactorResource):
    """`/2fa/2/applications`."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """List all applications as a bare array."""
        with self._state.lock:
            resp.media = [application.reply() for application in self._state.applications.values()]

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Create an application."""
        body = parse_model(ApplicationBody, await read_json_object(req))
        application = Application(new_id(), body)
        with self._state.lock:
            self._state.applications[application.id] = application
        resp.status = self._state.options.create_status
        resp.media = application.reply()


class ApplicationResource(_TwoFactorResource):
    """`/2fa/2/applications/{application_id}`."""

    async def on_get(
        self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str
    ) -> None:
        """Show one application."""
        with self._state.lock:
            resp.media = self._state.application(application_id).reply()

    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str) -> None:
        """Update an application; the name is required as in OpenAPI 3.210.0."""
        new = parse_model(ApplicationBody, await read_json_object(req))
        with self._state.lock:
            application = self._state.application(application_id)
            replaces = self._state.options.update_replaces
            application.body = new if replaces else applications.merge_application(application.body, new)
            resp.media = application.reply()


class TemplatesResource(_TwoFactorResource):
    """`/2fa/2/applications/{application_id}/messages`."""

    async def on_get(
        self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str
    ) -> None:
        """List an application's templates, including e-mail templates, as a bare array."""
        with self._state.lock:
            found = self._state.application(application_id).templates.values()
            resp.media = [template.summary() for template in found]

    async def on_post(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str
    ) -> None:
        """Create a template; answers 200, not 201."""
        data = await read_json_object(req)
        with self._state.lock:
            application = self._state.application(application_id)
            body = parse_model(TemplateBody, data)
            pin_length = body.pin_length or self._state.options.default_pin_length
            template = Template(new_id(), application.id, body, pin_length)
            application.templates[template.id] = template
        resp.media = template.reply()


class TemplateResource(_TwoFactorResource):
    """`/2fa/2/applications/{application_id}/messages/{message_id}`."""

    async def on_get(
        self,
        _req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        application_id: str,
        message_id: str,
    ) -> None:
        """Show one template, which may be an e-mail template."""
        with self._state.lock:
            resp.media = self._template(application_id, message_id)[1].summary()

    async def on_put(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        application_id: str,
        message_id: str,
    ) -> None:
        """Update the given fields of a template; an e-mail template gives 404 (INFERRED)."""
        changes = await read_json_object(req)
        resp.media = self._update_template(application_id, message_id, TemplateBody, changes)


class EmailTemplatesResource(_TwoFactorResource):
    """`/2fa/2/applications/{application_id}/email/messages`."""

    async def on_post(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str
    ) -> None:
        """Create an e-mail template; answers 200."""
        data = await read_json_object(req)
        with self._state.lock:
            application = self._state.application(application_id)
            body = parse_model(EmailTemplateBody, data)
            template = Template(new_id(), application.id, body, body.pin_length)
            application.templates[template.id] = template
        resp.media = template.reply()


class EmailTemplateResource(_TwoFactorResource):
    """`/2fa/2/applications/{application_id}/email/messages/{message_id}`."""

    async def on_put(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        application_id: str,
        message_id: str,
    ) -> None:
        """Update the given fields of an e-mail template; any other gives 404 (INFERRED)."""
        changes = await read_json_object(req)
        resp.media = self._update_template(application_id, message_id, EmailTemplateBody, changes)


class _SendingResource(_TwoFactorResource):
    def __init__(self, state: SimulatorState, pusher: Pusher, channel: Channel) -> None:
        super().__init__(state)
        self._pusher = pusher
        self._channel: Channel = channel

    async def _reply(self, resp: falcon.asgi.Response, sent: SendReply) -> None:
        if sent.report_first is not None:
            await self._pusher.push_now(sent.report_first)
        resp.media = sent.reply


class SendResource(_SendingResource):
    """`/2fa/2/pin`, `/2fa/2/pin/voice` and `/2fa/2/pin/email`."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Send a PIN; `ncNeeded`, for SMS only, defaults to true."""
        nc_needed = self._channel == "SMS" and read_boolean(req, "ncNeeded") is not False
        data = await read_json_object(req)
        body = parse_model(EmailSendBody, data) if self._channel == "EMAIL" else parse_model(SendBody, data)
        await self._reply(resp, send_pin(self._state, body, self._channel, nc_needed=nc_needed))


class ResendResource(_SendingResource):
    """`/2fa/2/pin/{pin_id}/resend`, and the same followed by `/voice` or `/email`."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, pin_id: str) -> None:
        """Resend a PIN; the body is optional."""
        data = await read_json_object(req, optional=True)
        body = (
            parse_model(EmailResendBody, data) if self._channel == "EMAIL" else parse_model(ResendBody, data)
        )
        await self._reply(resp, resend_pin(self._state, pin_id, body, self._channel))


class VerifyResource(_TwoFactorResource):
    """`/2fa/2/pin/{pin_id}/verify`."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, pin_id: str) -> None:
        """Verify a PIN."""
        resp.media = verify_pin(self._state, pin_id, parse_model(VerifyBody, await read_json_object(req)).pin)


class VerificationsResource(_TwoFactorResource):
    """`/2fa/2/applications/{application_id}/verifications`."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str) -> None:
        """List the PINs sent to a number or an address, and whether they were verified."""
        msisdn = req.get_param("msisdn")
        if not msisdn:
            raise make_field_error("msisdn", "must not be null")
        resp.media = list_verifications(
            self._state,
            application_id,
            # An unescaped + in a query arrives as a space.
            msisdn.replace(" ", "+", 1) if msisdn.startswith(" ") else msisdn,
            verified=read_boolean(req, "verified"),
            sent=read_boolean(req, "sent"),
        )
