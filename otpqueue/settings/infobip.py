"""Settings of the Infobip account, its 2FA application, message templates and delivery reports."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from otpqueue.settings.fields import (
    API,
    API_AND_WORKERS,
    BEAT,
    PROVISION,
    WORKERS,
    FromJson,
    Optional,
    Seconds,
    Secret,
    SettingsSubject,
    Text,
    TypeName,
    constant,
    is_one_word,
    match_form,
    setting,
)

GUIDE_TEMPLATE = "Your verification code is {{pin}}. It is valid for 5 minutes. Do not share it with anyone."

_ESCAPED = "has a backslash and an n where a line break was meant (docs/settings.md says how to write one)"

ProviderLimit = Annotated[
    str,
    match_form(r"[0-9]{1,9}/[0-9]{0,6}(ms|s|m|h|d)", "like `100/1d` (units ms, s, m, h, d)"),
    TypeName("limit"),
]
BaseUrl = Annotated[
    str | None,
    Optional,
    match_form(
        r"(https://[A-Za-z0-9.-]+|http://(127\.0\.0\.1|localhost|\[::1\]|simulator))(:[0-9]{1,5})?(/[\w.~/-]*)?",
        "an address like `https://xxxxx.api.infobip.com`: with https:// (http:// only for a simulator on "
        "this machine), without a user, and with nothing behind a ? or #",
        url=True,
    ),
    TypeName("URL"),
]


class InfobipSettings(SettingsSubject):
    """How otpqueue uses the Infobip API."""

    TITLE: ClassVar[str] = "Infobip"
    USED_BY: ClassVar[str] = PROVISION

    infobip_api_key: Secret = setting(
        None,
        "INFOBIP_API_KEY",
        "API key of the Infobip account",
        used_by="API, workers, `provision`",
        example="",
    )
    infobip_base_url: BaseUrl = setting(
        None,
        "INFOBIP_BASE_URL",
        "base URL, `https://xxxxx.api.infobip.com`; plain HTTP only for a local simulator",
        used_by="API, workers, `provision`",
        example="https://xxxxx.api.infobip.com",
    )
    infobip_application_id: Text = setting(
        None,
        "INFOBIP_APPLICATION_ID",
        "id of the 2FA application; overrides the provisioned one",
        used_by=API_AND_WORKERS,
    )
    infobip_message_id: Text = setting(
        None,
        "INFOBIP_MESSAGE_ID",
        "id of the message template; overrides the provisioned one",
        used_by=API_AND_WORKERS,
    )
    infobip_app_name: str = setting(
        "otpqueue",
        "INFOBIP_APP_NAME",
        "name of the 2FA application that `otpqueue provision` finds or creates",
        min_length=1,
    )
    infobip_sender_id: Text = setting(
        None, "INFOBIP_SENDER_ID", "default sender", used_by="workers, `provision`", max_length=16
    )
    infobip_message_template: str = setting(
        GUIDE_TEMPLATE, "INFOBIP_MESSAGE_TEMPLATE", "English text; must contain `{{pin}}`"
    )
    templates: Annotated[dict[str, str], FromJson] = setting(
        {},
        "OTPQUEUE_TEMPLATES",
        'texts in other languages: `{"de": "Ihr Code ist {{pin}}.", "pt-br": "..."}`',
    )
    senders: Annotated[dict[str, str], FromJson] = setting(
        {}, "OTPQUEUE_SENDERS", 'senders by country: `{"US": "18335550100", "IN": "MYBRND"}`', used_by=WORKERS
    )
    india_principal_entity_id: Text = setting(
        None,
        "INDIA_DLT_PRINCIPAL_ENTITY_ID",
        "DLT registration of the sender, for Indian numbers",
        max_length=30,
    )
    india_content_template_id: Text = setting(
        None,
        "INDIA_DLT_CONTENT_TEMPLATE_ID",
        "DLT registration of the text, for Indian numbers",
        max_length=30,
    )
    provider_pin_attempts: int = constant(
        10,
        "OTPQUEUE_TUNING_PROVIDER_PIN_ATTEMPTS",
        "checks per code at Infobip; at least `OTPQUEUE_MAX_CHECKS`",
        ge=1,
        le=10,
    )
    provider_verify_limit: ProviderLimit = constant(
        "20/1s", "OTPQUEUE_TUNING_PROVIDER_VERIFY_LIMIT", "checks per number at Infobip, `count/duration`"
    )
    provider_sends_per_number: ProviderLimit = setting(
        "100/1d", "OTPQUEUE_PROVIDER_SENDS_PER_NUMBER", "codes per number at Infobip, `count/duration`"
    )
    provider_sends: ProviderLimit = setting(
        "10000000/1d", "OTPQUEUE_PROVIDER_SENDS", "codes in total at Infobip, `count/duration`"
    )
    connect_timeout_s: Seconds = constant(
        3, "OTPQUEUE_TUNING_PROVIDER_CONNECT_TIMEOUT_S", "connect timeout to Infobip"
    )
    provider_timeout_s: Seconds = constant(
        15, "OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S", "total timeout of a call to Infobip"
    )
    track_delivery: bool = setting(
        True, "OTPQUEUE_TRACK_DELIVERY", "request delivery reports", used_by=WORKERS
    )
    receipts_user: Text = setting(
        None,
        "OTPQUEUE_RECEIPTS_USER",
        "Basic user of `POST /v1/infobip/receipts`, which is closed unless set",
        used_by=f"{API}, {PROVISION}",
    )
    receipts_password: Secret = setting(
        None, "OTPQUEUE_RECEIPTS_PASSWORD", "Basic password of the same", used_by=f"{API}, {PROVISION}"
    )
    poll_receipts_every_s: Annotated[Seconds | None, Optional] = setting(
        None,
        "OTPQUEUE_POLL_RECEIPTS_EVERY_S",
        "poll interval for delivery reports, where Infobip cannot reach the API; off unless set",
        used_by=BEAT,
    )

    def find_problems(self) -> list[str]:
        """Return a line for each combination of values that cannot work."""
        problems = super().find_problems()
        if bool(self.infobip_application_id) != bool(self.infobip_message_id):
            problems.append("INFOBIP_APPLICATION_ID and INFOBIP_MESSAGE_ID must be given together")
        if not is_one_word(self.infobip_api_key):
            # Anything else cannot be sent in a header, and the HTTP client's error would contain the key.
            problems.append("INFOBIP_API_KEY must be printable ASCII without spaces")
        if bool(self.receipts_user) != bool(self.receipts_password):
            problems.append("OTPQUEUE_RECEIPTS_USER and OTPQUEUE_RECEIPTS_PASSWORD must be given together")
        if self.india_content_template_id and not self.india_principal_entity_id:
            problems.append("INDIA_DLT_CONTENT_TEMPLATE_ID needs INDIA_DLT_PRINCIPAL_ENTITY_ID")
        return [*problems, *self._find_sender_problems(), *self._find_text_problems()]

    def _find_sender_problems(self) -> list[str]:
        problems = []
        for country, sender in self.senders.items():
            if not re.fullmatch(r"[A-Z]{2}", country):
                problems.append(f"OTPQUEUE_SENDERS: {country!r} must be a country like `US`")
            if not re.fullmatch(r"[A-Za-z0-9 +]{3,16}", sender):
                problems.append(
                    f"OTPQUEUE_SENDERS: {sender!r} must be a number or at most 11 letters and digits"
                )
        return problems

    def _find_text_problems(self) -> list[str]:
        problems = []
        if "{{pin}}" not in self.infobip_message_template:
            problems.append("INFOBIP_MESSAGE_TEMPLATE must contain {{pin}}")
        if _has_escape(self.infobip_message_template):
            problems.append(f"INFOBIP_MESSAGE_TEMPLATE {_ESCAPED}")
        for language, text in self.templates.items():
            if not re.fullmatch(r"[a-z]{2,3}(-[a-z]{2,4})?", language):
                problems.append(f"OTPQUEUE_TEMPLATES: {language!r} must be a language like `de` or `pt-br`")
            if "{{pin}}" not in text:
                problems.append(f"OTPQUEUE_TEMPLATES: the text for {language!r} must contain {{{{pin}}}}")
            if _has_escape(text):
                problems.append(f"OTPQUEUE_TEMPLATES: the text for {language!r} {_ESCAPED}")
        return problems


def _has_escape(text: str) -> bool:
    return "\\n" in text or "\\r" in text
