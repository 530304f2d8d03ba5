"""Phone numbers: parsing, rejection with a reason, and masking."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otpqueue.domain import phone
from otpqueue.domain.errors import InvalidPhoneNumber, NumberNotAllowed
from otpqueue.domain.phone import PhoneNumber

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)


@pytest.mark.parametrize(
    "text",
    [
        "+447400123456",
        "+44 7400 123456",
        "+44 (0)7400 123456",
        "(+44) 7400-123.456",
        "+44-7400/123456",
        " +447400123456\n",
        "\u2003+447400123456\u2003",
        # As contacts on a phone, web pages and word processors hand them over.
        "\u202a+44 7400 123456\u202c",
        "\u200e+447400123456\ufeff",
        "+44\u00a07400\u202f123456",
        "+44\u20117400\u2013123456",
        "+44\u22127400\u30fc123456",
        "+4474\u00ad00\u200b12\u206034\u200d56",
        "＋４４（０）７４００－１２３４５６",  # noqa: RUF001
        "+٤٤٧٤٠٠١٢٣٤٥٦",
        "+44 [0] 7400 123456",
        "tel:+447400123456",
        "TEL:+44-7400-123456",
        "Tel: +44 7400 123456",
        "tel://+447400123456",
        "tel:7400-123456;phone-context=+44",
        "tel:(0)7400-123456;phone-context=+44",
        "tel:+447400123456;phone-context=+33",
    ],
    ids=ascii,
)
def test_international_number_is_read_with_or_without_marks(text: str) -> None:
    """A number with its country code needs no country, and the marks people type are ignored."""
    number = phone.parse_number(text)

    assert (number.e164, number.country, number.kind) == ("+447400123456", "GB", "mobile")
    assert number.digits == "447400123456"


@pytest.mark.parametrize("sample", ["\u202a+44 7400\u2011123456\u202c", "tel:7400123456;phone-context=+44"])
def test_pasted_number_is_read_as_libphonenumber_reads_it(sample: str) -> None:
    """What is removed and replaced here is what libphonenumber itself passes over."""
    read = phonenumbers.parse(sample, None)

    assert phone.parse_number(sample).e164 == phonenumbers.format_number(
        read, phonenumbers.PhoneNumberFormat.E164
    )


@pytest.mark.parametrize(
    ("text", "country", "e164"),
    [
        ("\u202a07400\u00a0123456\u202c", "GB", "+447400123456"),
        ("tel:07400-123456", "GB", "+447400123456"),
        ("０７４００１２３４５６", "GB", "+447400123456"),  # noqa: RUF001 - full-width digits
        ("07400 123456", "GB", "+447400123456"),
        ("00447400123456", "GB", "+447400123456"),
        ("202-456-1111", "US", "+12024561111"),
        ("06 12 34 56 78", "FR", "+33612345678"),
        ("06 698 12345", "IT", "+390669812345"),
    ],
)
def test_national_number_is_read_with_its_country(text: str, country: str, e164: str) -> None:
    """A national number is completed from the country beside it; Italy keeps its zero."""
    assert phone.parse_number(text, country=country).e164 == e164


def test_country_code_in_the_number_wins_over_the_country_beside_it() -> None:
    """The number's own country code has priority."""
    number = phone.parse_number("+33612345678", country="GB")

    assert (number.e164, number.country) == ("+33612345678", "FR")


def test_international_number_has_no_country() -> None:
    """A number of an international network has no country."""
    number = phone.parse_number("+883510000000093")

    assert number.country is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("07911123456", "country code"),
        ("00447911123456", "country code"),
        ("+4474", "too short"),
        ("+4479111234567890", "too long"),
        ("+447911123456789012345678", "too long"),
        ("+99912345678", "country code"),
        ("+1202456111", "too short"),
        ("+12001234567", "not a number that its country has assigned"),
        ("+0", "too short"),
        ("++44", "too short"),
        ("44+7911123456", "too short"),
        ("()", "too short"),
        ("//", "too short"),
    ],
)
def test_impossible_number_is_refused_with_what_is_wrong(text: str, why: str) -> None:
    """An impossible number is rejected with a specific reason."""
    with pytest.raises(InvalidPhoneNumber) as caught:
        phone.parse_number(text)

    (problem,) = caught.value.errors
    assert problem.field == "phone_number"
    assert why in problem.message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ""),
        (" ", ""),
        ("+", ""),
        ("\u202a\u202c", ""),
        ("1" * 100, ""),
        ("+" + "4" * 10_000, ""),
        ("\0", "U+0000"),
        ("+44\x007911123456", "U+0000"),
        ("+447911123456\0", "U+0000"),
        ("+44\n7911123456", "U+000A"),
        ("+44\u20287911123456", "U+2028 LINE SEPARATOR"),
        ("+447911123456 ext 5", "U+0065 LATIN SMALL LETTER E"),
        ("+447911123456;ext=5", "U+003B SEMICOLON"),
        ("tel:+447911123456;ext=5", "U+003B SEMICOLON"),
        ("sms:+447911123456", "U+0073 LATIN SMALL LETTER S"),
        ("+447911123456x5", "U+0078 LATIN SMALL LETTER X"),
        ("+44 SMALLCAPS", "U+0053 LATIN CAPITAL LETTER S"),
        ("+447911123456²", "U+00B2 SUPERSCRIPT TWO"),
        ("+44791112345①", "U+2460 CIRCLED DIGIT ONE"),
        ("+44 7911 12345O", "U+004F LATIN CAPITAL LETTER O"),
        ("+44·7911·123456", "U+00B7 MIDDLE DOT"),
        ("+447911123456~7", "U+007E TILDE"),
        ("+447911123456,+447911123457", "U+002C COMMA"),
        ("\ud800", "U+D800"),
    ],
    ids=ascii,
)
def test_anything_but_digits_and_marks_is_refused(text: str, named: str) -> None:
    """Letters, extensions, what only looks like a digit, and endless input; the character is named."""
    for country in (None, "GB"):
        with pytest.raises(InvalidPhoneNumber, match="phone number is not valid") as caught:
            phone.parse_number(text, country=country)

        message = caught.value.errors[0].message
        assert "digits 0-9" in message
        assert ("U+" in message) == bool(named)
        assert named in message


@pytest.mark.parametrize("country", ["", "gb", "XX", "GBR", "001", "44", "ZZ", "\0"])
def test_country_that_does_not_exist_is_refused_as_such(country: str) -> None:
    """The error names the field `country`, not the number."""
    with pytest.raises(InvalidPhoneNumber) as caught:
        phone.parse_number("07911123456", country=country)

    assert [error.field for error in caught.value.errors] == ["country"]


@pytest.mark.parametrize(
    ("e164", "kind"),
    [
        ("+448001234567", "toll_free"),
        ("+18002345678", "toll_free"),
        ("+80012345678", "toll_free"),
        ("+449012345678", "premium_rate"),
        ("+33884012345", "shared_cost"),
        ("+447640123456", "pager"),
        ("+445512345678", "uan"),
        ("+97215112340000", "voicemail"),
        ("+447400123456", "mobile"),
        ("+441212345678", "fixed_line"),
        ("+12024561111", "fixed_line_or_mobile"),
        ("+445612345678", "voip"),
        ("+447012345678", "personal_number"),
    ],
)
def test_kind_of_line_is_named(e164: str, kind: str) -> None:
    """Every line is read, and its kind is said: a policy decides on it."""
    assert phone.parse_number(e164).kind == kind


DOCUMENTATION = [
    ("+447700900000", "GB"),
    ("+447700900123", "GB"),
    ("+447700900999", "GB"),
    ("+442079460000", "GB"),
    ("+448081570999", "GB"),
    ("+12025550100", "US"),
    ("+12125550199", "US"),
    ("+33639981234", "FR"),
    ("+61491570006", "AU"),
    ("+353209101234", "IE"),
]


@pytest.mark.parametrize(("e164", "country"), DOCUMENTATION)
def test_documentation_number_is_refused_unless_allowed(e164: str, country: str) -> None:
    """A documentation number is rejected, even where libphonenumber accepts it."""
    with pytest.raises(NumberNotAllowed) as caught:
        phone.parse_number(e164)

    assert caught.value.reason == "documentation_number"
    assert "OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS" in caught.value.detail


@pytest.mark.parametrize(("e164", "country"), DOCUMENTATION)
def test_documentation_number_is_read_where_allowed(e164: str, country: str) -> None:
    """Where a setting allows it, it is a number like any other, though libphonenumber calls some invalid."""
    number = phone.parse_number(e164, allow_documentation=True)

    assert (number.e164, number.country, number.kind) == (e164, country, "documentation")


def test_documentation_number_is_recognised_in_national_form() -> None:
    """National forms are compared after the country code is added."""
    assert phone.parse_number("07700 900123", country="GB", allow_documentation=True).kind == "documentation"


@pytest.mark.parametrize(
    "e164", ["+447700899999", "+447700901000", "+12025550099", "+12025550200", "+61491570007", "+447700900"]
)
def test_neighbour_of_a_documentation_range_is_outside(e164: str) -> None:
    """The ranges end where their authorities say."""
    assert phone.find_documentation_country(e164) is None


@pytest.mark.parametrize(
    ("mobile", "other"),
    [("+5491123456789", "+541123456789"), ("011 15-2345-6789", "011 2345-6789")],
)
def test_argentine_mobile_is_one_handset_in_both_its_forms(mobile: str, other: str) -> None:
    """Both forms of an Argentine mobile number normalise to one."""
    forms = [phone.parse_number(text, country="AR").e164 for text in (mobile, other)]

    assert forms == ["+5491123456789", "+541123456789"]
    assert [phone.normalize_mobile(form) for form in forms] == ["+541123456789"] * 2


@pytest.mark.parametrize("e164", ["+447400123456", "+5411234567", "+54912345678", "+525512345678"])
def test_every_other_number_is_a_handset_of_its_own(e164: str) -> None:
    """All other numbers are unchanged."""
    assert phone.normalize_mobile(e164) == e164


def test_argentina_alone_has_two_forms_of_a_mobile_number() -> None:
    """Fails if libphonenumber gets another country with a mobile token."""
    tokens = {
        code: phonenumbers.country_mobile_token(code) for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    }

    assert {code: token for code, token in tokens.items() if token} == {54: "9"}


@pytest.mark.parametrize(
    ("e164", "masked"),
    [
        ("+447400123456", "+44********56"),
        ("+12024561111", "+1********11"),
        ("+35312345678", "+353******78"),
    ],
)
def test_number_prints_masked(e164: str, masked: str) -> None:
    """A printed number shows at most its country code and last two digits."""
    number = phone.parse_number(e164)

    assert number.masked == str(number) == f"{number}" == phone.mask_number(e164) == masked
    assert e164[3:] not in repr(number)
    assert e164[-6:-2] not in repr([number]) + str({"number": number})


digits = st.text("0123456789", min_size=1, max_size=16)
e164s = st.builds("+{}{}".format, st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)), digits)


@settings(max_examples=100, deadline=None)
@given(e164s)
@example("+390669812345")
@example("+440791112345")
@example("+78001234567")
@example("+5491123456789")
def test_e164_is_read_as_libphonenumber_reads_it(text: str) -> None:
    """The fast path for E.164 gives libphonenumber's result."""
    try:
        read = phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException:
        read = None
    valid = read is not None and phonenumbers.is_valid_number(read)
    try:
        number = phone.parse_number(text, allow_documentation=True)
    except InvalidPhoneNumber:
        assert not valid
        return

    assert valid or number.kind == "documentation"
    assert read is not None
    assert number.e164 == phonenumbers.format_number(read, phonenumbers.PhoneNumberFormat.E164)
    assert number.masked.startswith(f"+{read.country_code}*")


typed = st.one_of(
    st.text(max_size=40),
    st.text("+0123456789 ().-/", max_size=34),
    st.builds("+{}{}".format, st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)), digits),
)


@settings(max_examples=100, deadline=None)
@given(typed, st.none() | st.sampled_from(REGIONS) | st.text(max_size=3), st.booleans())
@example("+", None, True)
@example("\0", "GB", False)
@example("+1", "001", True)
def test_any_text_is_read_or_refused(text: str, country: str | None, allow: bool) -> None:
    """Whatever is typed, the answer is a number or one of the two refusals, never another error."""
    try:
        number = phone.parse_number(text, country=country, allow_documentation=allow)
    except (InvalidPhoneNumber, NumberNotAllowed):
        return

    assert_can_be_read_again(number)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(REGIONS), st.integers(0, 4), st.text("0123456789", max_size=4))
def test_read_number_reads_the_same_again(region: str, kind: int, ending: str) -> None:
    """What was read can be stored and read again as E.164 without a country: the same number comes out."""
    sample = phonenumbers.example_number_for_type(region, kind)
    if sample is None:
        return
    national = phonenumbers.national_significant_number(sample)
    national = national[: len(national) - len(ending)] + ending

    try:
        number = phone.parse_number(national, country=region, allow_documentation=True)
    except (InvalidPhoneNumber, NumberNotAllowed):
        return

    assert_can_be_read_again(number)


def assert_can_be_read_again(number: PhoneNumber) -> None:
    """Parse the E.164 form and compare; the masked form shows two digits of the national number at most."""
    assert phone.parse_number(number.e164, allow_documentation=True) == number
    assert number.e164.startswith("+")
    assert number.digits.isdecimal()
    assert number.digits.isascii()
    assert len(number.digits) <= 17
    assert len(number.masked) == len(number.e164)
    assert number.masked.endswith("*" + number.e164[-2:])


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        # Benin put 01 before all numbers in 2024; those of before are too short now.
        ("+22961234567", ("+22961234567",)),
        ("+229 61-23-45-67", ("+22961234567",)),
        # Mexico no longer has a 1 before mobile numbers: too long now.
        ("+5215512345678", ("+5215512345678",)),
        # A country code that was taken back.
        ("+2101234567", ("+2101234567",)),
        # A prefix is left out by today's rules, and need not have been by older ones.
        ("+4407700900123", ("+447700900123", "+4407700900123")),
        ("+44 (0)7400 123456", ("+447400123456", "+4407400123456")),
        ("tel:+44-7400-123456", ("+447400123456",)),
        ("+447400123456", ("+447400123456",)),
        ("+447700900123", ("+447700900123",)),
    ],
)
def test_number_is_found_under_older_rules(text: str, forms: tuple[str, ...]) -> None:
    """What is looked up may be stored as today's rules read it or as it is written; each form finds all."""
    assert phone.list_stored_forms(text) == forms
    assert set(phone.list_stored_forms(forms[-1])) == set(forms)


def test_national_number_is_looked_up_by_todays_rules() -> None:
    """Without its country code a number can be read by the rules of its country alone."""
    assert phone.list_stored_forms("07400 123456", country="GB") == ("+447400123456",)
    with pytest.raises(InvalidPhoneNumber):
        phone.list_stored_forms("074", country="GB")


@pytest.mark.parametrize(
    "text", ["", "nonsense", "+1900", "+44", "+44770090012x", "07400123456", "+0123456789"]
)
def test_invalid_number_is_not_looked_up(text: str) -> None:
    """Text that was never a number is rejected instead of finding nothing."""
    with pytest.raises(InvalidPhoneNumber):
        phone.list_stored_forms(text)


def test_country_must_exist_for_any_number() -> None:
    """An unknown country is rejected, also with a number that needs none."""
    with pytest.raises(InvalidPhoneNumber) as caught:
        phone.list_stored_forms("+22961234567", country="XX")

    assert caught.value.errors[0].field == "country"


@pytest.mark.parametrize(
    ("e164", "country"),
    [
        ("+447400123456", "GB"),
        ("+447700900123", "GB"),
        ("+883510000000093", None),
        ("+22961234567", "BJ"),
        ("+2101234567", None),
    ],
)
def test_country_of_a_number(e164: str, country: str | None) -> None:
    """A number without a country, or one that is invalid today, has none."""
    assert phone.find_country(e164) == country
