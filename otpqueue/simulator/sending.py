"""Sends and resends PINs by SMS, voice or e-mail."""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple
from uuid import uuid4

from pydantic import AfterValidator, Field

from otpqueue.simulator import magic
from otpqueue.simulator.applications import Application
from otpqueue.simulator.durations import parse_duration, parse_limit
from otpqueue.simulator.errors import ApiError, make_field_error
from otpqueue.simulator.inbox import Channel, InboxMessage
from otpqueue.simulator.pins import Pin
from otpqueue.simulator.receipts import ReceiptRuleBody
from otpqueue.simulator.state import SimulatorState, new_id
from otpqueue.simulator.templates import Template, named_address
from otpqueue.simulator.verifying import known_pin
from otpqueue.simulator.wire import RequestBody, parse_address, parse_number

_UNKNOWN = "Application or message with given ID cannot be found."
_ORDINARY = magic.MagicNumber("", "any other number")


def _without_pin(placeholders: dict[str, str]) -> dict[str, str]:
    if "pin" in placeholders:
        raise ValueError("must not contain pin")
    return placeholders


NotEmpty = Annotated[str, Field(min_length=1)]
Placeholders = Annotated[dict[str, str], AfterValidator(_without_pin)]


class ResendBody(RequestBody):
    """The body of a resend by SMS or voice."""

    placeholders: Annotated[Placeholders, Field(default_factory=dict)]
    track_delivery: bool = False

    @property
    def values(self) -> Mapping[str, str]:
        """The values of the placeholders."""
        return self.placeholders


class SendBody(ResendBody):
    """The body of a send by SMS or voice; `message_id` is the template's id."""

    application_id: NotEmpty
    message_id: NotEmpty
    to: NotEmpty
    sender: Annotated[NotEmpty | None, Field(alias="from")] = None


class EmailResendBody(RequestBody):
    """The body of a resend by e-mail; delivery of e-mail is not tracked."""

    placeholders: Annotated[Placeholders, Field(default_factory=dict)]
    landing_page_placeholders: Annotated[dict[str, str], Field(default_factory=dict)]

    @property
    def values(self) -> Mapping[str, str]:
        """The values of the placeholders."""
        return {**self.landing_page_placeholders, **self.placeholders}

    @property
    def track_delivery(self) -> bool:
        """Whether delivery is tracked: never."""
        return False


class EmailSendBody(EmailResendBody):
    """The body of a send by e-mail; `message_id` is the template's id."""

    application_id: NotEmpty
    message_id: NotEmpty
    to: NotEmpty
    sender: Annotated[Annotated[NotEmpty, AfterValidator(named_address)] | None, Field(alias="from")] = None


class SendReply(NamedTuple):
    """The reply to a send, and the id of a message that must be pushed in reports before the reply."""

    reply: dict[str, Any]
    report_first: str | None = None


def send_pin(
    state: SimulatorState, body: SendBody | EmailSendBody, channel: Channel, *, nc_needed: bool = False
) -> SendReply:
    """Create a PIN and deliver it to the inbox.

    Raises `ApiError`: 404 for an unknown application or template, 400 for a bad recipient or a disabled
    application, 429 over a send limit. The limits count all channels together, which is INFERRED.
    """
    options = state.options
    to = _recipient(state, body.to, channel)
    with state.lock:
        application, template = _find(state, body.application_id, body.message_id, channel)
        if not application.body.enabled:
            raise ApiError(options.disabled_application_status, text="Application is disabled")
        code = template.new_pin()
        text = _render(state, template, code, body, channel)
        _count(state, application, to)
        if options.new_pin_replaces_old:
            for old in state.pins.of_number(application.id, to):
                old.replaced = True
        now = state.clock.now()
        sender = body.sender or template.body.sender
        pin = Pin(
            new_id(), application.id, template.id, to, code, sender, nc_needed, issued_at=now, sent_at=now
        )
        state.pins.add(pin)
        return _deliver(state, pin, channel, text, track=body.track_delivery)


def resend_pin(
    state: SimulatorState, pin_id: str, body: ResendBody | EmailResendBody, channel: Channel
) -> SendReply:
    """Deliver the same PIN once more.

    Raises `ApiError`: 404 for an unknown (by default also an expired) PIN, 400 for a PIN that went to a
    number but is to go by e-mail, or the reverse (INFERRED), 429 over a send limit. That it counts against
    the limits and changes neither time to live nor attempts is INFERRED; see `Options`.
    """
    options = state.options
    with state.lock:
        pin = known_pin(state, pin_id)
        if pin.by_email != (channel == "EMAIL"):
            raise ApiError(400, text=f"The PIN cannot be sent by {channel.lower()}")
        application, template = _find(state, pin.application_id, pin.template_id, channel)
        now = state.clock.now()
        expires_at = pin.issued_at + parse_duration(application.body.configuration.pin_time_to_live)
        if now >= expires_at and options.resend_expired == "404":
            raise ApiError(404, options.pin_not_found_message_id)
        text = _render(state, template, pin.code, body, channel)
        if options.resend_counts:
            _count(state, application, pin.to)
        pin.sent_at = now
        if options.resend_restarts_ttl:
            pin.issued_at = now
        if options.resend_resets_attempts:
            pin.attempts_used = 0
        if options.resend_new_pin_id:
            state.pins.rename(pin, new_id())
        return _deliver(state, pin, channel, text, track=body.track_delivery)


def _recipient(state: SimulatorState, given: str, channel: Channel) -> str:
    if channel == "EMAIL":
        to = parse_address(given)
        if to is None:
            raise make_field_error("to", "must be an e-mail address")
        return to
    to = parse_number(given, accept_plus=state.options.accept_plus)
    if to is None:
        raise make_field_error("to", "must be a phone number in international format, digits only")
    return to


def _find(
    state: SimulatorState, application_id: str, template_id: str, channel: Channel
) -> tuple[Application, Template]:
    application = state.applications.get(application_id)
    template = application.templates.get(template_id) if application else None
    if application is None or template is None or not template.serves(channel):
        message_id = state.options.not_found_message_id
        text = _UNKNOWN if message_id == "RESOURCE_NOT_FOUND" else "Not found"
        raise ApiError(state.options.not_found_status, message_id, text)
    return application, template


def _render(
    state: SimulatorState, template: Template, code: str, body: ResendBody | EmailResendBody, channel: Channel
) -> str:
    # Text to speech reads digits one by one only if they are separated; Infobip's way is INFERRED.
    said = " ".join(code) if channel == "VOICE" else code
    return template.render(said, body.values, keep_missing=state.options.missing_placeholder == "keep")


def _count(state: SimulatorState, application: Application, to: str) -> None:
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


def _deliver(state: SimulatorState, pin: Pin, channel: Channel, text: str, *, track: bool) -> SendReply:
    special = (magic.find_magic_number(pin.to) if state.options.magic_numbers else None) or _ORDINARY
    reply: dict[str, Any] = {"pinId": pin.id, "to": pin.to}
    arrives = True
    if channel == "SMS":
        arrives = special.sent or not pin.nc_needed
        if pin.nc_needed:
            reply["ncStatus"] = special.nc_status
        elif state.options.skipped_nc_status == "null":
            reply["ncStatus"] = None
        reply["smsStatus"] = "MESSAGE_SENT" if arrives else "MESSAGE_NOT_SENT"
    elif channel == "VOICE":
        reply["callStatus"] = "PENDING_ACCEPTED"
    else:
        reply["emailStatus"] = {
            "name": "PENDING_ACCEPTED",
            "description": "Message accepted, pending for delivery.",
        }
    if not arrives:
        return SendReply(reply)
    external_id = str(uuid4()) if track else None
    message = InboxMessage(pin.to, channel, pin.sender, text, pin.code, pin.id, pin.sent_at, external_id)
    state.inbox.add(message)
    if external_id is None:
        return SendReply(reply)
    reply["externalMessageId"] = external_id
    rule = state.outbox.rules.take(pin.to) or special.receipts or ReceiptRuleBody()
    state.outbox.track(message, external_id, rule)
    state.wake()
    return SendReply(reply, external_id if rule.before_answer else None)
