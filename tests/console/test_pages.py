"""What the pages show, and what they never show."""

from __future__ import annotations

import json
from datetime import timedelta
from html.parser import HTMLParser
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from otpqueue import clock
from otpqueue.domain.request import SHOWN, Status
from otpqueue.settings import Settings
from otpqueue.settings.fields import get_facts
from tests.api.conftest import Caller, MakeCaller, wrong
from tests.api.test_pages import safe
from tests.console.alerting import open_alert
from tests.console.conftest import Browser, admin_key, hidden, words

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
PAGES = [
    "/console",
    "/console?span=24h",
    "/console/requests",
    "/console/requests?status=sent&last=1h",
    "/console/alerts",
    "/console/countries",
    "/console/countries?by=client&span=1h&sort=cost",
    "/console/settings",
]


def test_pages_are_there_when_nothing_happened(lonely: Caller) -> None:
    """With empty tables every page is there, safe, and says that there is nothing."""
    browser = Browser(lonely.app)
    browser.log_in(lonely.new_key("admin"))

    for path in PAGES:
        page = safe(browser.get(path))
        assert len(page.ids) == len(set(page.ids)), path
        assert "main" in page.ids


def test_all_links_lead_somewhere(caller: Caller, operator: Browser) -> None:
    """Every link of every page, a request's and an alert's too, leads to a page."""
    caller.sent()
    alert_id = open_alert(caller.parts, requests=[])
    seen: set[str] = set()
    waiting = ["/console", f"/console/alerts/{alert_id}"]
    while waiting:
        path = waiting.pop()
        seen.add(path)
        answer = operator.get(path)
        assert answer.status_code == 200, path
        for link in safe(answer).links if path.startswith("/console") and "assets" not in path else ():
            place = link.partition("#")[0]
            post_only = place.endswith(("/log-out", "/find", "/acknowledge", "/silence", "/end", "-number"))
            # Sorted and filtered in every way, and every request: some of each will do.
            if place and not post_only and place not in seen | set(waiting) and len(seen) < 80:
                waiting.append(place)
    assert {"/console/requests", "/console/alerts", "/console/countries", "/console/settings"} <= seen
    assert any(path.startswith("/console/requests/") for path in seen)


def test_answers_are_not_kept(operator: Browser) -> None:
    """Pages are not cached anywhere; the files they need are, under names that change with them."""
    page = operator.get("/console/requests")
    assets = [link for link in safe(page).links if "assets" in link]

    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Frame-Options"] == "DENY"
    assert "script-src 'self';" in page.headers["Content-Security-Policy"]
    assert len(assets) == 3
    for link in assets:
        answer = operator.get(link)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["Cache-Control"]
        assert "?v=" in link
    assert operator.get("/console/assets/../layout.py").status_code == 404
    assert operator.get("/console/assets/none.css").status_code == 404


def test_list_and_filters(make_caller: MakeCaller) -> None:
    """Newest first, of every client; by status, client and time."""
    caller = make_caller()
    browser = Browser(caller.app)
    browser.log_in(admin_key(caller.parts))
    path, code = caller.sent()
    assert caller.verify(path, code).status_code == 200
    caller.ask()
    old = caller.ask(session_id="old")
    caller.become(old, "created_at = now() - interval '3 hours'")

    def shown(query: str) -> list[str]:
        page = browser.page(f"/console/requests?{query}")
        return [link for link in Links(page).found if link.startswith("/console/requests/0")]

    of_client = f"client={caller.client}"
    everything = shown(of_client)
    assert len(everything) == 3
    assert everything[-1].endswith(old.rpartition("/")[2])
    assert shown(f"{of_client}&status=verified") == [f"/console/requests/{path.rpartition('/')[2]}"]
    assert len(shown(f"{of_client}&last=1h")) == 2
    before = (clock.now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    assert len(shown(f"{of_client}&before={before}")) == 1
    assert shown(f"{of_client}&status=locked") == []
    assert {*Status} <= SHOWN


@pytest.mark.parametrize(
    "query",
    ["status=nonsense", "client=nobody", "last=1y", "after=yesterday", "before=9999-12-31T23:59", "cursor=x"],
)
def test_filter_that_cannot_be(operator: Browser, query: str) -> None:
    """A filter that cannot be is told with its name."""
    answer = operator.get(f"/console/requests?{query}")

    assert answer.status_code == 400
    assert query.partition("=")[0] in words(answer.text)


def test_paging(make_caller: MakeCaller) -> None:
    """Older requests are reached page by page, with the filter that the list began with."""
    caller = make_caller(
        OTPQUEUE_LIMIT_NUMBER_15M="off",
        OTPQUEUE_LIMIT_NUMBER_DAY="off",
        OTPQUEUE_LIMIT_NUMBER_DAY_ALL="off",
        OTPQUEUE_GUARD="off",
    )
    browser = Browser(caller.app)
    browser.log_in(admin_key(caller.parts))
    made = [caller.ask(session_id=f"s{number}").rpartition("/")[2] for number in range(60)]

    found, path = [], f"/console/requests?client={caller.client}&last=1h"
    for _ in range(3):
        page = browser.page(path)
        links = Links(page)
        found += [one.rpartition("/")[2] for one in links.found if one.startswith("/console/requests/0")]
        path = links.by_text.get("Older", "")
        if not path:
            break

    assert found == made[::-1]
    assert "End of list" in words(page)


def test_number_is_found_by_post(caller: Caller, operator: Browser) -> None:
    """A number finds its requests; it is in no address, and no record."""
    path = caller.ask()
    request_id = path.rpartition("/")[2]

    with capture_logs() as logs:
        answer = operator.send("/console/requests", "/console/requests/find", wanted=caller.number)

    assert answer.status_code == 200
    assert f"/console/requests/{request_id}" in answer.text
    assert caller.number[3:] not in answer.text
    assert caller.number[1:] not in json.dumps(logs, default=str)
    assert operator.get("/console/requests/find").status_code == 303


def test_older_requests_of_a_number(make_caller: MakeCaller) -> None:
    """The number of the next page is sealed: it opens in this session, and in no other."""
    caller = make_caller(
        OTPQUEUE_LIMIT_NUMBER_15M="off",
        OTPQUEUE_LIMIT_NUMBER_DAY="off",
        OTPQUEUE_LIMIT_NUMBER_DAY_ALL="off",
        OTPQUEUE_GUARD="off",
    )
    browser, other = Browser(caller.app), Browser(caller.app)
    for one in (browser, other):
        one.log_in(admin_key(caller.parts))
    made = [caller.ask(session_id=f"s{number}").rpartition("/")[2] for number in range(55)]

    first = browser.send("/console/requests", "/console/requests/find", wanted=caller.number)
    action = "/console/requests/find"
    form = hidden(first.text[first.text.index('<form class="pages"') :], action)
    second = browser.post(action, **form)
    token = hidden(other.page("/console/requests"), action)["token"]
    foreign = other.post(action, **(form | {"token": token}))
    forged = browser.post(action, **(form | {"sealed": form["sealed"][:-4] + "AAAA"}))

    shown = [one.rpartition("/")[2] for page in (first, second) for one in Links(page.text).found]
    assert [one for one in shown if one in made] == made[::-1]
    assert caller.number[3:] not in first.text + second.text
    assert foreign.status_code == forged.status_code == 403


def test_search_by_id_or_number(caller: Caller, operator: Browser) -> None:
    """An id leads to its request; what is neither id nor number is said to be none."""
    request_id = caller.ask().rpartition("/")[2]

    def find(wanted: str) -> tuple[int, str]:
        answer = operator.send("/console/requests", "/console/requests/find", wanted=wanted)
        return answer.status_code, answer.headers.get("Location") or words(answer.text)

    assert find(f" {request_id} ") == (303, f"/console/requests/{request_id}")
    for nonsense in ("hello", "+44", EVIL, ""):
        status, text = find(nonsense)
        assert status == 200
        assert "nor a phone number" in text
    assert "No requests for this number" in find("+447700900999")[1]


def test_number_that_is_locked_says_so(caller: Caller, operator: Browser) -> None:
    """Who looks for a number learns what stands against it, and the command that lifts it."""
    path, code = caller.sent()
    caller.verify(path, wrong(code))
    caller.execute("UPDATE number_guesses SET wrong_in_a_row = 99 WHERE client_id = :id", id=caller.client_id)

    answer = operator.send("/console/requests", "/console/requests/find", wanted=caller.number)

    assert f"Locked for the client {caller.client}" in words(answer.text)
    assert "otpqueue numbers unlock" in words(answer.text)


def test_one_request(caller: Caller, operator: Browser) -> None:
    """A request's page tells all that happened, in order, with nothing secret in it."""
    path, code = caller.sent(client_reference="cart-1", session_id="s")
    caller.verify(path, wrong(code), session_id="s")
    assert caller.verify(path, code, session_id="s").status_code == 200
    request_id = path.rpartition("/")[2]

    page = operator.page(f"/console/requests/{request_id}")
    text = words(page)

    told = [
        "accepted: ",
        "attempt 1 claimed",
        "attempt 1 accepted",
        "queued → sent",
        "check 1 wrong",
        "check 2 correct",
        "sent → verified",
    ]
    places = [text.index(one) for one in told]
    assert places == sorted(places)
    for shown in (request_id, caller.client, "cart-1", "The correct code was entered", "2 of 5"):
        assert shown in text
    (pin_id,) = caller.execute("SELECT pin_id FROM otp_requests WHERE id = :id", id=request_id)[0]
    for secret in (code, caller.number, caller.number[3:], pin_id):
        assert secret not in page
    assert "data-refresh" not in page, "nothing changes any more"


def test_live_request_refreshes(caller: Caller, operator: Browser) -> None:
    """The page of a request that is not over refreshes itself, and says what may still happen."""
    path, _ = caller.sent()

    page = operator.page(f"/console/requests/{path.rpartition('/')[2]}")

    assert 'data-refresh="5"' in page
    assert "It can be checked until" in words(page)


def test_unknown_request(operator: Browser) -> None:
    """A request that is not there, or no id, is a page that says so."""
    for wanted in (uuid4(), "x", "%3Cscript%3E"):
        answer = operator.get(f"/console/requests/{wanted}")
        assert answer.status_code == 404
        assert "<script>" not in answer.text


def test_everything_is_escaped(lonely: Caller) -> None:
    """What callers, operators and the provider write is text on every page, never markup."""
    caller = lonely
    browser = Browser(caller.app)
    browser.log_in(admin_key(caller.parts, client=EVIL[:64]))
    caller.client = EVIL[:60]
    caller.key = caller.new_key("send", "verify")
    path, _ = caller.sent(client_reference=EVIL)
    request_id = path.rpartition("/")[2]
    caller.become(path, "provider_code = '<i>CODE</i>', status = 'failed', finished_at = now()")
    caller.execute(
        "UPDATE send_attempts SET code = '<b>c</b>', worker = '<b>w</b>' WHERE request_id = :id",
        id=request_id,
    )
    caller.parts.switch.stop(country=None, client=EVIL[:60], reason=EVIL, by=EVIL, now=clock.now())
    alert_id = open_alert(caller.parts, subject=EVIL, requests=[request_id], reasons={EVIL: 3})
    caller.parts.alert_admin.silence(
        rule="country_conversion", subject=EVIL, until=clock.now() + timedelta(hours=1), by=EVIL, reason=EVIL
    )
    caller.parts.roll_up()

    for page in (
        "/console",
        "/console/requests",
        f"/console/requests/{request_id}",
        "/console/alerts",
        f"/console/alerts/{alert_id}",
        "/console/countries?by=client",
        "/console/settings",
    ):
        text = safe(browser.get(page)) and browser.page(page)
        for bad in ("<script>alert", "<img src=x", "<i>CODE", "<b>c</b>", "<b>w</b>"):
            assert bad not in text, page
    caller.parts.switch.resume(country=None, client=EVIL[:60], by="test", now=clock.now())


def test_settings_hide_secrets(make_caller: MakeCaller) -> None:
    """Every setting is listed, whether it is set or a default; of secrets only that they are set."""
    until = (clock.now() + timedelta(days=30)).date()
    secrets = {
        "OTPQUEUE_RECEIPTS_USER": "infobip",
        "OTPQUEUE_RECEIPTS_PASSWORD": "hunter2-receipts",
        "OTPQUEUE_METRICS_TOKEN": "hunter2-metrics-token",
        "OTPQUEUE_ALERT_WEBHOOK_URL": "https://hooks.example/hunter2",
        "OTPQUEUE_TEST_NUMBERS": f'{{"+447700900017": {{"code": "271828", "until": "{until}"}}}}',
        "INFOBIP_APP_NAME": "my-app",
    }
    caller = make_caller(**secrets)
    browser = Browser(caller.app)
    browser.log_in(admin_key(caller.parts))

    page = browser.page("/console/settings")
    text = words(page)

    for field in Settings.model_fields.values():
        assert str(field.alias) in text or get_facts(field).constant
    settings = caller.parts.settings
    for hide in (
        *(value for name, value in secrets.items() if "USER" not in name and name != "INFOBIP_APP_NAME"),
        *("447700900017", "271828", "hunter2"),
        settings.require("database_url"),
        settings.require("redis_url"),
        settings.require("seal_keys"),
        settings.require("hash_key"),
        settings.require("infobip_api_key"),
    ):
        assert hide not in page, hide
    assert "OTPQUEUE_RECEIPTS_PASSWORD secret, set" in text
    assert "OTPQUEUE_SMTP_URL secret, not set" in text
    assert "INFOBIP_APP_NAME my-app" in text
    assert "OTPQUEUE_TEST_NUMBERS 1 set" in text
    assert text.index("OTPQUEUE_RECEIPTS_USER") < text.index("Defaults ") < text.index("OTPQUEUE_HOST")


def test_stop_is_on_every_page(lonely: Caller) -> None:
    """While sending is stopped each page says it first, by whom, why, and what lets it go on."""
    caller = lonely
    browser = Browser(caller.app)
    browser.log_in(admin_key(caller.parts))
    caller.parts.switch.stop(
        country=None, client=None, reason="bill runs away", by="ann@ops", now=clock.now()
    )

    for page in PAGES:
        text = words(browser.page(page))
        assert "Sending is stopped for everything. By ann@ops" in text
        assert "bill runs away" in text
        assert "otpqueue resume-sending ( docs/sending-policy )" in text
    verdict = words(browser.page("/console"))
    caller.parts.switch.resume(country=None, client=None, by="ann@ops", now=clock.now())

    assert verdict.index("Reload Sending is stopped for everything") > 0
    assert "Sending is stopped" not in words(browser.page("/console/requests"))


def test_numbers_of_now(lonely: Caller) -> None:
    """The charts, their tables and the list of countries show what was counted."""
    caller = lonely
    browser = Browser(caller.app)
    browser.log_in(admin_key(caller.parts))
    for _ in range(3):
        path, code = caller.sent(session_id=str(uuid4()))
        caller.verify(path, wrong(code), session_id=None)
    caller.parts.roll_up()

    page = browser.page("/console")
    countries = words(browser.page("/console/countries?span=1h"))
    clients = words(browser.page("/console/countries?by=client&span=24h"))

    legend = words(page[page.index('id="flow"') : page.index('id="failures"')])
    assert "requested 3" in legend
    assert "sent 3" in legend
    assert "verified 0" in legend
    assert "3 sent of 3 requested, 0 verified" in countries
    assert f"{caller.client} 3 3" in clients


def test_alert_is_acknowledged_and_silenced(lonely: Caller) -> None:
    """An alert's page has its evidence; who acknowledges or silences it is noted by a key's prefix."""
    caller = lonely
    browser, key = Browser(caller.app), admin_key(caller.parts)
    browser.log_in(key)
    prefix = "_".join(key.split("_")[:2])
    request_id = caller.ask().rpartition("/")[2]
    alert_id = open_alert(caller.parts, number_hash=b"h" * 32, requests=[request_id])
    place = f"/console/alerts/{alert_id}"

    assert "1 alert open" in words(browser.page("/console/alerts"))
    assert "One number requests too many codes" in words(browser.page("/console"))
    assert place in browser.page(f"/console/requests/{request_id}")
    with capture_logs() as logs:
        acknowledged = browser.send(place, f"{place}/acknowledge")
        silenced = browser.send(
            place, f"{place}/silence", **{"for": "4h", "what": "subject", "reason": "known"}
        )
    page = words(browser.page(place))
    listed = browser.page("/console/alerts")
    (silence,) = caller.parts.alert_admin.silences()
    ended = browser.send("/console/alerts", f"/console/silences/{silence.id}/end")

    assert [one.status_code for one in (acknowledged, silenced, ended)] == [303] * 3
    assert f"Acknowledged by console {prefix}" in page
    assert "No notifications until" in page
    assert "acknowledged by console" in page
    assert "Active silences" in words(listed)
    assert silence.silenced_by == f"console {prefix}"
    assert silence.reason == "known"
    assert caller.parts.alert_admin.silences() == []
    events = {line["event"]: line for line in logs}
    assert events["alert_acknowledged"]["by"] == events["alert_silenced"]["by"] == f"console {prefix}"
    assert key.split("_", 2)[2] not in json.dumps(logs, default=str)
    # What was acknowledged is not shouted any more.
    assert "One number requests too many codes" not in words(browser.page("/console"))


@pytest.mark.parametrize("fields", [{"for": "1y"}, {}, {"for": "1h", "reason": "+447700900123 again"}])
def test_silence_that_cannot_be(caller: Caller, operator: Browser, fields: dict[str, str]) -> None:
    """A silence of no length, or with a number in its reason, is refused and says why."""
    place = f"/console/alerts/{open_alert(caller.parts, number_hash=uuid4().bytes * 2, requests=[])}"

    answer = operator.send(place, f"{place}/silence", **fields)

    assert answer.status_code == 400
    assert set(words(answer.text).split()) & {"for", "reason"}


def test_actions_need_their_form(caller: Caller, operator: Browser) -> None:
    """Nothing is acknowledged, silenced or searched without the token of the session, or by a stranger."""
    alert_id = open_alert(caller.parts, subject=f"x{uuid4().hex[:6]}", requests=[])
    place = f"/console/alerts/{alert_id}"
    stranger = Browser(caller.app)

    for action in (f"{place}/acknowledge", f"{place}/silence", "/console/requests/find"):
        assert operator.post(action, **{"for": "1h", "wanted": "x"}).status_code == 403
        asked = stranger.post(action, token="x")
        assert asked.status_code == 303
        assert asked.headers["Location"].startswith("/console/log-in")
        assert operator.call("GET", action).status_code in {303, 405}
    assert caller.parts.alert_admin.get(alert_id).acknowledged_at is None
    assert (
        operator.post(
            f"/console/alerts/{uuid4()}/acknowledge",
            **hidden(operator.page("/console"), "/console/log-out"),
        ).status_code
        == 404
    )


class Links(HTMLParser):
    """The links of a page, by their text too."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.by_text: dict[str, str] = {}
        self._open = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self._open = dict(attrs).get("href") or ""
            self.found.append(self._open)

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open:
            self.by_text[data.strip()] = self._open
