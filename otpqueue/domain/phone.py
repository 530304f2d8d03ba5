"""Phone numbers: E.164 form, country and line type. They print masked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberType

from otpqueue.domain.errors import InvalidPhoneNumber, NumberNotAllowed
from otpqueue.domain.typed import LONGEST, describe_character, normalize_to_ascii

WORLD = "001"
"""The region of numbers without a country (UN M49, as in libphonenumber)."""

NO_COUNTRY = "ZZ"
"""Means "no country" in the guard and the statistics. ISO 3166 reserves it for private use."""

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_TYPED = re.compile(r"[+0-9 ().\-/]{2,32}")
_NEVER_IN_ONE = re.compile(r"[^+0-9 ().\-/]")
_BRACKETS = str.maketrans("[]", "()")
# RFC 3966. A local number has a phone-context with its country code.
_TEL = re.compile(
    r"(?i:tel:)/{0,2}(?P<number>.*?)(?:;phone-context=(?P<context>\+[0-9().\-]{1,20}))?", re.DOTALL
)

_KINDS = {
    PhoneNumberType.FIXED_LINE: "fixed_line",
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "fixed_line_or_mobile",
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.PREMIUM_RATE: "premium_rate",
    PhoneNumberType.SHARED_COST: "shared_cost",
    PhoneNumberType.VOIP: "voip",
    PhoneNumberType.PERSONAL_NUMBER: "personal_number",
    PhoneNumberType.PAGER: "pager",
    PhoneNumberType.UAN: "uan",
    PhoneNumberType.VOICEMAIL: "voicemail",
}
_ARGENTINE_MOBILE = len("+5491112345678")
KINDS = frozenset({*_KINDS.values(), "documentation", "unknown"})
COUNTRIES = frozenset({*phonenumbers.SUPPORTED_REGIONS, WORLD})

_MAY_HOLD = "may contain only the digits 0-9, a leading + and the marks ( ) . - / and space"

_DOCUMENTATION_NUMBERS = (
    # Ofcom, "Telephone numbers for use in TV and radio drama programmes".
    ("GB", r"\+447700900\d{3}"),
    ("GB", r"\+44(?:11[3-8]|121|131|141|151|161)4960\d{3}"),
    ("GB", r"\+44(?:1914980|2079460|2896496|2920180|1632960|3069990|8081570|9098790)\d{3}"),
    # NANPA: 555-0100 to 555-0199 in every area code.
    ("US", r"\+1[2-9]\d{2}55501\d{2}"),
    # ARCEP decision 2018-0881, numbers for audiovisual works.
    ("FR", r"\+33(?:19900|26191|35301|46571|53649|63998)\d{4}"),
    # ACMA, "Phone numbers for use in TV shows, films and creative works".
    ("AU", r"\+61[2378](?:5550|7010)\d{4}"),
    ("AU", r"\+61491570(?:006|156|157|158|159|110)"),
    # ComReg, numbering conditions: 020 91X XXXX.
    ("IE", r"\+3532091\d{5}"),
)
_DOCUMENTATION_NUMBER = re.compile(
    "|".join(
        f"(?P<{country}{nth}>{pattern})" for nth, (country, pattern) in enumerate(_DOCUMENTATION_NUMBERS)
    )
)


@dataclass(frozen=True, slots=True)
class PhoneNumber:
    """A number that codes can be sent to. `str()` and `repr()` are masked; `e164` is the full number."""

    e164: str = field(repr=False)
    country: str | None
    """ISO 3166 alpha-2, or None for a number without a country."""
    kind: str

    @property
    def digits(self) -> str:
        """The number without its plus sign, as Infobip expects it."""
        return self.e164.removeprefix("+")

    @property
    def masked(self) -> str:
        """The country code and the last two digits, e.g. `+44********56`."""
        return mask_number(self.e164)

    def __str__(self) -> str:
        return self.masked


def mask_number(e164: str) -> str:
    """Return the number with everything masked but its country code and its last two digits."""
    code = _find_country_code(e164) or ""
    return f"+{code}{'*' * (len(e164) - len(code) - 3)}{e164[-2:]}"


def normalize_mobile(e164: str) -> str:
    """Return one form for all valid forms of the same mobile number.

    Only Argentina has two: +54 9 before an area code reaches the same mobile as +54.
    """
    return f"+54{e164[4:]}" if e164.startswith("+549") and len(e164) == _ARGENTINE_MOBILE else e164


def find_country(e164: str) -> str | None:
    """Return the country of a number, or None if it has no country or is not valid today."""
    try:
        region = phonenumbers.region_code_for_number(_parse_text(e164, None))
    except InvalidPhoneNumber:
        return None
    return find_documentation_country(e164) or (region if region != WORLD else None)


def find_documentation_country(e164: str) -> str | None:
    """Return the country that reserves this number for documentation or drama, or None."""
    found = _DOCUMENTATION_NUMBER.fullmatch(e164)
    return found.lastgroup[:2] if found and found.lastgroup else None


def parse_number(text: str, *, country: str | None = None, allow_documentation: bool = False) -> PhoneNumber:
    """Parse a number in E.164, or in national form if `country` (ISO 3166 alpha-2) is given.

    Raises InvalidPhoneNumber for text that is not a number, and NumberNotAllowed for a documentation number.
    `NumberPolicy` decides whether codes are sent to the number.
    """
    number = _parse_text(text, country)
    e164 = _format_e164(number)
    set_aside_in = find_documentation_country(e164)
    if set_aside_in:
        if not allow_documentation:
            raise NumberNotAllowed(
                "documentation_number",
                "This number is reserved for documentation. "
                "Use a real number, or set OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS if nothing real is sent.",
                e164=e164,
            )
        return PhoneNumber(e164, set_aside_in, "documentation")
    kind = phonenumbers.number_type(number)
    # The same check as `is_valid_number`, which costs half of `parse`.
    if kind == PhoneNumberType.UNKNOWN:
        raise InvalidPhoneNumber(_explain_invalid(number))
    region = phonenumbers.region_code_for_number(number)
    return PhoneNumber(e164, region if region != WORLD else None, _KINDS.get(kind, "unknown"))


def list_stored_forms(text: str, *, country: str | None = None) -> tuple[str, ...]:
    """Return the E.164 forms under which a number may be stored: as parsed today, and as written.

    Numbering plans change, and with them lengths, country codes and national prefixes. A number that was
    stored under earlier rules must still be found. Raises InvalidPhoneNumber for text that is neither 7 to 15
    digits after a plus sign nor a valid number today.
    """
    _check_country(country)
    written = _strip_punctuation(text)
    try:
        number = _parse_text(text, country)
    except InvalidPhoneNumber:
        if written is None:
            raise
        return (written,)
    read = _format_e164(number)
    if written is None:
        if not phonenumbers.is_possible_number(number) and not find_documentation_country(read):
            raise InvalidPhoneNumber(_explain_invalid(number))
        return (read,)
    return tuple(dict.fromkeys((read, written)))


def _strip_punctuation(text: str) -> str | None:
    plain = re.sub(r"[ ().\-/]", "", _normalize_text(text))
    return plain if _E164.fullmatch(plain) else None


def _check_country(country: str | None) -> None:
    if country is not None and country not in phonenumbers.SUPPORTED_REGIONS:
        raise InvalidPhoneNumber("is not a country with phone numbers (ISO 3166 alpha-2)", field="country")


def _parse_text(text: str, country: str | None) -> phonenumbers.PhoneNumber:
    _check_country(country)
    plain = _parse_e164(text)
    if plain is not None:
        return plain
    try:
        return phonenumbers.parse(_normalize_text(text), country)
    except NumberParseException as error:
        raise InvalidPhoneNumber(_explain_parse_error(error, country)) from None


def _parse_e164(text: str) -> phonenumbers.PhoneNumber | None:
    """Return what libphonenumber parses from E.164, at a quarter of the cost, or None for other text.

    Returns None, so that libphonenumber decides, for a national number that starts with a national prefix,
    and for one that starts with a zero.
    """
    if not _E164.fullmatch(text):
        return None
    code = _find_country_code(text)
    if code is None:
        return None
    national, country_code = text[len(code) + 1 :], int(code)
    prefix = _compile_national_prefix(country_code)
    if len(national) < 2 or national[0] == "0" or (prefix and prefix.match(national)):
        return None
    return phonenumbers.PhoneNumber(country_code=country_code, national_number=int(national))


@cache
def _compile_national_prefix(country_code: int) -> re.Pattern[str] | None:
    region = phonenumbers.region_code_for_country_code(country_code)
    metadata = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(country_code, region)
    if metadata is None or not metadata.national_prefix_for_parsing:
        return None
    # Some of these expressions also match the empty string, which is not a prefix.
    return re.compile(f"(?:{metadata.national_prefix_for_parsing})(?<=.)")


def _find_country_code(e164: str) -> str | None:
    # No country code is a prefix of another one.
    for length in (1, 2, 3):
        if int(e164[1 : 1 + length] or 0) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            return e164[1 : 1 + length]
    return None


def _normalize_text(text: str) -> str:
    """Return typed or pasted text with only ASCII digits and punctuation. Raises InvalidPhoneNumber."""
    if len(text) > LONGEST:
        raise InvalidPhoneNumber(f"is too long; it {_MAY_HOLD}")
    typed = normalize_to_ascii(text).translate(_BRACKETS)
    if link := _TEL.fullmatch(typed):
        number, context = link["number"].strip(), link["context"] or ""
        typed = number if number.startswith("+") else context + number
    if not _TYPED.fullmatch(typed):
        invalid = _NEVER_IN_ONE.search(typed)
        holds = f"must not contain {describe_character(invalid[0])}: it {_MAY_HOLD}" if invalid else _MAY_HOLD
        raise InvalidPhoneNumber(holds)
    return typed


def _format_e164(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _explain_parse_error(error: NumberParseException, country: str | None) -> str:
    if error.error_type == NumberParseException.INVALID_COUNTRY_CODE:
        if country is None:
            return "must start with + and a valid country code, or be a national number with `country` set"
        return "has an unknown country code"
    if error.error_type == NumberParseException.TOO_LONG:
        return "is too long to be a phone number"
    return "is too short to be a phone number"


def _explain_invalid(number: phonenumbers.PhoneNumber) -> str:
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible == phonenumbers.ValidationResult.TOO_SHORT:
        return "is too short for its country"
    if possible == phonenumbers.ValidationResult.TOO_LONG:
        return "is too long for its country"
    return "is not a number that its country has assigned"
