"""What we set up at Infobip: one 2FA application, a message template for each language, a subscription.

First a plan, then its steps: the plan is what `--dry-run` prints, and applying it does nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from otpqueue.domain.checking import CODE_LENGTH
from otpqueue.domain.errors import OtpqueueError
from otpqueue.domain.templates import FALLBACK_LANGUAGE, IndiaDlt, ProviderIds, TemplateKey
from otpqueue.durations import InvalidDuration, parse_duration
from otpqueue.infobip import wire
from otpqueue.infobip.transport import ProviderResponse, Transport

_APPLICATIONS = "/2fa/2/applications"
_OPTIONAL: dict[str, Any] = {"senderId": None, "regional": None}
_DURATION_UNITS = ("ms", "s", "m", "h", "d")
# Infobip's OpenAPI document 3.210.0: the languages in which a code can be read out.
_SPOKEN = frozenset(
    "en es ca da nl fr de it ja ko no pl ru sv fi hr sl ro pt_pt pt_br zh_cn zh_tw".split()  # noqa: SIM905
)


class ProvisioningFailed(OtpqueueError):
    """Infobip did not do what provisioning asked for."""

    code = "provisioning_failed"


@dataclass(frozen=True, kw_only=True)
class ApplicationLimits:
    """The application's own limits, in the provider's words (`attempts/duration`)."""

    pin_attempts: int
    verify_pin: str
    sends_per_application: str
    sends_per_number: str


@dataclass(frozen=True, kw_only=True)
class WantedConfiguration:
    """What should be there."""

    application_name: str
    code_lifetime_s: float
    limits: ApplicationLimits
    texts: Mapping[str, str]
    """The message by language; `en` is always among them."""
    sender_id: str | None
    india: IndiaDlt | None

    def application(self) -> dict[str, Any]:
        """Return the application, complete: what an update leaves out may be kept or reset.

        The provider's defaults would break a login: one check per number in 3 s, 3 codes per number a day. We
        count checks ourselves, so its counters must never lock a code that ours still allow; single use is
        ours too, and a check whose answer was lost must be askable again.
        """
        configuration = {
            "pinAttempts": self.limits.pin_attempts,
            "allowMultiplePinVerifications": True,
            "pinTimeToLive": _duration(self.code_lifetime_s),
            "verifyPinLimit": self.limits.verify_pin,
            "sendPinPerApplicationLimit": self.limits.sends_per_application,
            "sendPinPerPhoneNumberLimit": self.limits.sends_per_number,
        }
        return {"name": self.application_name, "enabled": True, "configuration": configuration}

    def templates(self) -> dict[TemplateKey, dict[str, Any]]:
        """Return the message templates, complete: one a language, and India's registered ones."""
        wanted = {TemplateKey(language=tongue): self._template(tongue) for tongue in self.texts}
        if self.india:
            dlt = {"principalEntityId": self.india.principal_entity_id}
            if self.india.content_template_id:
                dlt["contentTemplateId"] = self.india.content_template_id
            key = TemplateKey(language=FALLBACK_LANGUAGE, india=True)
            wanted[key] = self._template(FALLBACK_LANGUAGE) | {"regional": {"indiaDlt": dlt}}
        return wanted

    def _template(self, language: str) -> dict[str, Any]:
        template = {"messageText": self.texts[language], "pinType": "NUMERIC", "pinLength": CODE_LENGTH}
        spoken = language.replace("-", "_")
        template |= {"language": spoken} if spoken in _SPOKEN else {}
        return template | ({"senderId": self.sender_id} if self.sender_id else {})


@dataclass(frozen=True, kw_only=True)
class TemplateStep:
    """A template to make, or with an id to change."""

    key: TemplateKey
    body: Mapping[str, Any]
    message_id: str | None


@dataclass(frozen=True, kw_only=True)
class ProvisioningPlan:
    """What is there, and what is to be done."""

    application: Mapping[str, Any]
    application_id: str | None
    """The application to use; None if it is to be made."""
    update_application: bool
    found: Mapping[str, str]
    """Templates that are as they should be, by key."""
    steps: tuple[TemplateStep, ...]
    remarks: tuple[str, ...]

    def words(self) -> list[str]:
        """Return the plan for a person, empty when there is nothing to do."""
        name = self.application["name"]
        lines = list(self.remarks)
        if self.application_id is None:
            lines.append(f"create application {name!r}")
        elif self.update_application:
            lines.append(f"update application {name!r}")
        verbs = (("update" if step.message_id else "create", step.key) for step in self.steps)
        return lines + [f"{verb} message template {key}" for verb, key in verbs]


def plan(
    transport: Transport, wanted: WantedConfiguration, *, remembered: ProviderIds | None
) -> ProvisioningPlan:
    """Look at what is there and return what is to be done.

    Raises ProvisioningFailed with the provider's words.
    """
    application, remarks = _find_application(transport, wanted, remembered)
    application_id = _id(application, "applicationId") if application else None
    there = _list(transport, _templates_path(application_id)) if application_id else []
    known = remembered.message_ids if remembered and remembered.application_id == application_id else {}
    found: dict[str, str] = {}
    steps = []
    for key, body in wanted.templates().items():
        existing = _find_template(there, body, known.get(str(key)))
        # Each key has a template of its own: one that two shared could be changed for one of them alone.
        there = [one for one in there if one is not existing]
        if existing and _same(existing, body):
            found[str(key)] = _id(existing, "messageId")
        else:
            message_id = _id(existing, "messageId") if existing else None
            steps.append(TemplateStep(key=key, body=body, message_id=message_id))
    return ProvisioningPlan(
        application=wanted.application(),
        application_id=application_id,
        update_application=application is not None and _drifted(application, wanted.application()),
        found=found,
        steps=tuple(steps),
        remarks=remarks,
    )


def apply(transport: Transport, planned: ProvisioningPlan) -> ProviderIds:
    """Do what the plan says and return the ids of all.

    Raises ProvisioningFailed with the provider's words.
    """
    application_id = planned.application_id
    if application_id is None:
        application_id = _id(_call(transport, "POST", _APPLICATIONS, planned.application), "applicationId")
    elif planned.update_application:
        _call(transport, "PUT", f"{_APPLICATIONS}/{quote(application_id, safe='')}", planned.application)
    ids = dict(planned.found)
    for step in planned.steps:
        path = _templates_path(application_id)
        if step.message_id:
            _call(transport, "PUT", f"{path}/{quote(step.message_id, safe='')}", step.body)
            ids[str(step.key)] = step.message_id
        else:
            ids[str(step.key)] = _id(_call(transport, "POST", path, step.body), "messageId")
    return ProviderIds(application_id, ids)


def subscribe(transport: Transport, *, url: str, username: str, password: str) -> str:
    """Have delivery reports of SMS pushed to `url`, with these Basic credentials; return its id.

    Raises ProvisioningFailed with the provider's words.
    """
    body = {
        "subscriptionId": "otpqueue-receipts",
        "name": "otpqueue delivery reports",
        "events": ["DELIVERY"],
        "profile": {
            "profileId": "otpqueue",
            "webhook": {"notifyUrl": url, "contentType": "application/json"},
            "security": {
                "authId": "otpqueue",
                "type": "BASIC",
                "credentials": {"username": username, "password": password},
            },
        },
    }
    return _id(_call(transport, "POST", "/subscriptions/1/subscription/SMS", body), "subscriptionId")


def _find_application(
    transport: Transport, wanted: WantedConfiguration, remembered: ProviderIds | None
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    named = [
        application
        for application in _list(transport, _APPLICATIONS)
        if application.get("name") == wanted.application_name and application.get("applicationId")
    ]
    if not named:
        return None, ()
    known = remembered.application_id if remembered else None
    found = next((one for one in named if one["applicationId"] == known), named[0])
    if len(named) == 1:
        return found, ()
    which = "the one used before" if found["applicationId"] == known else "the first"
    remark = f"{len(named)} applications are named {wanted.application_name!r}: using {which}"
    return found, (remark,)


def _find_template(
    there: list[dict[str, Any]], body: Mapping[str, Any], known: str | None
) -> dict[str, Any] | None:
    by_id = next((one for one in there if known and one.get("messageId") == known), None)
    if by_id and not any(by_id.get(name) is not None and name not in body for name in _OPTIONAL):
        return by_id
    # Whether an update takes away what it leaves out is not documented: better a template of its own.
    return next((one for one in there if _same(one, body) and one.get("messageId")), None)


def _same(existing: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    return all(existing.get(name) == value for name, value in (_OPTIONAL | dict(body)).items())


def _templates_path(application_id: str) -> str:
    return f"{_APPLICATIONS}/{quote(application_id, safe='')}/messages"


def _list(transport: Transport, path: str) -> list[dict[str, Any]]:
    answer = _call(transport, "GET", path)
    if not isinstance(answer, list):
        raise ProvisioningFailed("Infobip's answer is not a list; is INFOBIP_BASE_URL right?")
    return [entry for entry in answer if isinstance(entry, dict)]


def _call(transport: Transport, method: str, path: str, body: object = None) -> Any:
    reply = transport.call(method, path, body)
    if not isinstance(reply, ProviderResponse):
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


def _drifted(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    configuration = actual.get("configuration")
    if actual.get("enabled") is False or not isinstance(configuration, dict):
        return True
    pairs = wanted["configuration"].items()
    return any(_meaning(configuration.get(name)) != _meaning(value) for name, value in pairs)


def _meaning(value: Any) -> Any:
    # "5m" and "300s" are the same duration, "20/1s" and "20/s" the same limit.
    if not isinstance(value, str):
        return value
    count, _, duration = value.rpartition("/")
    try:
        return count, parse_duration(duration, units=_DURATION_UNITS, number_required=False)
    except InvalidDuration:
        return value


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}m" if whole % 60 == 0 else f"{whole}s"
