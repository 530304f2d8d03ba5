"""The choice of message template and sender."""

from __future__ import annotations

import pytest

from otpqueue.domain.templates import (
    NUMBER_ONLY,
    ProviderIds,
    Senders,
    TemplateKey,
    find_sender_problem,
    find_web_otp_problem,
)

IDS = ProviderIds("A", {"en": "1", "de": "2", "pt": "3", "pt-br": "4", "en@IN": "5", "hi": "6"})


@pytest.mark.parametrize(
    ("language", "country", "template"),
    [
        (None, None, "1"),
        ("en", "GB", "1"),
        ("en-GB", "GB", "1"),
        ("de", "DE", "2"),
        ("DE", None, "2"),
        ("de-AT", "AT", "2"),
        ("de_CH", "CH", "2"),
        ("pt-BR", "BR", "4"),
        ("pt_br", "BR", "4"),
        ("pt-PT", "PT", "3"),
        ("fr", "FR", "1"),
        ("fr-CA", "CA", "1"),
        ("x", None, "1"),
        ("", None, "1"),
        # India: the registered text, or none arrives at all.
        (None, "IN", "5"),
        ("en", "IN", "5"),
        ("de", "IN", "5"),
        ("hi", "IN", "5"),
        # The registration is India's alone.
        ("hi", "GB", "6"),
        ("en", "US", "1"),
    ],
)
def test_template_of_a_person(language: str | None, country: str | None, template: str) -> None:
    """A language falls back to its first part, then to English; in India the registered text goes out."""
    assert IDS.get_message_id(language=language, country=country) == template


def test_india_without_registration() -> None:
    """Where nothing is registered, India is a country like any other."""
    ids = ProviderIds("A", {"en": "1", "hi": "2"})

    assert ids.get_message_id(language="hi", country="IN") == "2"
    assert ids.get_message_id(language=None, country="IN") == "1"


def test_registered_text_in_its_own_language_comes_first() -> None:
    """Of India's registered texts the one in the person's language is taken."""
    ids = ProviderIds("A", {"en": "1", "en@IN": "2", "hi": "3", "hi@IN": "4"})

    assert ids.get_message_id(language="hi-IN", country="IN") == "4"
    assert ids.get_message_id(language="ta", country="IN") == "2"


def test_no_template_at_all() -> None:
    """Without even the English template there is nothing to send, and that is an error."""
    with pytest.raises(KeyError):
        ProviderIds("A", {"de": "1"}).get_message_id(language="fr", country=None)


def test_keys_as_they_are_remembered() -> None:
    """A key's text distinguishes language and registration."""
    assert str(TemplateKey(language="pt-br")) == "pt-br"
    assert str(TemplateKey(language="en", india=True)) == "en@IN"


SENDERS = Senders({"*": "MyBrand", "US": "18335550100", "IN": "MYBRND"})


@pytest.mark.parametrize(
    ("country", "sender"),
    [
        ("GB", "MyBrand"),
        (None, "MyBrand"),
        ("US", "18335550100"),
        ("IN", "MYBRND"),
        ("CA", None),
        ("BR", None),
    ],
)
def test_sender_of_a_country(country: str | None, sender: str | None) -> None:
    """A country's own sender wins; an alphanumeric common one is left out where only numbers are taken."""
    assert SENDERS.select_sender(country) == sender


@pytest.mark.parametrize("country", sorted(NUMBER_ONLY))
def test_common_number_is_used_everywhere(country: str) -> None:
    """A common sender that is a number goes where alphanumeric ones may not."""
    assert Senders({"*": "447491163443"}).select_sender(country) == "447491163443"
    assert Senders({"*": "Brand"}).select_sender(country) is None


def test_no_senders() -> None:
    """Without senders the provider chooses."""
    assert Senders({}).select_sender("GB") is None
    assert Senders({}).global_sender is None


def test_sender_that_a_template_may_contain() -> None:
    """A template's sender applies to every country, so only a number is allowed."""
    assert Senders({"*": "447491163443"}).global_sender == "447491163443"
    assert SENDERS.global_sender is None


@pytest.mark.parametrize(
    ("country", "sender", "problem"),
    [
        ("*", "MyBrand", None),
        ("*", "My Brand 1", None),
        ("*", "+447491163443", None),
        ("*", "62033", None),
        ("GB", "ElevenChars", None),
        ("GB", "TwelveChars1", "at most 11"),
        ("GB", "12", "at most 11"),
        ("GB", "1234567890123456", "at most 11"),
        ("GB", "", "at most 11"),
        ("GB", "Müller", "at most 11"),
        ("GB", "Brand!", "at most 11"),
        ("US", "Brand", "must be a number"),
        ("BR", "Brand", "must be a number"),
        ("US", "18335550100", None),
    ],
)
def test_problems_of_senders(country: str, sender: str, problem: str | None) -> None:
    """A sender that a network would reject is reported at configuration."""
    found = find_sender_problem(country, sender)

    assert (found is None) if problem is None else problem in str(found)


@pytest.mark.parametrize(
    ("text", "domain", "problem"),
    [
        ("{{pin}} is your code.", None, None),
        ("{{pin}} is your code. Write to help@shop.example", None, None),
        ("{{pin}} is your code.\n\n@shop.example #{{pin}}", None, None),
        ("{{pin}} is your code.\r\n@shop.example #{{pin}}", "shop.example", None),
        ("@shop.example #{{pin}}", "shop.example", None),
        ("Code\n@shop.example #{{pin}} @pay.example", "shop.example", None),
        ("Code\n@localhost #{{pin}}", None, None),
        ("{{pin}} is your code.", "shop.example", "last line is not `@shop.example #{{pin}}`"),
        ("{{pin}}\n@shop.example #{{pin}}", "other.example", "names shop.example, not other.example"),
        ("{{pin}} @shop.example #{{pin}}", None, "last line is not"),
        ("{{pin}}\n@shop.example #{{pin}}\n", None, "last line is not"),
        ("{{pin}}\n@shop.example #{{pin}}.", None, "last line is not"),
        ("{{pin}}\n@shop.example  #{{pin}}", None, "last line is not"),
        ("{{pin}}\n@shop.example#{{pin}}", None, "last line is not"),
        ("{{pin}}\n@https://shop.example #{{pin}}", None, "last line is not"),
        ("{{pin}}\n@Shop.Example #{{pin}}", None, "last line is not"),
        ("{{pin}}\n@shop.example", None, "last line is not"),
        ("{{pin}}\n@shop.example {{pin}}", None, "last line is not"),
        ("@shop.example #{{pin}}\nDo not share it.", None, "last line is not"),
    ],
)
def test_form_from_which_browsers_take_the_code(text: str, domain: str | None, problem: str | None) -> None:
    """The last line must match exactly. A text without such a line is accepted."""
    found = find_web_otp_problem(text, domain=domain)

    assert found is None if problem is None else problem in (found or "")
