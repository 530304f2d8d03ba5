"""A real browser: Debian's Chromium, driven by Selenium, which downloads nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from otpqueue import clock
from tests.api.conftest import module_settings  # noqa: F401 - a fixture
from tests.api.serving import Served, serving
from tests.conftest import NO_CHROMIUM, NO_LIMITS

PATIENCE_S = 30
WIDE, NARROW = (1280, 900), (390, 844)

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # Containers have little of /dev/shm.
    "--disable-dev-shm-usage",
)


@dataclass
class Browser:
    """What a person does with a browser, and what a tester sees of it."""

    driver: webdriver.Chrome
    url: str

    def open(self, path: str) -> None:
        """Open a page of the console."""
        self.driver.get(self.url + path)

    def find(self, selector: str) -> WebElement:
        """Return the first element that a selector finds, once there is one."""
        return self.until(lambda: self.every(selector)[0] if self.every(selector) else None, selector)

    def every(self, selector: str) -> list[WebElement]:
        """Return all elements that a selector finds now."""
        found: list[WebElement] = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found

    def text(self, selector: str = "main") -> str:
        """Return what is to be read there."""
        return str(
            self.driver.execute_script("return document.querySelector(arguments[0]).innerText", selector)
        )

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until something is so, and return it. A page that reloads meanwhile is read again."""
        passing = (NoSuchElementException, StaleElementReferenceException)
        wait = WebDriverWait(self.driver, PATIENCE_S, poll_frequency=0.1, ignored_exceptions=passing)
        return wait.until(lambda _: condition(), f"not in time: {what}")

    def at(self, path: str) -> bool:
        """Return whether the browser is at a path."""
        return str(self.driver.current_url).removeprefix(self.url) == path

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        for key in keys:
            webdriver.ActionChains(self.driver).send_keys(key).perform()

    def focused(self) -> WebElement:
        """Return what has the focus."""
        return self.driver.switch_to.active_element

    def log_in(self, key: str) -> None:
        """Log in by the form."""
        self.forget()
        self.open("/console")
        self.find("#key").send_keys(key, Keys.ENTER)
        self.until(lambda: self.at("/console"), "log-in")

    def forget(self) -> None:
        """Drop every cookie."""
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})

    def show_as(self, size: tuple[int, int], scheme: str = "light") -> None:
        """Be as wide and high, and prefer dark or light."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def troubles(self) -> list[str]:
        """Return what the browser has logged since this was asked last: violations of the policy, errors."""
        return [
            line["message"]
            for line in self.driver.get_log("browser")
            if line["level"] in {"SEVERE", "WARNING"}
        ]

    def barriers(self, *rules: str) -> list[str]:
        """Return what axe-core finds that keeps people from using the page, by all its rules or these."""
        source = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
        self.driver.execute_script(source)
        options = {"resultTypes": ["violations"], **({"runOnly": list(rules)} if rules else {})}
        found = self.driver.execute_async_script(
            "axe.run(document, arguments[0]).then(arguments[1])", options
        )
        return [
            f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes'][:3]]}"
            for one in found["violations"]
        ]


Programs = tuple[str, str]
"""Where Chromium and its driver are."""


@pytest.fixture(scope="session")
def programs() -> Programs:
    """Return the programs. Skip without them."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium and driver:
        return chromium, driver
    assert os.environ.get("CHROMIUM") != "required", "Chromium was installed and is not there"
    pytest.skip(NO_CHROMIUM)


@pytest.fixture(scope="module")
def served(
    programs: Programs,
    module_settings: dict[str, str],  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Served]:
    """Yield an API with its console, served by granian."""
    with serving(
        module_settings | NO_LIMITS | {"OTPQUEUE_TRY_PAGE": "true"}, tmp_path_factory.mktemp("served")
    ) as running:
        yield running


@pytest.fixture(scope="module")
def _browser(
    served: Served, programs: Programs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    with running_browser(served.url, programs, profile=tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@contextmanager
def running_browser(
    url: str, programs: Programs, *, profile: Path, preferences: dict[str, Any] | None = None
) -> Iterator[Browser]:
    """Start a browser, and end it with the block."""
    options = webdriver.ChromeOptions()
    options.binary_location, driver_path = programs
    if preferences:
        options.add_experimental_option("prefs", preferences)
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    driver.set_page_load_timeout(PATIENCE_S)
    driver.set_script_timeout(PATIENCE_S)
    try:
        yield Browser(driver, url)
    finally:
        driver.quit()


@pytest.fixture
def browser(_browser: Browser, served: Served) -> Browser:
    """Return the browser, logged in, on a desk in the light, with nothing in its log."""
    key = served.parts.keys.create(client="ops", scopes=frozenset({"admin"}), now=clock.now())
    _browser.show_as(WIDE)
    _browser.log_in(key)
    _browser.troubles()
    return _browser


@pytest.fixture
def stranger(_browser: Browser) -> Browser:
    """Return the browser, logged out."""
    _browser.forget()
    _browser.troubles()
    return _browser
