"""The hosted page in headless Chromium: by keyboard alone, without JavaScript, embedded, and for axe-core."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from selenium.webdriver.common.keys import Keys

from tests.api.conftest import wrong
from tests.api.serving import Served
from tests.browser.conftest import NARROW, WIDE, Browser, Programs, running_browser

Create = Callable[..., str]


class Shop:
    """The client's site: remembers how browsers come back, and serves a page that embeds another."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://localhost:{port}"
        self.return_url = f"{self.origin}/done"
        self.embedded = ""


class _ShopHandler(BaseHTTPRequestHandler):
    def __init__(self, shop: list[Shop], *args: Any) -> None:
        self.shop = shop[0]
        super().__init__(*args)

    def do_GET(self) -> None:
        body = f"<!doctype html><title>Shop</title><main>{self.shop.embedded}</main>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Stay silent."""


@contextmanager
def shopping() -> Iterator[Shop]:
    """Serve the shop on a free port."""
    shop: list[Shop] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_ShopHandler, shop)) as server:
        shop.append(Shop(server.server_address[1]))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield shop[0]
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def shop(served: Served) -> Iterator[Shop]:
    """Yield the client's site, registered for its pages."""
    with shopping() as running:
        for name, value in {
            "return_urls": running.return_url,
            "origins": running.origin,
            "name": "Harbour Books",
            "colour": "#0f7a5f",
        }.items():
            served.parts.clients.set("served", f"page.{name}", value)
        yield running


@pytest.fixture
def without_javascript(served: Served, programs: Programs, tmp_path: Path) -> Iterator[Browser]:
    """Yield a browser that runs no scripts."""
    blocked = {"profile.managed_default_content_settings.javascript": 2}
    with running_browser(served.url, programs, profile=tmp_path, preferences=blocked) as browser:
        yield browser


@pytest.fixture
def create(served: Served, shop: Shop) -> Create:
    """Return a function that creates a page, and returns its path."""

    def create(**fields: Any) -> str:
        answer = served.call("POST", "/v1/verification-pages", json={"return_url": shop.return_url, **fields})
        assert answer.status_code == 201, answer.text
        return urlsplit(answer.json()["url"]).path

    return create


def code_of(served: Served, number: str) -> str:
    """Send what is due, and return the code."""
    served.parts.pump.run()
    return served.provider.code(number)


def came_back(browser: Browser, shop: Shop) -> dict[str, list[str]]:
    """Wait until the browser is at the shop, and return what it brought."""
    browser.until(lambda: browser.driver.current_url.startswith(shop.return_url), "return to the shop")
    return parse_qs(urlsplit(browser.driver.current_url).query)


def redeem(served: Served, token: str) -> dict[str, Any]:
    """Redeem a token."""
    answer = served.call("POST", "/v1/verification-pages/redeem", json={"token": token})
    found: dict[str, Any] = answer.json()
    return found


def test_by_keyboard_alone(stranger: Browser, served: Served, shop: Shop, create: Create) -> None:
    """Country, number, code and a mistake: every step by keys. The page shows each change."""
    number = "+447700900811"
    stranger.show_as(WIDE)
    stranger.open(create(state="s1"))

    stranger.press(Keys.TAB)
    assert stranger.focused().get_attribute("id") == "country"
    stranger.press("United K")
    stranger.press(Keys.TAB, "07700 900811", Keys.ENTER)
    stranger.find("#status.waiting")
    code = code_of(served, number)
    stranger.until(lambda: stranger.focused().get_attribute("id") == "code", "focus on the code")
    stranger.press(wrong(code), Keys.ENTER)
    stranger.find("#problem")
    stranger.until(lambda: stranger.focused().get_attribute("id") == "code", "focus on the code again")
    described = str(stranger.focused().get_attribute("aria-describedby")).split()
    texts = [stranger.text(f"#{one}") for one in described]
    stranger.press(code, Keys.ENTER)

    brought = came_back(stranger, shop)
    assert brought["state"] == ["s1"]
    assert texts == ["You have 4 attempts left.", "Error: This code is not correct."]
    assert redeem(served, brought["verification_token"][0])["phone_number"] == number
    assert stranger.troubles() == []


def test_without_javascript(without_javascript: Browser, served: Served, shop: Shop, create: Create) -> None:
    """Forms, redirects and a timed reload lead to the same end."""
    browser, number = without_javascript, "+447700900812"
    browser.open(create())
    browser.find("#country").send_keys("United K")
    browser.find("#number").send_keys(number)
    browser.find("button[value=sms]").click()
    browser.find(".waiting")
    code = code_of(served, number)
    browser.find("#code").send_keys(code)
    # No script counts down: the server says when it is too early.
    assert all(one.is_enabled() for one in browser.every("button.resend"))
    browser.find("#code").send_keys(Keys.ENTER)

    brought = came_back(browser, shop)
    assert redeem(served, brought["verification_token"][0])["phone_number"] == number


def test_stolen_link(stranger: Browser, served: Served, create: Create) -> None:
    """A browser without the cookie sees neither the client nor the page."""
    path = create(phone_number="+447700900813")
    stranger.open(path)
    assert "Harbour Books will send a code to +44********13" in stranger.text()

    stranger.forget()
    stranger.open(path)

    assert "belongs to another browser" in stranger.text()
    assert "Harbour Books" not in stranger.driver.page_source
    assert all("403" in line for line in stranger.troubles())


def test_count_down(stranger: Browser, served: Served, create: Create) -> None:
    """Resending is possible when the count-down ends; then the code is resent by voice, without a reload."""
    number = "+447700900814"
    stranger.open(create(phone_number=number))
    stranger.find("button[value=sms]").click()
    stranger.find("#status.waiting")
    code_of(served, number)
    stranger.find("#code")
    assert not any(one.is_enabled() for one in stranger.every("button.resend"))
    before = stranger.text("#wait")
    stranger.until(lambda: stranger.text("#wait") != before, "the count-down")

    with served.parts.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE otp_requests SET resend_after = now()")
    stranger.driver.refresh()
    stranger.until(lambda: any(one.is_enabled() for one in stranger.every("button.resend")), "the buttons")
    stranger.find("button.resend[value=voice]").click()
    stranger.until(lambda: "is being sent again" in stranger.text(), "the resend")
    served.parts.pump.run()
    stranger.until(lambda: "We are calling" in stranger.text(), "the call")

    assert stranger.troubles() == []


def test_embedded(stranger: Browser, served: Served, shop: Shop, create: Create) -> None:
    """The component shows the page inside the shop, and hands the token to the shop's script alone."""
    number = "+447700900815"
    url = served.url + create(phone_number=number, state="s2")
    shop.embedded = (
        f'<otpqueue-verify src="{url}"></otpqueue-verify>'
        f'<script type="module" src="{served.url}/verify/assets/otpqueue-verify.js"></script>'
        "<script>document.addEventListener('verified', (e) => { window.result = e.detail; });</script>"
    )
    stranger.driver.get(shop.origin)
    frame = stranger.find("iframe")
    stranger.driver.switch_to.frame(frame)
    stranger.find("button[value=sms]").click()
    stranger.find("#status.waiting")
    code = code_of(served, number)
    stranger.find("#code").send_keys(code, Keys.ENTER)
    stranger.driver.switch_to.default_content()
    result = stranger.until(lambda: stranger.driver.execute_script("return window.result"), "the event")

    assert result["state"] == "s2"
    assert redeem(served, result["token"])["phone_number"] == number
    assert stranger.driver.execute_script("return document.querySelector('iframe').clientHeight") >= 320
    assert stranger.troubles() == []


def test_foreign_site_cannot_embed(stranger: Browser, create: Create) -> None:
    """A site that is not registered shows an empty frame."""
    with shopping() as other:
        path = create()
        other.embedded = f'<iframe src="{stranger.url}{path}?embed=1"></iframe>'
        stranger.driver.get(other.origin)
        stranger.until(
            lambda: any("frame-ancestors" in line for line in stranger.troubles()), "the browser's refusal"
        )


def test_no_barriers(stranger: Browser, served: Served, create: Create) -> None:
    """axe-core finds nothing on any stage, wide and light or narrow and dark; no page scrolls sideways."""
    number = "+447700900816"
    found: dict[str, list[str]] = {}

    def look(name: str, *, twice: bool = True) -> None:
        looks = ((WIDE, "light"), (NARROW, "dark"))
        # Pages with less on them are checked in one of the two.
        for size, scheme in looks if twice else looks[1:]:
            stranger.show_as(size, scheme)
            found[f"{name}, {scheme}"] = stranger.barriers()
            width = stranger.driver.execute_script("return document.documentElement.scrollWidth")
            assert width <= size[0], name
            keep_picture(stranger, f"{name}-{scheme}")

    stranger.open(create())
    stranger.find("#number").send_keys("1", Keys.ENTER)
    stranger.find("#problem")
    look("number")
    stranger.open(create(phone_number=number))
    look("confirm", twice=False)
    stranger.find("button[value=sms]").click()
    stranger.find("#status.waiting")
    look("sending", twice=False)
    code = code_of(served, number)
    stranger.find("#code").send_keys(wrong(code), Keys.ENTER)
    stranger.find("#problem")
    look("code")
    with served.parts.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE otp_requests SET checks_used = checks_allowed - 1")
    stranger.find("#code").send_keys(wrong(code), Keys.ENTER)
    stranger.find("[data-stage=ended]")
    look("ended")
    stranger.forget()
    stranger.driver.refresh()
    look("foreign", twice=False)
    stranger.show_as(WIDE)

    assert {name: barriers for name, barriers in found.items() if barriers} == {}


def test_demo(stranger: Browser, served: Served) -> None:
    """`/try`: the shop embeds the page, the handset rings, and the shop gets the number."""
    number = "+447700900123"
    stranger.show_as(WIDE)
    stranger.open("/try")
    stranger.find("input[value=yes]").click()
    stranger.find("#login button").click()
    stranger.driver.switch_to.frame(stranger.find("iframe"))
    stranger.find("button[value=voice]").click()
    stranger.find("#status.waiting")
    code = code_of(served, number)
    stranger.find("#code")
    stranger.driver.switch_to.default_content()
    stranger.until(lambda: stranger.find("#call").is_displayed(), "the call")
    assert code not in stranger.text("#messages")
    stranger.find("#answer").click()
    stranger.until(lambda: " ".join(code) in stranger.text("#messages"), "the spoken code")
    stranger.until(lambda: stranger.find("#use").is_enabled(), "the customer's hand")
    barriers = {}
    for size, scheme in ((WIDE, "light"), (NARROW, "dark")):
        stranger.show_as(size, scheme)
        barriers[scheme] = stranger.barriers()
    stranger.show_as(WIDE)
    assert f'"phone_number": "+44********{number[-2:]}"' in stranger.text("#json")
    stranger.find("#use").click()
    stranger.driver.switch_to.frame(stranger.find("iframe"))
    stranger.find("form[action*=code] button").click()
    stranger.driver.switch_to.default_content()
    stranger.until(lambda: stranger.find("#signed").is_displayed(), "the result")

    assert number in stranger.text("#signed")
    assert "redeemed" in stranger.text("#steps .done:last-child")
    assert barriers == {"light": [], "dark": []}
    assert stranger.troubles() == []


def keep_picture(browser: Browser, name: str) -> None:
    """Save a screenshot in the folder SCREENSHOTS, if it is set: for a person to look at."""
    if folder := os.environ.get("SCREENSHOTS"):
        browser.driver.save_screenshot(str(Path(folder) / f"{name}.png"))
