"""Message templates: their fields (Infobip OpenAPI 3.210.0), the PIN they ask for, the text they give."""

import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from otpqueue.simulator.errors import invalid
from otpqueue.simulator.wire import Body, parse

PIN_PLACEHOLDER = "{{pin}}"

PinType = Literal["NUMERIC", "ALPHA", "HEX", "ALPHANUMERIC"]

# fmt: off
Language = Literal[
    "en", "es", "ca", "da", "nl", "fr", "de", "it", "ja", "ko", "no", "pl", "ru", "sv", "fi", "hr", "sl",
    "ro", "pt_pt", "pt_br", "zh_cn", "zh_tw",
]
# fmt: on

# That letters are capitals is INFERRED.
_ALPHABETS: Mapping[PinType, str] = {
    "NUMERIC": string.digits,
    "ALPHA": string.ascii_uppercase,
    "HEX": string.digits + "ABCDEF",
    "ALPHANUMERIC": string.ascii_uppercase + string.digits,
}

_PLACEHOLDER = re.compile(r"\{\{([^{}]+)\}\}")


def _with_pin(text: str) -> str:
    if PIN_PLACEHOLDER not in text:
        raise ValueError(f"must contain {PIN_PLACEHOLDER}")
    return text


class IndiaDlt(Body):
    """What India's DLT registration asks of a message."""

    principal_entity_id: Annotated[str, Field(max_length=30)]
    content_template_id: Annotated[str, Field(max_length=30)] | None = None
    tele_marketer_id: Annotated[str, Field(max_length=255)] | None = None


class Regional(Body):
    """Regional requirements; the 2FA API knows only India's."""

    india_dlt: IndiaDlt | None = None


class TemplateBody(Body):
    """What a caller sets; the range of `pinLength` is from the 2015 API pages."""

    message_text: Annotated[str, AfterValidator(_with_pin)]
    pin_type: PinType
    pin_length: Annotated[int, Field(ge=1, le=8)] | None = None
    language: Language | None = None
    sender_id: str | None = None
    repeat_dtmf: Annotated[str | None, Field(alias="repeatDTMF")] = None
    speech_rate: Annotated[float, Field(ge=0.5, le=2)] | None = None
    voice_name: str | None = None
    regional: Regional | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """A message template; `pin_length` is resolved, whatever the body left open."""

    id: str
    application_id: str
    body: TemplateBody
    pin_length: int

    def summary(self) -> dict[str, Any]:
        """Return the template as list and get show it: unset fields and `pinPlaceholder` left out."""
        return {
            "messageId": self.id,
            "applicationId": self.application_id,
            **self.body.model_dump(by_alias=True, exclude_none=True),
            "pinLength": self.pin_length,
        }

    def reply(self) -> dict[str, Any]:
        """Return the template as create and update answer it."""
        return {**self.summary(), "pinPlaceholder": PIN_PLACEHOLDER}

    def new_pin(self) -> str:
        """Return a fresh PIN of this template's type and length."""
        alphabet = _ALPHABETS[self.body.pin_type]
        return "".join(secrets.choice(alphabet) for _ in range(self.pin_length))

    def render(self, pin: str, placeholders: Mapping[str, str], *, keep_missing: bool) -> str:
        """Return the text of a message; values are put in as they are, never rendered again.

        A placeholder without a value stays as written when `keep_missing`, else raises `ApiError` 400.
        """
        values = {**placeholders, "pin": pin}

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name in values:
                return values[name]
            if keep_missing:
                return match[0]
            raise invalid(f"placeholders.{name}", "must not be null")

        return _PLACEHOLDER.sub(value, self.body.message_text)


def merged(old: TemplateBody, changes: Mapping[str, Any]) -> TemplateBody:
    """Return `old` with the fields of an update's JSON body; raises `ApiError` 400 on a bad value."""
    return parse(TemplateBody, {**old.model_dump(by_alias=True, exclude_none=True), **changes})
