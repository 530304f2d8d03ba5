"""The documentation in a real browser: wide, on a phone, in the dark, by keyboard."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import NARROW, WIDE, Browser

LONG_PAGE = "/docs/integrate"
PAGES = (LONG_PAGE, "/docs/search?q=webhook", "/docs/no-such-page")
COLOURS_AND_WIDTHS = ("color-contrast", "scrollable-region-focusable")


@pytest.mark.parametrize(
    ("size", "scheme"), [(WIDE, "light"), (NARROW, "dark")], ids=["wide in the light", "phone in the dark"]
)
def test_no_barriers(stranger: Browser, size: tuple[int, int], scheme: str) -> None:
    """No page has barriers that axe-core knows, logs an error, breaks its policy or is too wide."""
    stranger.show_as(size, scheme)
    for path in PAGES:
        stranger.open(path)

        # The long page has the frame of the others, and on the phone other colours and widths than on a desk.
        rules = COLOURS_AND_WIDTHS if path == LONG_PAGE and size == NARROW else ()
        assert stranger.barriers(*rules) == [], path
        assert [line for line in stranger.troubles() if "404 (Not Found)" not in line] == [], path
        widths = stranger.driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1], path


def test_menu_on_a_phone(stranger: Browser) -> None:
    """The menu opens and closes by keyboard, and leads to a page; on a wide screen it is always open."""
    stranger.show_as(NARROW)
    stranger.open("/docs")
    assert not stranger.find("#contents").is_displayed()

    stranger.find(".menu").send_keys(Keys.ENTER)
    stranger.until(lambda: stranger.find("#contents").is_displayed(), "the menu")
    stranger.press(Keys.ESCAPE)
    stranger.until(lambda: not stranger.find("#contents").is_displayed(), "no menu")
    stranger.find(".menu").send_keys(Keys.ENTER)
    stranger.find("#contents a[href='/docs/faq']").send_keys(Keys.ENTER)
    stranger.until(lambda: stranger.at("/docs/faq"), "the page")

    stranger.show_as(WIDE)
    assert stranger.find("#contents").is_displayed()
    assert not stranger.find(".menu").is_displayed()


def test_search_by_keyboard(stranger: Browser) -> None:
    """`/` leads to the search, Enter to what is found."""
    stranger.show_as(WIDE)
    stranger.open("/docs")

    stranger.press("/")
    stranger.until(lambda: stranger.focused().get_attribute("name") == "q", "the search")
    stranger.press("delivery reports", Keys.ENTER)
    stranger.until(lambda: stranger.at("/docs/search?q=delivery+reports"), "what is found")

    assert "Delivery reports" in stranger.text()


def test_code_is_copied(stranger: Browser) -> None:
    """Each code block has a button that copies it."""
    stranger.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    stranger.open("/docs/quickstart")

    button = stranger.find(".code .copy")
    button.send_keys(Keys.ENTER)
    stranger.until(lambda: button.get_attribute("textContent") == "Copied", "copied")
    copied = stranger.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")

    assert copied.startswith("python3 -m venv .venv")
