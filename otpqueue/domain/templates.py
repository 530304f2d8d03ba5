"""Which message a person gets: the language, the sender, and what a country asks for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

FALLBACK_LANGUAGE = "en"

NUMBER_ONLY = frozenset({"US", "CA", "PR", "CN", "MX", "BR", "AR", "CO", "KR", "NZ", "ZA"})
"""Countries whose networks refuse or replace alphanumeric sender ids (operators' published sender rules)."""

_ALPHANUMERIC = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")
_NUMERIC = re.compile(r"\+?[0-9]{3,15}")


@dataclass(frozen=True, kw_only=True)
class IndiaDlt:
    """India's DLT registration: who sends, and the registered text."""

    principal_entity_id: str
    content_template_id: str | None


@dataclass(frozen=True, kw_only=True)
class TemplateKey:
    """What tells one message template from another."""

    language: str
    india: bool = False

    def __str__(self) -> str:
        return f"{self.language}@IN" if self.india else self.language


@dataclass(frozen=True)
class ProviderIds:
    """What sends name at the provider: the 2FA application, and the message template of each key."""

    application_id: str
    message_ids: Mapping[str, str]

    def message_id(self, *, language: str | None, country: str | None) -> str:
        """Return the provider's id of the template for a person.

        Raises KeyError when not even the fallback was provisioned.
        """
        return self.message_ids[self.template(language=language, country=country)]

    def template(self, *, language: str | None, country: str | None) -> str:
        """Return the key of the template for a person: their language or `en`, in India the registered one.

        Raises KeyError when not even the fallback was provisioned.
        """
        wanted = (language or FALLBACK_LANGUAGE).lower().replace("_", "-")
        tongues = (wanted, wanted.partition("-")[0], FALLBACK_LANGUAGE)
        # A text that is not registered does not arrive in India, in whichever language.
        for india in (True, False) if country == "IN" else (False,):
            for key in (str(TemplateKey(language=tongue, india=india)) for tongue in tongues):
                if key in self.message_ids:
                    return key
        raise KeyError(FALLBACK_LANGUAGE)


@dataclass(frozen=True)
class Senders:
    """Sender ids by country (ISO 3166 alpha-2), `*` for all others."""

    by_country: Mapping[str, str]

    @property
    def everywhere(self) -> str | None:
        """The common sender, if every country takes it: a template's own sender is used in all of them."""
        common = self.by_country.get("*")
        return common if common and _NUMERIC.fullmatch(common) else None

    def sender(self, country: str | None) -> str | None:
        """Return whom the message comes from, None to leave it to the provider.

        The common sender is not used where only numbers are allowed and it is none.
        """
        own = self.by_country.get(country or "")
        if own:
            return own
        common = self.by_country.get("*")
        if common and country in NUMBER_ONLY and not _NUMERIC.fullmatch(common):
            return None
        return common


def sender_problem(country: str, sender: str) -> str | None:
    """Return what is wrong with a sender id for a country (`*`: any), None if nothing is."""
    if _NUMERIC.fullmatch(sender):
        return None
    if not _ALPHANUMERIC.fullmatch(sender):
        return f"{sender!r} must be at most 11 letters and digits, or a number of 3 to 15 digits"
    if country in NUMBER_ONLY:
        return f"{sender!r} must be a number: {country} does not take alphanumeric senders"
    return None


_WEB_OTP = re.compile(
    r"@(?P<domain>[a-z0-9](?:[a-z0-9-]*\.)*[a-z0-9-]*[a-z0-9]) #\{\{pin\}\}(?: @[a-z0-9.-]+)?"
)


def web_otp_problem(text: str, *, domain: str | None = None) -> str | None:
    """Return why browsers do not take the code from a text by themselves, None if they do, or need not.

    They look for a last line like `@shop.example #{{pin}}` (WICG, "Origin-bound one-time codes delivered via
    SMS"). A text that has nothing of the kind is asked for it only if a `domain` is given.
    """
    last = re.split(r"\r\n|\r|\n", text)[-1]
    if domain is None and not re.search(r"#\{\{pin\}\}|^@", text, re.MULTILINE):
        return None
    found = _WEB_OTP.fullmatch(last)
    if found is None:
        wanted = f"@{domain or 'shop.example'} #{{{{pin}}}}"
        return f"its last line is not `{wanted}`, with nothing before or behind it"
    if domain is not None and found["domain"] != domain:
        return f"its last line names {found['domain']}, not {domain}"
    return None
