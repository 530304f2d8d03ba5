"""The console in headless Chromium: what an operator does with it, by mouse and keyboard, wide and narrow."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from selenium.webdriver.common.keys import Keys

from otpqueue import clock
from tests.api.conftest import wrong
from tests.api.serving import Served
from tests.browser.conftest import NARROW, WIDE, Browser
from tests.conftest import NUMBER
from tests.console.alerting import open_alert

PAGES = [
    "/console",
    "/console?span=24h",
    "/console/requests",
    "/console/alerts",
    "/console/countries",
    "/console/countries?by=client",
    "/console/actions",
    "/console/actions/stop-sending",
    "/console/actions/allow-through-guard",
    "/console/audit",
    "/console/erasures",
    "/console/runbooks/success_rate",
    "/console/settings",
]


def some_number(last: int) -> str:
    """Return a number of those set aside for the tests."""
    return f"+447700900{last:03}"


def test_log_in_by_keyboard_alone(stranger: Browser, served: Served) -> None:
    """The key's field has the focus; Enter logs in, and leads to the page that was asked for."""
    key = served.parts.keys.create(client="ops", scopes=frozenset({"admin"}), now=clock.now())

    stranger.open("/console/requests?status=sent")
    stranger.until(lambda: stranger.focused().get_attribute("id") == "key", "focus on the key")
    stranger.press(key, Keys.ENTER)
    stranger.until(lambda: stranger.at("/console/requests?status=sent"), "the page that was asked for")
    stranger.press(Keys.TAB)
    skip = stranger.focused().text
    stranger.press(Keys.ENTER)

    assert skip == "Skip to content"
    assert stranger.focused().get_attribute("id") == "main"
    assert stranger.troubles() == []


def test_wrong_key_is_reported(stranger: Browser) -> None:
    """A key that opens nothing is said to be one; the form is there again, empty, with the focus."""
    stranger.open("/console")
    stranger.find("#key").send_keys("oq_wrong", Keys.ENTER)
    stranger.find("[role=alert]")

    assert "cannot open the console" in stranger.text()
    assert stranger.find("#key").get_attribute("value") == ""
    # The browser itself logs an answer of 403 as an error.
    assert all("403" in line for line in stranger.troubles())


def test_request_just_made(browser: Browser, served: Served) -> None:
    """A request that was just made is on top of the list; its page tells its life."""
    path, code = served.sent(some_number(501), client_reference="just-made")
    served.call("POST", f"{path}/verify", json={"code": wrong(code)})
    assert served.call("POST", f"{path}/verify", json={"code": code}).status_code == 200
    request_id = path.rpartition("/")[2]

    browser.find("nav a[href='/console/requests']").click()
    row = browser.find("tbody tr")
    assert "just-made" in row.text
    assert "verified" in row.text
    row.find_element("css selector", "a").click()
    browser.until(lambda: browser.at(f"/console/requests/{request_id}"), "the request's page")

    life = browser.text(".life")
    told = [
        "accepted: served",
        "attempt 1 accepted: MESSAGE_SENT",
        "queued → sent",
        "check 1 wrong",
        "check 2 correct",
    ]
    assert [one for one in told if one not in life] == []
    assert code not in browser.driver.page_source
    assert browser.troubles() == []


def test_search_by_number(browser: Browser, served: Served) -> None:
    """A number is searched without standing in an address, and the page shows only its mask."""
    request_id = served.ask(some_number(502))["id"]

    browser.open("/console/requests")
    browser.find("#wanted").send_keys(some_number(502), Keys.ENTER)
    browser.until(lambda: browser.at("/console/requests/find"), "what was found")

    assert browser.every(f"a[href='/console/requests/{request_id}']")
    assert "+44********02" in browser.text()
    assert browser.troubles() == []


def test_number_is_erased_by_keyboard(browser: Browser, served: Served) -> None:
    """Find a national number, confirm with the number and a reason, and see it in the audit trail."""
    served.ask(some_number(577))
    browser.open("/console/actions")
    browser.find("#wanted").send_keys("07700 900577")
    browser.press(Keys.TAB, "GB", Keys.TAB, Keys.ENTER)
    browser.find("form[action='/console/actions/erase-number'] button").send_keys(Keys.ENTER)
    browser.until(lambda: browser.focused().get_attribute("id") == "reason", "focus on the reason")
    assert browser.barriers() == []
    browser.press("art. 17", Keys.ENTER)
    # The browser itself asks for the number.
    assert browser.at("/console/actions/erase-number")
    browser.find("#typed").send_keys(some_number(577), Keys.ENTER)

    browser.until(lambda: browser.at("/console/audit?action=number_erased"), "the audit trail")
    assert "art. 17" in browser.text()
    assert some_number(577)[3:] not in browser.text()
    assert browser.troubles() == []


def test_chart_shows_what_happened(browser: Browser, served: Served) -> None:
    """The chart's legend, its table and its drawing have the numbers that were counted."""
    served.parts.roll_up()
    before = requested(browser)
    for last in range(510, 517):
        served.ask(some_number(last))
    served.parts.pump.run()
    served.parts.roll_up()

    after = requested(browser)
    browser.find("#flow summary").click()
    table = browser.until(lambda: browser.text("#flow-table table"), "the table")
    columns = [re.split(r"\s+", line) for line in table.splitlines()[2:]]

    assert after - before == 7
    assert sum(int(cells[-4]) for cells in columns) == after
    assert browser.every("#flow svg path.line.slate[d*='L']")
    drawn = browser.driver.execute_script(
        "return document.querySelector('#flow .area svg').getBoundingClientRect().width"
    )
    assert drawn > 100
    titles = browser.driver.execute_script(
        "return [...document.querySelectorAll('#flow .hit title')].map(one => one.textContent)"
    )
    assert len(titles) == 60
    assert browser.troubles() == []


def requested(browser: Browser) -> int:
    """Return how many requests the legend of the first chart counts."""
    browser.open("/console")
    return int(browser.find("#flow .legend li b").text)


def test_alert_is_acknowledged(browser: Browser, served: Served) -> None:
    """An open alert is seen on every page; a click acknowledges it."""
    request_id = served.ask(some_number(520))["id"]
    alert_id = open_alert(served.parts, requests=[request_id])

    browser.open("/console/settings")
    assert browser.text("#alert-count").split()[-1] == "1"
    browser.find("nav a[href='/console/alerts']").click()
    browser.find(".alerts a").click()
    browser.until(lambda: browser.at(f"/console/alerts/{alert_id}"), "the alert's page")
    assert browser.every("#evidence svg rect.bar.blue")
    assert browser.every("#since svg path.limit")
    browser.find("form[action$='/acknowledge'] button").click()
    browser.until(lambda: "Acknowledged by console oq_" in browser.text(), "the acknowledgement")

    stored = served.parts.alert_admin.get(alert_id)
    assert (stored.acknowledged_by or "").startswith("console oq_")
    assert not browser.every("form[action$='/acknowledge']")
    assert browser.troubles() == []


def test_page_refreshes_itself(browser: Browser, served: Served) -> None:
    """The list grows by itself; what was open stays open, what has the focus keeps it; typing pauses it."""
    browser.open("/console/requests")
    hurry(browser)
    browser.find("#between summary").click()
    browser.until(lambda: browser.every("#between[open]"), "the details open")
    browser.find("nav a[href='/console/requests']").send_keys("")
    browser.driver.execute_script("document.querySelector('#between summary').focus()")

    first = served.ask(some_number(530))["id"]
    browser.until(lambda: browser.every(f"a[href$='{first}']"), "the new request")

    assert browser.every("#between[open]")
    assert browser.focused().tag_name == "summary"
    browser.find("#wanted").send_keys("+4477")
    browser.until(lambda: "Paused" in browser.text("#freshness"), "the pause")
    second = served.ask(some_number(531))["id"]
    browser.until(lambda: re.search(r"Updated [4-9] s ago", browser.text("#freshness")), "some seconds")
    assert not browser.every(f"a[href$='{second}']")
    assert browser.find("#wanted").get_attribute("value") == "+4477"
    browser.find("#wanted").clear()
    browser.driver.execute_script("document.activeElement.blur()")
    browser.until(lambda: browser.every(f"a[href$='{second}']"), "the refresh after the pause")
    assert browser.troubles() == []


def test_old_page_says_that_it_is_old(browser: Browser, served: Served) -> None:
    """When the server does not answer the page says so, and how old it is; when it does again, it goes on."""
    browser.open("/console/requests")
    hurry(browser)
    browser.driver.execute_cdp_cmd("Network.enable", {})
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": True, **conditions})
    browser.until(lambda: "does not answer" in browser.text("#freshness"), "the marker")
    assert browser.every("#freshness.stale")

    browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": False, **conditions})
    browser.until(lambda: not browser.every("#freshness.stale"), "the end of the marker")
    request_id = served.ask(some_number(532))["id"]
    browser.until(lambda: browser.every(f"a[href$='{request_id}']"), "a refresh")
    browser.troubles()  # of the time without a network


def test_expired_session_is_reported(browser: Browser, served: Served) -> None:
    """A page whose session has ended says so, and does not turn into the log-in by itself."""
    browser.open("/console/requests")
    hurry(browser)
    browser.forget()

    browser.until(lambda: "You are logged out" in browser.text("#freshness"), "the end of the session")

    assert browser.at("/console/requests")
    assert browser.troubles() == []


def hurry(browser: Browser) -> None:
    """Have the page refresh itself every second."""
    browser.driver.execute_script("document.getElementById('main').dataset.refresh = '1'")


def test_every_page_is_accessible(browser: Browser, served: Served) -> None:
    """No page has barriers that axe-core knows, logs an error, breaks its policy or is wider than a phone.

    Wide in the light; narrow in the dark, where colours and widths differ.
    """
    path, _ = served.sent(NUMBER)
    alert_id = open_alert(served.parts, subject="GB", requests=[path.rpartition("/")[2]])
    served.parts.alert_admin.silence(
        rule="country_conversion", subject="FR", until=clock.now() + timedelta(hours=1), by="ann"
    )
    served.parts.switch.stop(country="FR", client=None, reason="pumped", by="ann", now=clock.now())
    pages = [*PAGES, f"/console/requests/{path.rpartition('/')[2]}", f"/console/alerts/{alert_id}"]
    found: dict[str, list[str]] = {}
    for size, scheme, rules in ((WIDE, "light", ()), (NARROW, "dark", ("color-contrast",))):
        browser.show_as(size, scheme)
        for page in pages:
            browser.open(page)
            browser.driver.execute_script(
                "document.querySelectorAll('details').forEach(one => one.open = true)"
            )
            width = browser.driver.execute_script("return document.documentElement.scrollWidth")
            # The same template with other figures has no other barriers.
            barriers = [] if "?" in page else browser.barriers(*rules)
            troubles = [*barriers, *browser.troubles()]
            if width > size[0]:
                troubles.append(f"is {width} wide")
            if troubles:
                found[f"{page} {scheme}"] = troubles
    served.parts.switch.resume(country="FR", client=None, by="ann", now=clock.now())

    assert found == {}


@pytest.mark.parametrize(("size", "scheme"), [(WIDE, "dark"), (NARROW, "light")])
def test_log_in_is_accessible(stranger: Browser, size: tuple[int, int], scheme: str) -> None:
    """So it is before the log-in."""
    stranger.show_as(size, scheme)
    stranger.open("/console")

    assert stranger.barriers() == []
    assert stranger.troubles() == []


def test_policy_holds(browser: Browser) -> None:
    """What would slip into a page is neither run nor loaded: the policy is no ornament."""
    browser.open("/console/requests")

    browser.driver.execute_script(
        "const one = document.createElement('script'); one.textContent = 'window.slipped = 1';"
        "document.body.append(one);"
        "const image = document.createElement('img'); image.src = 'https://evil.example/x.png';"
        "document.body.append(image);"
    )
    lines = browser.until(browser.troubles, "violations in the log")

    assert browser.driver.execute_script("return window.slipped") is None
    assert any("Content Security Policy" in line for line in lines)
