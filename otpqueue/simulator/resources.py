"""The paths of the 2FA API: HTTP in, one call, HTTP out."""

from dataclasses import replace

import falcon.asgi

from otpqueue.simulator import applications, templates
from otpqueue.simulator.applications import Application, ApplicationBody
from otpqueue.simulator.errors import ApiError, invalid
from otpqueue.simulator.inbox import Channel
from otpqueue.simulator.pushing import Pusher
from otpqueue.simulator.sending import (
    EmailResendBody,
    EmailSendBody,
    ResendBody,
    SendBody,
    Sent,
    resend,
    send,
)
from otpqueue.simulator.state import State, new_id
from otpqueue.simulator.templates import EmailTemplateBody, Template, TemplateBody
from otpqueue.simulator.verifying import VerifyBody, verifications, verify
from otpqueue.simulator.wire import boolean_param, json_object, parse


class _Resource:
    def __init__(self, state: State) -> None:
        self._state = state

    def _template(self, application_id: str, message_id: str) -> tuple[Application, Template]:
        application = self._state.application(application_id)
        template = application.templates.get(message_id)
        if template is None:
            raise ApiError(404)
        return application, template


class ApplicationsResource(_Resource):
    """`/2fa/2/applications`."""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """List all applications as a bare array."""
        with self._state.lock:
            resp.media = [application.reply() for application in self._state.applications.values()]

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Create an application."""
        body = parse(ApplicationBody, await json_object(req))
        application = Application(new_id(), body)
        with self._state.lock:
            self._state.applications[application.id] = application
        resp.status = self._state.options.create_status
        resp.media = application.reply()


class ApplicationResource(_Resource):
    """`/2fa/2/applications/{application_id}`."""

    async def on_get(
        self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str
    ) -> None:
        """Show one application."""
        with self._state.lock:
            resp.media = self._state.application(application_id).reply()

    async def on_put(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str) -> None:
        """Update an application; the name is required as in OpenAPI 3.210.0."""
        new = parse(ApplicationBody, await json_object(req))
        with self._state.lock:
            application = self._state.application(application_id)
            replaces = self._state.options.update_replaces
            application.body = new if replaces else applications.merged(application.body, new)
            resp.media = application.reply()


class TemplatesResource(_Resource):
    """`/2fa/2/applications/{application_id}/messages`."""

    async def on_get(
        self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str
    ) -> None:
        """List an application's templates, those of e-mail too, as a bare array."""
        with self._state.lock:
            found = self._state.application(application_id).templates.values()
            resp.media = [template.summary() for template in found]

    async def on_post(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str
    ) -> None:
        """Create a template; answers 200, not 201."""
        data = await json_object(req)
        with self._state.lock:
            application = self._state.application(application_id)
            body = parse(TemplateBody, data)
            pin_length = body.pin_length or self._state.options.default_pin_length
            template = Template(new_id(), application.id, body, pin_length)
            application.templates[template.id] = template
        resp.media = template.reply()


class TemplateResource(_Resource):
    """`/2fa/2/applications/{application_id}/messages/{message_id}`."""

    async def on_get(
        self,
        _req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        application_id: str,
        message_id: str,
    ) -> None:
        """Show one template, also one of e-mail."""
        with self._state.lock:
            resp.media = self._template(application_id, message_id)[1].summary()

    async def on_put(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        application_id: str,
        message_id: str,
    ) -> None:
        """Update the given fields of a template; one of e-mail is not found here (INFERRED)."""
        changes = await json_object(req)
        with self._state.lock:
            application, old = self._template(application_id, message_id)
            if not isinstance(old.body, TemplateBody):
                raise ApiError(404)
            body = templates.merged(old.body, changes)
            new = replace(old, body=body, pin_length=body.pin_length or old.pin_length)
            application.templates[message_id] = new
        resp.media = new.reply()


class EmailTemplatesResource(_Resource):
    """`/2fa/2/applications/{application_id}/email/messages`."""

    async def on_post(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str
    ) -> None:
        """Create a template of e-mail; answers 200."""
        data = await json_object(req)
        with self._state.lock:
            application = self._state.application(application_id)
            body = parse(EmailTemplateBody, data)
            template = Template(new_id(), application.id, body, body.pin_length)
            application.templates[template.id] = template
        resp.media = template.reply()


class EmailTemplateResource(_Resource):
    """`/2fa/2/applications/{application_id}/email/messages/{message_id}`."""

    async def on_put(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        application_id: str,
        message_id: str,
    ) -> None:
        """Update the given fields of a template of e-mail; any other is not found here (INFERRED)."""
        changes = await json_object(req)
        with self._state.lock:
            application, old = self._template(application_id, message_id)
            if not isinstance(old.body, EmailTemplateBody):
                raise ApiError(404)
            body = templates.merged_email(old.body, changes)
            new = replace(old, body=body, pin_length=body.pin_length)
            application.templates[message_id] = new
        resp.media = new.reply()


class _SendingResource(_Resource):
    def __init__(self, state: State, pusher: Pusher, channel: Channel) -> None:
        super().__init__(state)
        self._pusher = pusher
        self._channel: Channel = channel

    async def _reply(self, resp: falcon.asgi.Response, sent: Sent) -> None:
        if sent.report_first is not None:
            await self._pusher.push_now(sent.report_first)
        resp.media = sent.reply


class SendResource(_SendingResource):
    """`/2fa/2/pin`, `/2fa/2/pin/voice` and `/2fa/2/pin/email`."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Send a PIN; `ncNeeded`, for SMS only, defaults to true."""
        nc_needed = self._channel == "SMS" and boolean_param(req, "ncNeeded") is not False
        data = await json_object(req)
        body = parse(EmailSendBody, data) if self._channel == "EMAIL" else parse(SendBody, data)
        await self._reply(resp, send(self._state, body, self._channel, nc_needed=nc_needed))


class ResendResource(_SendingResource):
    """`/2fa/2/pin/{pin_id}/resend`, and the same followed by `/voice` or `/email`."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, pin_id: str) -> None:
        """Send a PIN again; the body may be left out."""
        data = await json_object(req, optional=True)
        body = parse(EmailResendBody, data) if self._channel == "EMAIL" else parse(ResendBody, data)
        await self._reply(resp, resend(self._state, pin_id, body, self._channel))


class VerifyResource(_Resource):
    """`/2fa/2/pin/{pin_id}/verify`."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, pin_id: str) -> None:
        """Check a PIN."""
        resp.media = verify(self._state, pin_id, parse(VerifyBody, await json_object(req)).pin)


class VerificationsResource(_Resource):
    """`/2fa/2/applications/{application_id}/verifications`."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str) -> None:
        """List what was sent to, and verified by, a number or an address."""
        msisdn = req.get_param("msisdn")
        if not msisdn:
            raise invalid("msisdn", "must not be null")
        resp.media = verifications(
            self._state,
            application_id,
            # An unescaped + in a query arrives as a space.
            msisdn.replace(" ", "+", 1) if msisdn.startswith(" ") else msisdn,
            verified=boolean_param(req, "verified"),
            sent=boolean_param(req, "sent"),
        )
