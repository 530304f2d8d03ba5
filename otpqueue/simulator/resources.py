"""The paths of the imitated API: HTTP in, one call, HTTP out."""

from dataclasses import replace

import falcon.asgi

from otpqueue.simulator import applications, templates
from otpqueue.simulator.applications import Application, ApplicationBody
from otpqueue.simulator.errors import ApiError, invalid
from otpqueue.simulator.sending import ResendBody, SendBody, resend, send
from otpqueue.simulator.state import State, new_id
from otpqueue.simulator.templates import Template, TemplateBody
from otpqueue.simulator.verifying import VerifyBody, verifications, verify
from otpqueue.simulator.wire import boolean_param, json_object, parse


class _Resource:
    def __init__(self, state: State) -> None:
        self._state = state


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
        """List an application's templates as a bare array."""
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
        """Show one template."""
        with self._state.lock:
            resp.media = self._find(application_id, message_id)[1].summary()

    async def on_put(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        application_id: str,
        message_id: str,
    ) -> None:
        """Update the given fields of a template."""
        changes = await json_object(req)
        with self._state.lock:
            application, old = self._find(application_id, message_id)
            body = templates.merged(old.body, changes)
            new = replace(old, body=body, pin_length=body.pin_length or old.pin_length)
            application.templates[message_id] = new
        resp.media = new.reply()

    def _find(self, application_id: str, message_id: str) -> tuple[Application, Template]:
        application = self._state.application(application_id)
        template = application.templates.get(message_id)
        if template is None:
            raise ApiError(404)
        return application, template


class SendResource(_Resource):
    """`/2fa/2/pin`."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Send a PIN; `ncNeeded` defaults to true."""
        nc_needed = boolean_param(req, "ncNeeded") is not False
        resp.media = send(self._state, parse(SendBody, await json_object(req)), nc_needed=nc_needed)


class ResendResource(_Resource):
    """`/2fa/2/pin/{pin_id}/resend`."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, pin_id: str) -> None:
        """Send a PIN again; the body may be left out."""
        body = parse(ResendBody, await json_object(req, optional=True))
        resp.media = resend(self._state, pin_id, body)


class VerifyResource(_Resource):
    """`/2fa/2/pin/{pin_id}/verify`."""

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, pin_id: str) -> None:
        """Check a PIN."""
        resp.media = verify(self._state, pin_id, parse(VerifyBody, await json_object(req)).pin)


class VerificationsResource(_Resource):
    """`/2fa/2/applications/{application_id}/verifications`."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, application_id: str) -> None:
        """List what was sent to, and verified by, a number."""
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
