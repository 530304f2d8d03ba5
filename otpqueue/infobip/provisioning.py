"""Provision Infobip: a 2FA application, a message template per language, and a report subscription.

`plan` computes the changes, which `--dry-run` prints. `apply` makes exactly these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
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
# Languages of voice codes, from Infobip's OpenAPI document 3.210.0.
_SPOKEN = frozenset(
    "en es ca da nl fr de it ja ko no pl ru sv fi hr sl ro pt_pt pt_br zh_cn zh_tw".split()  # noqa: SIM905
)


class ProvisioningFailed(OtpqueueError):
    """Infobip rejected a provisioning call, or its answer is not usable."""

    code = "provisioning_failed"


@dataclass(frozen=True, kw_only=True)
class ApplicationLimits:
    """The application's own limits in Infobip's format, `attempts/duration`."""

    pin_attempts: int
    verify_pin: str
    sends_per_application: str
    sends_per_number: str


@dataclass(frozen=True, kw_only=True)
class WantedConfiguration:
    """The configuration to provision."""

    application_name: str
    code_lifetime_s: float
    limits: ApplicationLimits
    texts: Mapping[str, str]
    """The message text by language. It always contains `en`."""
    sender_id: str | None
    india: IndiaDlt | None

    def build_application(self) -> dict[str, Any]:
        """Return the complete application: Infobip may keep or reset a field that an update omits.

        Infobip's defaults would break logins: one check per number in 3 s, 3 codes per number a day. Its
        limits must be wider than ours, because we count checks ourselves. It must also allow several
        verifications of one code: we enforce single use, and must be able to repeat a check after a lost
        answer.
        """
        configuration = {
            "pinAttempts": self.limits.pin_attempts,
            "allowMultiplePinVerifications": True,
            "pinTimeToLive": _format_duration(self.code_lifetime_s),
            "verifyPinLimit": self.limits.verify_pin,
            "sendPinPerApplicationLimit": self.limits.sends_per_application,
            "sendPinPerPhoneNumberLimit": self.limits.sends_per_number,
        }
        return {"name": self.application_name, "enabled": True, "configuration": configuration}

    def build_templates(self) -> dict[TemplateKey, dict[str, Any]]:
        """Return the complete message templates: one per language, and India's registered one."""
        wanted = {TemplateKey(language=tongue): self._build_template(tongue) for tongue in self.texts}
        if self.india:
            dlt = {"principalEntityId": self.india.principal_entity_id}
            if self.india.content_template_id:
                dlt["contentTemplateId"] = self.india.content_template_id
            key = TemplateKey(language=FALLBACK_LANGUAGE, india=True)
            wanted[key] = self._build_template(FALLBACK_LANGUAGE) | {"regional": {"indiaDlt": dlt}}
        return wanted

    def _build_template(self, language: str) -> dict[str, Any]:
        template = {"messageText": self.texts[language], "pinType": "NUMERIC", "pinLength": CODE_LENGTH}
        spoken = language.replace("-", "_")
        template |= {"language": spoken} if spoken in _SPOKEN else {}
        return template | ({"senderId": self.sender_id} if self.sender_id else {})


@dataclass(frozen=True, kw_only=True)
class TemplateStep:
    """A template to create, or to update if it has an id."""

    key: TemplateKey
    body: Mapping[str, Any]
    message_id: str | None


@dataclass(frozen=True, kw_only=True)
class ProvisioningPlan:
    """The current configuration and the required changes."""

    application: Mapping[str, Any]
    application_id: str | None
    """The application to use. None if it must be created."""
    update_application: bool
    found: Mapping[str, str]
    """Ids of templates that need no change, by key."""
    steps: tuple[TemplateStep, ...]
    remarks: tuple[str, ...]

    def format_lines(self) -> list[str]:
        """Return the plan as lines of text. Empty if nothing must change."""
        name = self.application["name"]
        lines = list(self.remarks)
        if self.application_id is None:
            lines.append(f"create application {name!r}")
        elif self.update_application:
            lines.append(f"update application {name!r}")
        verbs = (("update" if step.message_id else "create", step.key) for step in self.steps)
        return lines + [f"{verb} message template {key}" for verb, key in verbs]


def make_plan(
    transport: Transport, wanted: WantedConfiguration, *, remembered: ProviderIds | None
) -> ProvisioningPlan:
    """Read the current configuration and return the required changes.

    Raises ProvisioningFailed with Infobip's error text.
    """
    application, remarks = _find_application(transport, wanted, remembered)
    application_id = _get_id(application, "applicationId") if application else None
    there = _fetch_list(transport, _build_templates_path(application_id)) if application_id else []
    known = remembered.message_ids if remembered and remembered.application_id == application_id else {}
    found: dict[str, str] = {}
    steps = []
    for key, body in wanted.build_templates().items():
        existing = _find_template(there, body, known.get(str(key)))
        # Two keys must not share a template, because a change for one would affect both.
        there = [one for one in there if one is not existing]
        if existing and _is_same(existing, body):
            found[str(key)] = _get_id(existing, "messageId")
        else:
            message_id = _get_id(existing, "messageId") if existing else None
            steps.append(TemplateStep(key=key, body=body, message_id=message_id))
    return ProvisioningPlan(
        application=wanted.build_application(),
        application_id=application_id,
        update_application=application is not None and _has_drifted(application, wanted.build_application()),
        found=found,
        steps=tuple(steps),
        remarks=remarks,
    )


def apply_plan(transport: Transport, planned: ProvisioningPlan) -> ProviderIds:
    """Make the changes of a plan and return the ids of the application and of all templates.

    Raises ProvisioningFailed with Infobip's error text.
    """
    application_id = planned.application_id
    if application_id is None:
        application_id = _get_id(
            _call_api(transport, "POST", _APPLICATIONS, planned.application), "applicationId"
        )
    elif planned.update_application:
        _call_api(transport, "PUT", f"{_APPLICATIONS}/{quote(application_id, safe='')}", planned.application)
    ids = dict(planned.found)
    for step in planned.steps:
        path = _build_templates_path(application_id)
        if step.message_id:
            _call_api(transport, "PUT", f"{path}/{quote(step.message_id, safe='')}", step.body)
            ids[str(step.key)] = step.message_id
        else:
            ids[str(step.key)] = _get_id(_call_api(transport, "POST", path, step.body), "messageId")
    return ProviderIds(application_id, ids)


def subscribe_to_reports(transport: Transport, *, url: str, username: str, password: str) -> str:
    """Have Infobip post SMS delivery reports to `url` with these Basic credentials.

    Return the subscription's id.

    Raises ProvisioningFailed with Infobip's error text.
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
    return _get_id(_call_api(transport, "POST", "/subscriptions/1/subscription/SMS", body), "subscriptionId")


def _find_application(
    transport: Transport, wanted: WantedConfiguration, remembered: ProviderIds | None
) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    named = [
        application
        for application in _fetch_list(transport, _APPLICATIONS)
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
    # Infobip does not document whether an update removes an omitted field, so use another template.
    return next((one for one in there if _is_same(one, body) and one.get("messageId")), None)


def _is_same(existing: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    return all(existing.get(name) == value for name, value in (_OPTIONAL | dict(body)).items())


def _build_templates_path(application_id: str) -> str:
    return f"{_APPLICATIONS}/{quote(application_id, safe='')}/messages"


def _fetch_list(transport: Transport, path: str) -> list[dict[str, Any]]:
    answer = _call_api(transport, "GET", path)
    if not isinstance(answer, list):
        raise ProvisioningFailed("Infobip's answer is not a list. Check INFOBIP_BASE_URL.")
    return [entry for entry in answer if isinstance(entry, dict)]


def _call_api(transport: Transport, method: str, path: str, body: object = None) -> Any:
    reply = transport.call(method, path, body)
    if not isinstance(reply, ProviderResponse):
        raise ProvisioningFailed(f"Infobip cannot be reached ({reply.code}). Check INFOBIP_BASE_URL.")
    if not 200 <= reply.status < 300:
        said = ": ".join(filter(None, (wire.get_error_code(reply.body), wire.get_error_text(reply.body))))
        raise ProvisioningFailed(f"Infobip refused with HTTP {reply.status}: {said or 'no reason given'}")
    return reply.body


def _get_id(thing: Any, name: str) -> str:
    value = thing.get(name) if isinstance(thing, dict) else None
    if not isinstance(value, str) or not value:
        raise ProvisioningFailed(f"Infobip's answer has no {name}")
    return value


def _has_drifted(actual: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    configuration = actual.get("configuration")
    if actual.get("enabled") is False or not isinstance(configuration, dict):
        return True
    pairs = wanted["configuration"].items()
    return any(_normalize_value(configuration.get(name)) != _normalize_value(value) for name, value in pairs)


def parse_provider_duration(text: object) -> timedelta | None:
    """Return a duration in Infobip's format, such as `5m`, or None for anything else."""
    try:
        return parse_duration(str(text), units=_DURATION_UNITS, number_required=False)
    except InvalidDuration:
        return None


def _normalize_value(value: Any) -> Any:
    # "5m" and "300s" are the same duration, "20/1s" and "20/s" the same limit.
    if not isinstance(value, str):
        return value
    count, _, duration = value.rpartition("/")
    try:
        return count, parse_duration(duration, units=_DURATION_UNITS, number_required=False)
    except InvalidDuration:
        return value


def _format_duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60}m" if whole % 60 == 0 else f"{whole}s"
