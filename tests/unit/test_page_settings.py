"""Settings of the hosted page: return URLs, origins, logos, colours, texts."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpqueue.api.pages.catalogue import PageTexts, _load, choose_language, guess_country
from otpqueue.domain.client_settings import ClientSettings, add_setting
from otpqueue.domain.colours import DARK, LEAST_CONTRAST, LIGHT, adapt_colour, choose_ink, measure_contrast
from otpqueue.domain.errors import InvalidRequest
from otpqueue.domain.page_settings import LANGUAGES, MAX_LOGO_BYTES, PageSettings

PNG = b"\x89PNG\r\n\x1a\n"
SETTINGS = PageSettings(return_urls=("https://shop.example/login/", "http://localhost:9000/done"))


def logo(data: bytes, media_type: str = "image/png") -> str:
    """Return a picture as a `data:` URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/login/",
        "https://shop.example/login/a/b?order=7",
        "https://SHOP.example:443/login/a",
        "http://localhost:9000/done?a=%2e%2e/",
    ],
)
def test_registered_return_url(url: str) -> None:
    """A path below one that ends with a slash is covered; a query does not matter."""
    assert SETTINGS.allows_return_to(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example/login",
        "https://shop.example/Login/",
        "https://shop.example./login/",
        "https://evil.example/login/",
        "https://shop.example:8443/login/",
        "http://shop.example/login/",
        "http://localhost:9000/done/more",
        "http://localhost:9001/done",
        "https://shop.example/login/%2E%2e/other",
        "https://shop.example/login/.%2e/other",
        "https://shop.example/login/a%2f..%2fother",
        "https://shop.example/login/a\\..\\other",
        "https://user@shop.example/login/",
        "https://shop.example/login/#token",
        "https://shop.example/login/?verification_token=x",
        "https://shop.example/login/?a=1&%73tate=x",
        "https://shop.example/login/\u00e4",
        "https://shop.example:port/login/",
        "https://[shop.example/login/",
        "https:///login/",
        "https:/login/",
        "/login/",
        "",
        "https://shop.example/login/" + "a" * 2000,
    ],
)
def test_other_return_urls(url: str) -> None:
    """Other places, and texts that URL parsers read differently, are not registered."""
    assert not SETTINGS.allows_return_to(url)


@given(st.text(max_size=40))
def test_no_text_leads_to_another_host(text: str) -> None:
    """Whatever follows the scheme: what is allowed begins with a registered URL."""
    for url in (
        f"https://{text}/login/",
        f"https://shop.example{text}/login/",
        f"https://shop.example/{text}",
    ):
        if SETTINGS.allows_return_to(url):
            assert url.lower().startswith(("https://shop.example/login/", "https://shop.example:443/login/"))


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("page.return_urls", "http://shop.example/done", "must be https URLs"),
        ("page.return_urls", "https://shop.example/done?x=1", "must be https URLs"),
        ("page.return_urls", "https://shop.example", "must be https URLs"),
        ("page.return_urls", "", "must be 1 to 20"),
        ("page.origins", "https://shop.example/", "must be origins"),
        ("page.origins", "*", "must be origins"),
        ("page.origins", "https://shop.example;script-src *", "must be origins"),
        ("page.logo", "http://shop.example/logo.png", "must be an https URL"),
        ("page.logo", "data:image/svg+xml;base64,PHN2Zz4=", "must be an https URL"),
        ("page.logo", logo(b"<svg>"), "must be an https URL"),
        ("page.logo", logo(PNG, "image/jpeg"), "must be an https URL"),
        ("page.logo", logo(PNG + b"x" * MAX_LOGO_BYTES), "must have at most 16384 bytes"),
        ("page.colour", "red", "must be a colour"),
        ("page.colour", "#fff;}", "must be a colour"),
        ("page.languages", "en,xx", "must be some of en, de, es, fr, it; not xx"),
        ("page.name", "x" * 61, "must be 1 to 60 characters"),
        ("page.heading.en", "two\nlines", "must be 1 to 300 characters"),
        ("page.heading.pt", "Texto", "is not a setting"),
    ],
)
def test_what_a_page_cannot_have(path: str, text: str, message: str) -> None:
    """Each setting says what it must be."""
    with pytest.raises(InvalidRequest) as refused:
        add_setting({}, path, text)

    assert message in refused.value.errors[0].message


def test_stored_settings_are_read() -> None:
    """What is set by path is found in the client's settings."""
    stored = add_setting({}, "page.return_urls", "https://shop.example/done")
    stored = add_setting(stored, "page.logo", logo(PNG))
    stored = add_setting(stored, "page.note.de", "Ein Hinweis")

    page = ClientSettings.from_stored(stored).page

    assert page.return_urls == ("https://shop.example/done",)
    assert page.uploaded_logo is not None
    assert (page.uploaded_logo.media_type, page.uploaded_logo.data) == ("image/png", PNG)
    assert page.texts == {("note", "de"): "Ein Hinweis"}


@given(st.integers(0, 0xFFFFFF), st.sampled_from([LIGHT, DARK]))
def test_every_colour_can_be_read(value: int, background: str) -> None:
    """Text in the client's colour, and text on it, have enough contrast."""
    colour = adapt_colour(f"#{value:06x}", background=background)

    assert measure_contrast(colour, background) >= LEAST_CONTRAST
    assert measure_contrast(colour, choose_ink(colour)) >= LEAST_CONTRAST


def test_readable_colour_is_kept() -> None:
    """A colour that can be read is not changed."""
    assert adapt_colour("#1a5bb8", background=LIGHT) == "#1a5bb8"
    assert round(measure_contrast("#000000", "#ffffff"), 1) == 21


@pytest.mark.parametrize("language", LANGUAGES)
def test_catalogues_are_complete(language: str) -> None:
    """Each language has every text, with the same values to fill in."""
    english, own = _load("en"), _load(language)

    def slots(text: str) -> set[str]:
        return set(re.findall(r"\{(\w+)\}", text))

    assert own.keys() == english.keys()
    assert own["errors"].keys() == english["errors"].keys()
    assert own["countries"].keys() == english["countries"].keys()
    for section in (("errors",), ()):
        texts, originals = (own["errors"], english["errors"]) if section else (own, english)
        for key, text in texts.items():
            if isinstance(text, str):
                assert slots(text) == slots(originals[key]), key
                assert text.strip() == text, key


def test_durations() -> None:
    """A wait is told in a unit that people use."""
    texts = PageTexts(language="en", name="Shop", own={})

    shown = [texts.duration(seconds) for seconds in (1, 30, 119, 120, 121, 3600, 7200, 80_000)]

    assert shown == [
        "1 second",
        "30 seconds",
        "119 seconds",
        "2 minutes",
        "3 minutes",
        "60 minutes",
        "2 hours",
        "23 hours",
    ]


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        (None, "en"),
        ("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", "fr"),
        ("pt-BR, it;q=0.3, es;q=0.4", "es"),
        ("de;q=0, it", "it"),
        ("xx", "en"),
        ("de;q=nonsense", "en"),
        (",;,,=", "en"),
    ],
)
def test_language_of_the_browser(accepted: str | None, language: str) -> None:
    """The best language that the page has."""
    assert choose_language(PageSettings(), wanted=(None, "pt"), accepted=accepted) == language


def test_chosen_language() -> None:
    """A chosen language wins, if the client offers it; the first one offered is the fallback."""
    settings = PageSettings(languages=("it", "de"))

    assert choose_language(settings, wanted=("de-AT", "it"), accepted="en") == "de"
    assert choose_language(settings, wanted=("fr", None), accepted="en") == "it"


def test_country_of_the_browser() -> None:
    """The region of the first language that names one."""
    assert guess_country("en, de-at;q=0.9") == "AT"
    assert guess_country("en-XX") is None
    assert guess_country(None) is None
