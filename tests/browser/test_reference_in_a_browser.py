"""The API reference as people use it: on a desk and a phone, in the dark, and to try a call."""

from __future__ import annotations

from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from sqlalchemy import text

from otpqueue.store.engine import connection
from tests.api.serving import Served
from tests.browser.conftest import NARROW, WIDE, Browser

READY = "return document.body.innerText.includes('Send a code')"


def open_reference(browser: Browser) -> None:
    """Open the page and wait until the viewer has shown the document."""
    browser.open("/docs/api")
    browser.until(lambda: browser.driver.execute_script(READY), "the viewer")


def find_by_text(browser: Browser, tag: str, words: str) -> WebElement:
    """Wait for an element that contains a text and is visible."""

    def find() -> Any:
        found = browser.driver.find_elements(By.XPATH, f"//{tag}[contains(., '{words}')]")
        return next((one for one in found if one.is_displayed()), None)

    element: WebElement = browser.until(find, f"{tag} {words}")
    return element


def count_requests(served: Served) -> int:
    """Return how many codes were requested."""
    with connection(served.parts.engine) as conn:
        return int(conn.execute(text("SELECT count(*) FROM otp_requests")).scalar_one())


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_reference(stranger: Browser, size: tuple[int, int], scheme: str) -> None:
    """The page needs no other host, breaks no rule of its policy and fits the screen."""
    stranger.show_as(size, scheme)
    open_reference(stranger)

    assert stranger.troubles() == []
    for language in ("Shell", "Python", "Node.js"):
        find_by_text(stranger, "*[@role='tab']", language)
    loaded = stranger.driver.execute_script(
        "return performance.getEntriesByType('resource').map(one => new URL(one.name).origin)"
    )
    assert set(loaded) <= {stranger.url}
    width = stranger.driver.execute_script("return document.documentElement.scrollWidth")
    assert width <= size[0]
    dark = stranger.driver.execute_script("return document.body.classList.contains('dark-mode')")
    assert dark == (scheme == "dark")


def test_try_a_call(stranger: Browser, served: Served) -> None:
    """A call from the page reaches the API with the key that was typed, and its answer is shown."""
    stranger.show_as(WIDE)
    open_reference(stranger)
    before = count_requests(served)

    find_by_text(stranger, "button", "Test Request").click()
    token = stranger.until(
        lambda: stranger.driver.find_elements(By.CSS_SELECTOR, "[role=dialog] input[placeholder=Token]"),
        "token",
    )[0]
    token.send_keys(served.key)
    find_by_text(stranger, "button", "Send").click()

    stranger.until(lambda: count_requests(served) == before + 1, "the request")
    find_by_text(stranger, "*[@role='dialog']", "202")
