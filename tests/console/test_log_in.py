"""Logging in: who may, for how long, and where it leads."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from unittest.mock import ANY
from urllib.parse import urlencode

import falcon
import pytest
from freezegun import freeze_time
from sqlalchemy import event
from structlog.testing import capture_logs

from otpqueue import clock
from otpqueue.api.http.concurrency import ConcurrencyLimit
from otpqueue.api.http.peers import Peers
from otpqueue.api.middleware import CallMiddleware
from otpqueue.console.authentication import console_path
from otpqueue.console.routes import mount
from otpqueue.domain.limits import LOG_IN_LIMITS, Quota
from otpqueue.limiter import LimitWindow
from otpqueue.operations.access.keys import prefix_of
from otpqueue.store.engine import connection
from tests.api.conftest import Caller, MakeCaller, MakeOtherParts
from tests.console.conftest import COOKIE, Browser, admin_key, hidden


def console_of(
    caller: Caller, *, places: ConcurrencyLimit | None = None, log_in_places: ConcurrencyLimit | None = None
) -> falcon.App[falcon.Request, falcon.Response]:
    """Return a console with places of its own."""
    app: falcon.App[falcon.Request, falcon.Response] = falcon.App(middleware=[CallMiddleware(Peers(()))])
    parts = caller.parts.console_parts
    mount(
        app, parts, places=places or ConcurrencyLimit(4), log_in_places=log_in_places or ConcurrencyLimit(2)
    )
    return app


PAGES = ["/console", "/console/requests", "/console/settings"]


def test_log_in_and_out(caller: Caller) -> None:
    """A key with the scope admin opens the console; logging out closes it in this browser."""
    browser = Browser(caller.app)

    entered = browser.log_in(caller.new_key("admin"))
    inside_it = browser.get("/console/requests")
    left = browser.send("/console/requests", "/console/log-out")
    outside = browser.get("/console/requests")

    assert (entered.status_code, entered.headers["Location"]) == (303, "/console")
    assert inside_it.status_code == 200
    assert (left.status_code, left.headers["Location"]) == (303, "/console/log-in")
    assert (outside.status_code, browser.cookies) == (303, {})


@pytest.mark.parametrize("page", PAGES)
def test_page_needs_a_session(caller: Caller, page: str) -> None:
    """Nobody sees a page without logging in, and is led to it after that."""
    browser = Browser(caller.app)

    asked = browser.get(f"{page}?status=sent")
    assert asked.status_code == 303
    login = asked.headers["Location"]
    form = hidden(browser.page(login), "/console/log-in")
    entered = browser.post("/console/log-in", **form, key=caller.new_key("admin"))

    assert login.startswith("/console/log-in?next=")
    assert entered.headers["Location"] == f"{page}?status=sent"


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/console",
        "//evil.example/console",
        "/console//evil.example",
        "/consolevil",
        "/console/../docs",
        "/console/log-in?next=/console",
        "/console\\@evil.example",
        "javascript:alert(1)",
        "/console/\n/x",
        "/console/" + "x" * 3000,
        "",
    ],
)
def test_redirects_stay_on_the_site(caller: Caller, elsewhere: str) -> None:
    """Whatever a link to the log-in says, one ends on a page of the console."""
    browser = Browser(caller.app)

    by_link = browser.log_in(caller.new_key("admin"), to=elsewhere)
    form = hidden(Browser(caller.app).page("/console/log-in"), "/console/log-in")
    other = Browser(caller.app)
    form = hidden(other.page("/console/log-in"), "/console/log-in")
    by_form = other.post("/console/log-in", **(form | {"next": elsewhere, "key": caller.new_key("admin")}))

    assert by_link.headers["Location"] == by_form.headers["Location"] == "/console"
    assert (
        console_path("/console/requests?after=2026-01-01T00:00") == "/console/requests?after=2026-01-01T00:00"
    )


@pytest.mark.parametrize("scopes", [("send",), ("send", "verify")])
def test_key_without_admin_is_refused(caller: Caller, scopes: tuple[str, ...]) -> None:
    """Callers' keys open nothing, and the page says why, as it does for unknown and revoked keys."""
    browser = Browser(caller.app)

    with capture_logs() as logs:
        of_caller = browser.log_in(caller.new_key(*scopes))
        unknown = browser.log_in("oq_abcdefgh_" + "x" * 43)
        revoked = caller.new_key("admin")
        caller.parts.keys.revoke(prefix_of(revoked), now=clock.now())
        ended = browser.log_in(revoked)

    assert of_caller.status_code == unknown.status_code == ended.status_code == 403
    assert "cannot open the console: it has neither the scope admin nor read." in of_caller.text
    assert "cannot open the console: it is not an API key of this service." in unknown.text
    assert "cannot open the console: it was revoked." in ended.text
    assert browser.get("/console").status_code == 303
    refused = [line for line in logs if line["event"] == "console_login_refused"]
    assert [line["reason"] for line in refused] == ["missing_scope", *["unauthenticated"] * 2]


def test_log_in_is_recorded_without_the_key(caller: Caller) -> None:
    """Who logged in, by the prefix of the key; the key is in no record, page or header."""
    browser, key = Browser(caller.app), caller.new_key("admin")

    with capture_logs() as logs:
        answer = browser.log_in(key)
        page = browser.page("/console/requests")
        wrong = browser.log_in(key + "x")

    (entered,) = [line for line in logs if line["event"] == "console_login"]
    assert entered == {
        "event": "console_login",
        "log_level": "info",
        "prefix": "_".join(key.split("_")[:2]),
        "client": caller.client,
        "peer": ANY,
    }
    for text in (json.dumps(logs, default=str), page, wrong.text, str(answer.headers)):
        assert key.split("_", 2)[2] not in text


def test_session_ends_with_its_key(caller: Caller) -> None:
    """A key that is revoked, has expired, or lost its scope closes every session that it opened."""
    endings = {
        "revoked": "revoked_at = now()",
        "expired": "expires_at = now()",
        "no admin any more": "scopes = '{send}'",
    }
    for why, change in endings.items():
        key = caller.new_key("admin")
        browser = Browser(caller.app)
        browser.log_in(key)
        assert browser.get("/console/settings").status_code == 200

        prefix = "_".join(key.split("_")[:2])
        caller.execute(f"UPDATE api_keys SET {change} WHERE prefix = :prefix", prefix=prefix)

        assert browser.get("/console/settings").status_code == 303, why
        assert browser.cookies == {}, why


def test_session_ends_by_itself(caller: Caller) -> None:
    """After an hour without a page, and after twelve hours whatever was done; pages keep it alive between."""
    key = caller.new_key("admin")
    with freeze_time(clock.now(), ignore=["asyncio", "otpqueue.operations.access.cache"]) as now:
        idle, busy, watching = (Browser(caller.app) for _ in range(3))
        for browser in (idle, busy, watching):
            browser.log_in(key)
        lived = 0
        while busy.get("/console/settings").status_code == 200:
            lived += 1
            now.tick(timedelta(minutes=50))
            if lived <= 2:
                # A page that refreshes itself keeps nothing alive.
                refreshed = watching.get("/console/settings", **{"X-Console-Refresh": "1"})
        assert refreshed.status_code == 303
        assert idle.get("/console/settings").status_code == 303

    assert lived == 15  # 12 hours in steps of 50 minutes


def test_cookie_is_bound_and_strict(caller: Caller) -> None:
    """Scripts cannot read the cookie, other sites cannot send it; where there is HTTPS it needs it."""
    plain, safe = Browser(caller.app), Browser(caller.app, https=True)

    one = plain.log_in(caller.new_key("admin")).cookies[COOKIE]
    other = safe.log_in(caller.new_key("admin")).cookies[f"__Host-{COOKIE}"]

    for cookie in (one, other):
        assert cookie.http_only
        assert cookie.same_site == "Strict"
        assert (cookie.path, cookie.domain) == ("/", None)
    assert (one.secure, other.secure) == (False, True)
    # A cookie that was set without HTTPS counts for nothing with it.
    tossed = Browser(caller.app, https=True, cookies=dict(plain.cookies))
    assert tossed.get("/console").status_code == 303


def test_https_required(make_caller: MakeCaller) -> None:
    """Where HTTPS is required the console is a page that says so, and the cookie needs it."""
    caller = make_caller(OTPQUEUE_REQUIRE_HTTPS="true", OTPQUEUE_TRUSTED_PROXIES="1")
    plain = Browser(caller.app, headers={"X-Forwarded-Proto": "http"})
    safe = Browser(caller.app, headers={"X-Forwarded-Proto": "https"})

    refused = plain.get("/console/log-in")
    entered = safe.log_in(admin_key(caller.parts))

    assert refused.status_code == 403
    assert "HTTPS required" in refused.text
    assert entered.cookies[f"__Host-{COOKIE}"].secure


def test_forged_or_foreign_cookie_opens_nothing(caller: Caller, make_other_parts: MakeOtherParts) -> None:
    """A cookie that was changed, or signed elsewhere, is no session."""
    browser = Browser(caller.app)
    browser.log_in(caller.new_key("admin"))
    good = browser.cookies[COOKIE]
    body, _, signature = good.partition(".")

    for bad in (good[:-2] + "xx", f"{body[:-2]}AA.{signature}", body, "", "x" * 5000, "[]." + signature):
        assert Browser(caller.app, cookies={COOKIE: bad}).get("/console").status_code == 303
    elsewhere = caller.over(
        make_other_parts(OTPQUEUE_HASH_KEY="aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGg=")
    )
    assert Browser(elsewhere.app, cookies=dict(browser.cookies)).get("/console").status_code == 303
    assert Browser(caller.app, cookies={COOKIE: good}).get("/console/settings").status_code == 200


def test_sessions_outlive_the_replacement_of_the_hash_key(
    caller: Caller, module_settings: dict[str, str], make_other_parts: MakeOtherParts
) -> None:
    """While the look-up key is being replaced, sessions signed with the old one go on."""
    browser = Browser(caller.app)
    browser.log_in(caller.new_key("admin"))
    old, new = module_settings["OTPQUEUE_HASH_KEY"], "aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGg="

    replacing = caller.over(make_other_parts(OTPQUEUE_HASH_KEY=f"{new},{old}"))

    assert Browser(replacing.app, cookies=dict(browser.cookies)).get("/console/settings").status_code == 200


def test_csrf(caller: Caller, operator: Browser) -> None:
    """A form without the token of this very session does nothing."""
    other = Browser(caller.app)
    other.log_in(caller.new_key("admin"))
    foreign = hidden(other.page("/console/settings"), "/console/log-out")["token"]
    own = hidden(operator.page("/console/settings"), "/console/log-out")["token"]

    for token in ("", "x", foreign, own[:-1]):
        assert operator.post("/console/log-out", token=token).status_code == 403
    operator.headers["Sec-Fetch-Site"] = "cross-site"
    assert operator.post("/console/log-out", token=own).status_code == 403
    operator.headers["Sec-Fetch-Site"] = "same-origin"

    assert operator.get("/console/settings").status_code == 200
    assert operator.post("/console/log-out", token=own).status_code == 303


def test_log_in_form_needs_its_page(caller: Caller) -> None:
    """A stranger cannot log a browser in: the form must be of a page that this browser was shown."""
    key = caller.new_key("admin")
    theirs = hidden(Browser(caller.app).page("/console/log-in"), "/console/log-in")
    victim = Browser(caller.app)

    without_page = victim.post("/console/log-in", **theirs, key=key)
    victim.page("/console/log-in")
    foreign_form = victim.post("/console/log-in", **theirs, key=key)

    assert without_page.status_code == foreign_form.status_code == 403
    assert victim.get("/console").status_code == 303


def test_log_in_gets_a_fresh_session(caller: Caller) -> None:
    """Who planted a session before the log-in does not have the one after it."""
    browser = Browser(caller.app)
    browser.page("/console/log-in")
    planted = dict(browser.cookies)

    browser.log_in(caller.new_key("admin"))

    assert Browser(caller.app, cookies=planted).get("/console").status_code == 303


def test_refused_log_ins_are_limited_by_address(make_caller: MakeCaller) -> None:
    """After ten refused log-ins from one address in a quarter of an hour more are 429; good keys go on."""
    caller = make_caller(OTPQUEUE_TRUSTED_PROXIES="1")
    key = admin_key(caller.parts)

    def browser(address: str) -> Browser:
        return Browser(caller.app, headers={"X-Forwarded-For": address})

    for _ in range(12):
        assert browser("203.0.113.7").log_in(key).status_code == 303
    refused = [browser("203.0.113.7").log_in("oq_wrong") for _ in range(11)]

    assert [one.status_code for one in refused] == [403] * 10 + [429]
    assert int(refused[10].headers["Retry-After"]) > 800
    assert browser("203.0.113.7").log_in(key).status_code == 303
    assert browser("203.0.113.8").log_in("oq_wrong").status_code == 403
    # Of IPv6 an address is a whole network.
    for last in range(10):
        browser(f"2001:db8::{last + 1}").log_in("oq_wrong")
    assert browser("2001:db8::ffff").log_in("oq_wrong").status_code == 429
    assert browser("2001:db8:0:1::1").log_in("oq_wrong").status_code == 403


def test_failed_log_ins_of_others_lock_no_operator_out(make_caller: MakeCaller) -> None:
    """When strangers have used up what all of them have, and hold all places, a right key is let in."""
    caller = make_caller(OTPQUEUE_TRUSTED_PROXIES="1", OTPQUEUE_TUNING_ACCESS_CACHE_S="5")
    log_in, room, key = caller.parts.console_parts.console_login, ConcurrencyLimit(1), admin_key(caller.parts)
    windows = [
        LimitWindow(limit=limit, quota=Quota(1, 900), subject=log_in.vault.limit_hash(b"log_in"))
        for limit in LOG_IN_LIMITS[1:]
    ]
    log_in.limiter.count_call(windows)
    app = console_of(caller, log_in_places=room)

    assert Browser(app).log_in(key).status_code == 303
    with room.slot():
        stranger, operator = Browser(app).log_in("oq_x"), Browser(app).log_in(key)
        no_admin = Browser(app).log_in(caller.new_key("send"))

    assert (stranger.status_code, no_admin.status_code, operator.status_code) == (503, 503, 303)


def test_unknown_keys_cost_no_connection(caller: Caller, make_other_parts: MakeOtherParts) -> None:
    """Of many log-ins with unknown keys few ask Postgres: the first in a while, and recorded ones."""
    other = caller.over(make_other_parts(OTPQUEUE_TUNING_ACCESS_CACHE_S="5"))
    lent: list[object] = []
    event.listen(other.parts.console_parts.engine, "checkout", lambda *_: lent.append(None))

    started = time.monotonic()
    answers = [Browser(other.app).log_in(f"oq_{nth}").status_code for nth in range(40)]
    took_s = time.monotonic() - started

    assert set(answers) <= {403, 429}
    # Windows of 0.1 s that the time touches, the first and the last in part; refusals within the limit.
    recorded = Quota.parse(LOG_IN_LIMITS[0].default).amount
    assert len(lent) <= 2 * (took_s // 0.1 + 2) + recorded


def test_log_ins_take_no_place_of_a_page(caller: Caller, operator: Browser) -> None:
    """Strangers who hold all places for logging in hold up no page."""
    room = ConcurrencyLimit(1)
    browser = Browser(console_of(caller, log_in_places=room), cookies=dict(operator.cookies))

    with room.slot():
        assert browser.get("/console/settings").status_code == 200


def test_limits_of_log_ins_can_be() -> None:
    """The quotas are some that the limiter can keep."""
    assert [Quota.parse(limit.default) for limit in LOG_IN_LIMITS] == [Quota(10, 900), Quota(600, 900)]


def test_link_from_another_site(caller: Caller, operator: Browser) -> None:
    """Who follows a link in a notice is not asked to log in again: our own page leads on, cookie and all."""
    stranger = Browser(caller.app)

    arrived = stranger.get("/console/requests?status=sent", **{"Sec-Fetch-Site": "cross-site"})
    led_on = operator.get("/console/requests?status=sent", **{"Sec-Fetch-Site": "same-origin"})

    assert arrived.status_code == 200
    assert 'http-equiv="refresh" content="0;url=/console/requests?status=sent"' in arrived.text
    assert led_on.status_code == 200


def test_switched_off(make_caller: MakeCaller) -> None:
    """Without the console nothing of it is there."""
    caller = make_caller(OTPQUEUE_CONSOLE="false")

    for path in ("/console", "/console/log-in", "/console/assets/console.css"):
        assert Browser(caller.app).get(path).status_code == 404


def test_database_down(
    caller: Caller, operator: Browser, make_other_parts: MakeOtherParts, nowhere: str
) -> None:
    """Without Postgres a page says so, shows nothing, and tells what to do; logging in says it, too."""
    cut_off = caller.over(make_other_parts(DATABASE_URL=f"postgresql://someone:hunter2@{nowhere}/x"))
    browser = Browser(cut_off.app, cookies=dict(operator.cookies))
    stranger = Browser(cut_off.app)

    for answer in (browser.get("/console"), browser.get("/console/requests"), stranger.log_in("oq_x")):
        assert answer.status_code == 503
        assert "Postgres does not answer" in answer.text
        assert "Redis</b> connected" in answer.text
        assert "hunter2" not in answer.text
    assert stranger.get("/console").status_code == 303


def test_redis_down(caller: Caller, make_other_parts: MakeOtherParts, nowhere: str) -> None:
    """Without Redis operators log in all the same, and the first page says what that means."""
    cut_off = caller.over(make_other_parts(REDIS_URL=f"redis://:hunter2@{nowhere}/0"))
    browser = Browser(cut_off.app)

    entered = browser.log_in(caller.new_key("admin"))
    page = browser.page("/console")

    assert entered.status_code == 303
    assert "Redis does not answer" in page
    assert "hunter2" not in page


def test_api_without_connections(caller: Caller, make_other_parts: MakeOtherParts) -> None:
    """The console has connections of its own: it answers when those of the API are all lent out."""
    parts = make_other_parts(OTPQUEUE_DATABASE_POOL="2", OTPQUEUE_TUNING_DATABASE_WAIT_S="0.1")
    busy = caller.over(parts)
    browser = Browser(busy.app)
    browser.log_in(busy.new_key("admin"))

    with connection(parts.engine), connection(parts.engine):
        of_api = busy.get("/v1/otp-requests/00000000-0000-7000-8000-000000000000")
        of_console = browser.get("/console")

    assert of_api.status_code == 503
    assert of_console.status_code == 200


def test_console_without_places(caller: Caller, operator: Browser) -> None:
    """When all places of the console are taken it says so; the API has others."""
    room = ConcurrencyLimit(1)
    app = console_of(caller, places=room)
    browser = Browser(app, cookies=dict(operator.cookies))

    with room.slot():
        answer, stranger = browser.get("/console"), Browser(app).get("/console")
    after = browser.get("/console/settings")

    assert answer.status_code == 503
    assert "Try again" in answer.text
    assert stranger.status_code == 303
    assert after.status_code == 200


def test_form_that_is_none(operator: Browser) -> None:
    """What is not a form of ours is refused with a page."""
    for body, content_type in (
        (b"{}", "application/json"),
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
        (b"&".join(b"a=1" for _ in range(100)), "application/x-www-form-urlencoded"),
    ):
        answer = operator.call("POST", "/console/log-out", body=body, headers={"Content-Type": content_type})
        assert answer.status_code == 400
        assert "<!doctype html>" in answer.text


def test_slash_at_the_end(caller: Caller) -> None:
    """People type it: it leads to the console."""
    answer = Browser(caller.app).get("/console/")

    assert (answer.status_code, answer.headers["Location"]) == (302, "/console")


def test_unknown_page(operator: Browser) -> None:
    """What is not there is a page that says so."""
    for path in ("/console/nothing", "/console/requests/x/y", f"/console/requests/{'0' * 8}"):
        answer = operator.get(path)
        assert answer.status_code == 404
        assert "Not found" in answer.text
    assert operator.get("/console?" + urlencode({"span": "<b>"})).status_code == 200
