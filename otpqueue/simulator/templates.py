"""Message templates: fields (Infobip OpenAPI 3.210.0), PIN generation and text."""

import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from otpqueue.simulator.errors import make_field_error
from otpqueue.simulator.inbox import Channel
from otpqueue.simulator.wire import RequestBody, parse_address, parse_model

PIN_PLACEHOLDER = "{{pin}}"

PinType = Literal["NUMERIC", "ALPHA", "HEX", "ALPHANUMERIC"]

# fmt: off
Language = Literal[
    "en", "es", "ca", "da", "nl", "fr", "de", "it", "ja", "ko", "no", "pl", "ru", "sv", "fi", "hr", "sl",
    "ro", "pt_pt", "pt_br", "zh_cn", "zh_tw",
]
# fmt: on

# Capital letters are INFERRED.
_ALPHABETS: Mapping[PinType, str] = {
    "NUMERIC": string.digits,
    "ALPHA": string.ascii_uppercase,
    "HEX": string.digits + "ABCDEF",
    "ALPHANUMERIC": string.ascii_uppercase + string.digits,
}

_PLACEHOLDER = re.compile(r"\{\{([^{}]+)\}\}")
_NAMED_ADDRESS = re.compile(r"[^<>]*<([^<>]+)>")

PinLength = Annotated[int, Field(ge=1, le=8)]


def _with_pin(text: str) -> str:
    if PIN_PLACEHOLDER not in text:
        raise ValueError(f"must contain {PIN_PLACEHOLDER}")
    return text


def named_address(text: str) -> str:
    """Return `text` if it is an address, bare or as `Name <address>`, else raise ValueError."""
    named = _NAMED_ADDRESS.fullmatch(text)
    if parse_address(named[1] if named else text) is None:
        raise ValueError("must be an e-mail address, or 'Name <address>'")
    return text


class IndiaDltBody(RequestBody):
    """Ids of India's DLT registration."""

    principal_entity_id: Annotated[str, Field(max_length=30)]
    content_template_id: Annotated[str, Field(max_length=30)] | None = None
    tele_marketer_id: Annotated[str, Field(max_length=255)] | None = None


class Regional(RequestBody):
    """Regional requirements; the 2FA API supports only India's."""

    india_dlt: IndiaDltBody | None = None


class TemplateBody(RequestBody):
    """The body of an SMS and voice template; the range of `pinLength` is from the 2015 API pages."""

    message_text: Annotated[str, AfterValidator(_with_pin)]
    pin_type: PinType
    pin_length: PinLength | None = None
    language: Language | None = None
    sender_id: str | None = None
    repeat_dtmf: Annotated[str | None, Field(alias="repeatDTMF")] = None
    speech_rate: Annotated[float, Field(ge=0.5, le=2)] | None = None
    voice_name: str | None = None
    regional: Regional | None = None

    @property
    def sender(self) -> str | None:
        """The sender, unless a send sets another."""
        return self.sender_id

    def text(self, values: Mapping[str, str], *, keep_missing: bool) -> str:
        """Return the text with the placeholders replaced by `values`, which are not rendered again.

        A placeholder without a value stays as written when `keep_missing`, else raises `ApiError` 400.
        """

        def value(match: re.Match[str]) -> str:
            name = match[1]
            if name in values:
                return values[name]
            if keep_missing:
                return match[0]
            raise make_field_error(f"placeholders.{name}", "must not be null")

        return _PLACEHOLDER.sub(value, self.message_text)


class EmailTemplateBody(RequestBody):
    """The body of an e-mail template: a reference to a template in Infobip's portal."""

    email_template_id: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    sender: Annotated[Annotated[str, AfterValidator(named_address)] | None, Field(alias="from")] = None
    landing_page_id: str | None = None
    pin_length: PinLength = 4
    pin_type: PinType = "NUMERIC"

    def text(self, values: Mapping[str, str], *, keep_missing: bool) -> str:  # noqa: ARG002 - nothing is missing
        """Return the template's id and all values in place of the text, which only the portal stores."""
        shown = ", ".join(f"{name}: {value}" for name, value in values.items())
        return f"[e-mail template {self.email_template_id}] {shown}"


@dataclass(frozen=True, slots=True)
class Template:
    """A message template; `pin_length` is set even if the body omits it."""

    id: str
    application_id: str
    body: TemplateBody | EmailTemplateBody
    pin_length: int

    def serves(self, channel: Channel) -> bool:
        """Return whether it can be sent over a channel: e-mail has its own templates."""
        return isinstance(self.body, EmailTemplateBody) == (channel == "EMAIL")

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
        if isinstance(self.body, EmailTemplateBody):
            return self.summary()
        return {**self.summary(), "pinPlaceholder": PIN_PLACEHOLDER}

    def new_pin(self) -> str:
        """Return a fresh PIN of this template's type and length."""
        alphabet = _ALPHABETS[self.body.pin_type]
        # One draw for all characters: a system call for each would dominate the cost of a send.
        drawn = secrets.randbelow(len(alphabet) ** self.pin_length)
        characters = []
        for _ in range(self.pin_length):
            drawn, index = divmod(drawn, len(alphabet))
            characters.append(alphabet[index])
        return "".join(characters)

    def render(self, pin: str, placeholders: Mapping[str, str], *, keep_missing: bool) -> str:
        """Return the text of a message; raises `ApiError` 400 on a missing value unless `keep_missing`."""
        return self.body.text({**placeholders, "pin": pin}, keep_missing=keep_missing)


def merge_template(
    old: TemplateBody | EmailTemplateBody, changes: Mapping[str, Any]
) -> TemplateBody | EmailTemplateBody:
    """Return `old` with the fields of an update's JSON body; raises `ApiError` 400 on a bad value."""
    return parse_model(type(old), {**old.model_dump(by_alias=True, exclude_none=True), **changes})
