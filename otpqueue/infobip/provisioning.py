"""What we set up at Infobip: one 2FA application and one message template, found or made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from otpqueue.domain.checking import CODE_LENGTH
from otpqueue.domain.errors import OtpqueueError
from otpqueue.domain.sending import ProviderIds
from otpqueue.infobip import wire
from otpqueue.infobip.transport import Answer, Transport

_DURATION = re.compile(r"(\d*)(ms|s|m|h|d)")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class ProvisioningFailed(OtpqueueError):
    """Infobip did not do what provisioning asked for."""

    code = "provisioning_failed"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What should be there."""

    application_name: str
    code_lifetime_s: float
    template: str
    sender_id: str | None

    def configuration(self) -> dict[str, Any]:
        """Return the 2FA application's configuration, complete.

        The provider's defaults would break the service: one check of a code per 3 s, 3 codes per number and
        day. We count checks ourselves, so its counters must never lock a code that ours still allow; single
        use is ours too, and a check whose answer was lost must be askable again.
        """
        return {
            "pinAttempts": 10,
            "allowMultiplePinVerifications": True,
            "pinTimeToLive": _duration(self.code_lifetime_s),
            "verifyPinLimit": "20/1s",
            "sendPinPerApplicationLimit": "10000000/1d",
            "sendPinPerPhoneNumberLimit": "100/1d",
        }

    def message(self) -> dict[str, Any]:
        """Return the message template, complete."""
        template = {"messageText": self.template, "pinType": "NUMERIC", "pinLength": CODE_LENGTH}
        return template | ({"senderId": self.sender_id} if self.sender_id else {})


@dataclass(frozen=True, kw_only=True)
class Provisioned:
    """What is there now, and what was done for it, in words for an operator."""

    ids: ProviderIds
    actions: tuple[str, ...]


def ensure(transport: Transport, wanted: Wanted, *, remembered: ProviderIds | None) -> Provisioned:
    """Find the application and the template, make what is missing, mend what differs.

    Raises ProvisioningFailed with the provider's words.
    """
    actions: list[str] = []
    application_id = _ensure_application(transport, wanted, remembered, actions)
    message_id = _ensure_message(transport, application_id, wanted, actions)
    return Provisioned(
        ids=ProviderIds(application_id=application_id, message_id=message_id), actions=tuple(actions)
    )


def _ensure_application(
    transport: Transport, wanted: Wanted, remembered: ProviderIds | None, actions: list[str]
) -> str:
    complete = {
        "name": wanted.application_name,
        "enabled": True,
        "configuration": wanted.configuration(),
    }
    named = [
        application
        for application in _list(transport, "/2fa/2/applications")
        if application.get("name") == wanted.application_name and application.get("applicationId")
    ]
    if not named:
        made = _call(transport, "POST", "/2fa/2/applications", complete)
        actions.append(f"created application {wanted.application_name!r}")
        return _id(made, "applicationId")
    known = remembered.application_id if remembered else None
    found = next((one for one in named if one["applicationId"] == known), named[0])
    if len(named) > 1:
        actions.append(f"found {len(named)} applications named {wanted.application_name!r}, used one of them")
    application_id = _id(found, "applicationId")
    if found.get("enabled") is False or _drifted(found.get("configuration"), wanted.configuration()):
        _call(transport, "PUT", f"/2fa/2/applications/{quote(application_id, safe='')}", complete)
        actions.append(f"updated application {wanted.application_name!r}")
    return application_id


def _ensure_message(transport: Transport, application_id: str, wanted: Wanted, actions: list[str]) -> str:
    path = f"/2fa/2/applications/{quote(application_id, safe='')}/messages"
    message = wanted.message()
    for template in _list(transport, path):
        same = all(template.get(name) == value for name, value in message.items())
        if same and template.get("senderId") == message.get("senderId") and template.get("messageId"):
            return _id(template, "messageId")
    made = _call(transport, "POST", path, message)
    actions.append("created message template")
    return _id(made, "messageId")


def _list(transport: Transport, path: str) -> list[dict[str, Any]]:
    answer = _call(transport, "GET", path)
    if not isinstance(answer, list):
        raise ProvisioningFailed("Infobip's answer is not a list; is INFOBIP_BASE_URL right?")
    return [entry for entry in answer if isinstance(entry, dict)]


def _call(transport: Transport, method: str, path: str, body: object = None) -> Any:
    reply = transport.call(method, path, body)
    if not isinstance(reply, Answer):
        raise ProvisioningFailed(f"Infobip cannot be reached ({reply.code}); is INFOBIP_BASE_URL right?")
    if not 200 <= reply.status < 300:
        said = ": ".join(filter(None, (wire.error_code(reply.body), wire.error_text(reply.body))))
        raise ProvisioningFailed(f"Infobip refused with HTTP {reply.status}: {said or 'no reason given'}")
    return reply.body


def _id(thing: Any, name: str) -> str:
    value = thing.get(name) if isinstance(thing, dict) else None
    if not isinstance(value, str) or not value:
        raise ProvisioningFailed(f"Infobip's answer has no {name}")
    return value


def _drifted(actual: Any, wanted: dict[str, Any]) -> bool:
    if not isinstance(actual, dict):
        return True
    return any(_meaning(actual.get(name)) != _meaning(value) for name, value in wanted.items())


def _meaning(value: Any) -> Any:
    # "5m" and "300s" are the same duration, "20/1s" and "20/s" the same limit.
    if not isinstance(value, str):
        return value
    count, _, duration = value.rpartition("/")
    match = _DURATION.fullmatch(duration)
    return (count, int(match[1] or 1) * _UNIT_MS[match[2]]) if match else value


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}m" if whole % 60 == 0 else f"{whole}s"
