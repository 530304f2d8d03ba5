"""Sending a PIN by SMS, and sending it again."""

from typing import Annotated, Any
from uuid import uuid4

from pydantic import AfterValidator, Field

from otpqueue.simulator.applications import Application
from otpqueue.simulator.durations import parse_duration, parse_limit
from otpqueue.simulator.errors import ApiError, invalid
from otpqueue.simulator.inbox import Message
from otpqueue.simulator.pins import Pin
from otpqueue.simulator.state import State, new_id
from otpqueue.simulator.templates import Template
from otpqueue.simulator.verifying import known_pin
from otpqueue.simulator.wire import Body, digits

_UNKNOWN = "Application or message with given ID cannot be found."


def _without_pin(placeholders: dict[str, str]) -> dict[str, str]:
    if "pin" in placeholders:
        raise ValueError("must not contain pin")
    return placeholders


NotEmpty = Annotated[str, Field(min_length=1)]
Placeholders = Annotated[dict[str, str], AfterValidator(_without_pin)]


class ResendBody(Body):
    """What may be said when a PIN is sent again."""

    placeholders: Annotated[Placeholders, Field(default_factory=dict)]
    track_delivery: bool = False


class SendBody(ResendBody):
    """What to send to whom; `message_id` is the template's id."""

    application_id: NotEmpty
    message_id: NotEmpty
    to: NotEmpty
    sender: Annotated[NotEmpty | None, Field(alias="from")] = None


def send(state: State, body: SendBody, *, nc_needed: bool) -> dict[str, Any]:
    """Make a PIN, deliver it to the inbox and return the reply.

    Raises `ApiError`: 404 for an unknown application or template, 400 for a bad number or a disabled
    application, 429 over a send limit.
    """
    options = state.options
    to = digits(body.to, accept_plus=options.accept_plus)
    if to is None:
        raise invalid("to", "must be a phone number in international format, digits only")
    with state.lock:
        application, template = _find(state, body.application_id, body.message_id)
        if not application.body.enabled:
            raise ApiError(options.disabled_application_status, text="Application is disabled")
        code = template.new_pin()
        text = _render(state, template, code, body)
        _count(state, application, to)
        if options.new_pin_replaces_old:
            for old in state.pins.of_number(application.id, to):
                old.replaced = True
        now = state.clock.now()
        sender = body.sender or template.body.sender_id
        pin = Pin(
            new_id(), application.id, template.id, to, code, sender, nc_needed, issued_at=now, sent_at=now
        )
        state.pins.add(pin)
        return _deliver(state, pin, text, track=body.track_delivery)


def resend(state: State, pin_id: str, body: ResendBody) -> dict[str, Any]:
    """Deliver the same PIN once more and return the reply.

    Raises `ApiError`: 404 for an unknown (by default also an expired) PIN, 429 over a send limit. That it
    counts against the limits and changes neither time to live nor attempts is INFERRED; see `Options`.
    """
    options = state.options
    with state.lock:
        pin = known_pin(state, pin_id)
        application, template = _find(state, pin.application_id, pin.template_id)
        now = state.clock.now()
        expires_at = pin.issued_at + parse_duration(application.body.configuration.pin_time_to_live)
        if now >= expires_at and options.resend_expired == "404":
            raise ApiError(404, options.pin_not_found_message_id)
        text = _render(state, template, pin.code, body)
        if options.resend_counts:
            _count(state, application, pin.to)
        pin.sent_at = now
        if options.resend_restarts_ttl:
            pin.issued_at = now
        if options.resend_resets_attempts:
            pin.attempts_used = 0
        if options.resend_new_pin_id:
            state.pins.rename(pin, new_id())
        return _deliver(state, pin, text, track=body.track_delivery)


def _find(state: State, application_id: str, template_id: str) -> tuple[Application, Template]:
    application = state.applications.get(application_id)
    template = application.templates.get(template_id) if application else None
    if application is None or template is None:
        message_id = state.options.not_found_message_id
        raise ApiError(404, message_id, _UNKNOWN if message_id == "RESOURCE_NOT_FOUND" else None)
    return application, template


def _render(state: State, template: Template, code: str, body: ResendBody) -> str:
    keep = state.options.missing_placeholder == "keep"
    return template.render(code, body.placeholders, keep_missing=keep)


def _count(state: State, application: Application, to: str) -> None:
    configuration = application.body.configuration
    limits = {
        f"{application.id}/{to}": parse_limit(configuration.send_pin_per_phone_number_limit),
        application.id: parse_limit(configuration.send_pin_per_application_limit),
    }
    now = state.clock.now()
    wait_s = max(state.sends.wait(key, limit, now) for key, limit in limits.items())
    if wait_s > 0:
        raise state.throttled(wait_s)
    for key in limits:
        state.sends.hit(key, now)


def _deliver(state: State, pin: Pin, text: str, *, track: bool) -> dict[str, Any]:
    state.inbox.add(Message(pin.to, "SMS", pin.sender, text, pin.code, pin.id, pin.sent_at))
    reply: dict[str, Any] = {"pinId": pin.id, "to": pin.to}
    if pin.nc_needed:
        reply["ncStatus"] = "NC_DESTINATION_REACHABLE"
    elif state.options.skipped_nc_status == "null":
        reply["ncStatus"] = None
    reply["smsStatus"] = "MESSAGE_SENT"
    if track:
        reply["externalMessageId"] = str(uuid4())
    return reply
