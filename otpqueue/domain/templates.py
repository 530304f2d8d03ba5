"""Message templates: language, sender id and country requirements."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

FALLBACK_LANGUAGE = "en"

NUMBER_ONLY = frozenset({"US", "CA", "PR", "CN", "MX", "BR", "AR", "CO", "KR", "NZ", "ZA"})
"""Countries where networks reject or replace alphanumeric sender ids (operators' published sender rules)."""

_ALPHANUMERIC = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 ]{1,11}")
_NUMERIC = re.compile(r"\+?[0-9]{3,15}")


@dataclass(frozen=True, kw_only=True)
class IndiaDlt:
    """India's DLT registration: the sending entity and the registered text."""

    principal_entity_id: str
    content_template_id: str | None


@dataclass(frozen=True, kw_only=True)
class TemplateKey:
    """The key of a message template."""

    language: str
    india: bool = False

    def __str__(self) -> str:
        return f"{self.language}@IN" if self.india else self.language


@dataclass(frozen=True)
class ProviderIds:
    """The ids of the 2FA application and of its message templates at the provider."""

    application_id: str
    message_ids: Mapping[str, str]

    def get_message_id(self, *, language: str | None, country: str | None) -> str:
        """Return the provider's template id for a language and country.

        Raises KeyError if not even the fallback is provisioned.
        """
        return self.message_ids[self.select_template(language=language, country=country)]

    def select_template(self, *, language: str | None, country: str | None) -> str:
        """Return the template key for a language and country.

        The key is the language, or `en` as the fallback. India uses the registered template. Raises KeyError
        if not even the fallback is provisioned.
        """
        wanted = (language or FALLBACK_LANGUAGE).lower().replace("_", "-")
        tongues = (wanted, wanted.partition("-")[0], FALLBACK_LANGUAGE)
        # Networks in India drop unregistered texts in every language.
        for india in (True, False) if country == "IN" else (False,):
            for key in (str(TemplateKey(language=tongue, india=india)) for tongue in tongues):
                if key in self.message_ids:
                    return key
        raise KeyError(FALLBACK_LANGUAGE)


@dataclass(frozen=True)
class Senders:
    """Sender ids by country (ISO 3166 alpha-2), `*` for every other country."""

    by_country: Mapping[str, str]

    @property
    def global_sender(self) -> str | None:
        """The default sender, if every country accepts it.

        A template's own sender is used in every country.
        """
        common = self.by_country.get("*")
        return common if common and _NUMERIC.fullmatch(common) else None

    def select_sender(self, country: str | None) -> str | None:
        """Return the sender id for a country, or None if the provider should choose.

        The default sender is not used if it is alphanumeric and the country accepts only numbers.
        """
        own = self.by_country.get(country or "")
        if own:
            return own
        common = self.by_country.get("*")
        if common and country in NUMBER_ONLY and not _NUMERIC.fullmatch(common):
            return None
        return common


def find_sender_problem(country: str, sender: str) -> str | None:
    """Return why a sender id is not valid for a country (`*`: any), or None if it is."""
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


def find_web_otp_problem(text: str, *, domain: str | None = None) -> str | None:
    """Return why browsers do not fill in the code of a text automatically, or None if they do.

    They require a last line like `@shop.example #{{pin}}` (WICG, "Origin-bound one-time codes delivered via
    SMS"). A text without such a line is accepted unless a `domain` is given.
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
