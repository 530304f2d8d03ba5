"""What operators do in the console: confirmed, with a reason, recorded, and only with the right key."""

from __future__ import annotations

import re
from collections.abc import Callable
from uuid import uuid4

import pytest

from otpqueue import clock
from otpqueue.console.action_catalog import ACTIONS
from otpqueue.domain.audit import AuditEntry, AuditFilters, AuditSurface, OperatorAction
from otpqueue.domain.request import Status
from tests.api.conftest import Caller, MakeCaller
from tests.console.alerting import open_alert
from tests.console.conftest import Browser, admin_key, hidden, words

ACT = "/console/actions"


def trail(caller: Caller, **filters: object) -> list[AuditEntry]:
    """Return the newest entries of the console."""
    wanted = AuditFilters(surface=AuditSurface.CONSOLE, **filters)  # type: ignore[arg-type]
    return list(caller.parts.audit.list(wanted, cursor=None, limit=50).entries)


def find_number(caller: Caller, browser: Browser, number: str | None = None) -> str:
    """Search for a number and return the page."""
    answer = browser.send(
        "/console/requests", "/console/requests/find", wanted=number or caller.number, country=""
    )
    assert answer.status_code == 200
    return str(answer.text)


def confirm(browser: Browser, page: str, name: str, **fields: str) -> str:
    """Send the form of an action's page, and return where it leads."""
    answer = browser.post(f"{ACT}/{name}", **(hidden(page, f"{ACT}/{name}") | fields))
    assert answer.status_code == 303, words(answer.text)
    return str(answer.headers["Location"])


def of_number(caller: Caller, browser: Browser, name: str, **fields: str) -> str:
    """Act on the caller's number, from the page of its search on."""
    found = find_number(caller, browser)
    asked = browser.post(f"{ACT}/{name}", **hidden(found, f"{ACT}/{name}"))
    assert asked.status_code == 200
    assert caller.number[3:] not in asked.text
    return confirm(browser, asked.text, name, **fields)


def by_link(browser: Browser, name: str, query: str = "", **fields: str) -> str:
    """Act by an action's page, as a link opens it."""
    return confirm(browser, browser.page(f"{ACT}/{name}{query}"), name, **fields)


def stop(caller: Caller, operator: Browser) -> None:
    """Stop sending to a country, and resume from the banner."""
    by_link(operator, "stop-sending", country="FR", reason="a test")
    assert [one.what for one in caller.parts.switch.stops()] == ["country FR"]
    link = re.search(rf'"({ACT}/resume-sending[^"]*)"', operator.page("/console"))
    assert link
    assert link[1].endswith("?country=FR")


def resume(caller: Caller, operator: Browser) -> None:
    """Resume by the link of the banner."""
    caller.parts.switch.stop(country="FR", client=None, reason=None, by="a test", now=clock.now())
    by_link(operator, "resume-sending", "?country=FR", reason="a test")
    assert caller.parts.switch.stops() == ()


def block(caller: Caller, operator: Browser) -> None:
    """Block a number; its page then offers to unblock it."""
    place = of_number(caller, operator, "block-number", reason="a test", until="2099-01-01")
    assert place == "/console/audit?action=number_blocked"
    page = find_number(caller, operator)
    assert "Blocked since" in words(page)
    assert "a test" in words(page)
    assert f'"{ACT}/block-number"' not in page


def unblock(caller: Caller, operator: Browser) -> None:
    """Unblock a number."""
    caller.parts.blocklist.block(caller.number, reason=None, until=None, now=clock.now())
    of_number(caller, operator, "unblock-number", reason="a test")
    assert caller.parts.blocklist.find(caller.number, now=clock.now()) is None


def unlock(caller: Caller, operator: Browser) -> None:
    """Unlock a number after wrong codes."""
    caller.sent()
    caller.execute(
        "INSERT INTO number_guesses (client_id, number_hash, wrong_in_a_row, updated_at) "
        "SELECT client_id, number_hash, 100, now() FROM otp_requests WHERE client_id = :id",
        id=caller.client_id,
    )
    of_number(caller, operator, "unlock-number", reason="a test")
    (status,) = caller.parts.numbers.status(caller.number, now=clock.now())
    assert not status.locked


def erase(caller: Caller, operator: Browser) -> None:
    """Erase a number, which must be typed again in whole."""
    caller.sent()
    found = find_number(caller, operator)
    asked = operator.post(f"{ACT}/erase-number", **hidden(found, f"{ACT}/erase-number"))
    fields = hidden(asked.text, f"{ACT}/erase-number") | {"reason": "art. 17"}
    for typed in ("", "+447700900000", "yes"):
        refused = operator.post(f"{ACT}/erase-number", **(fields | {"typed": typed}))
        assert refused.status_code == 400
        assert "number is not the one above" in words(refused.text) or "typed is required" in words(
            refused.text
        )
        assert "No requests for this number" not in words(find_number(caller, operator))
    assert confirm(operator, asked.text, "erase-number", typed=caller.number, reason="art. 17")
    assert "No requests for this number" in words(find_number(caller, operator))
    (proof, *_) = caller.parts.audit.erasures()
    assert proof.reason == "art. 17"
    assert str(proof.id) in operator.page("/console/erasures")


def cancel(caller: Caller, operator: Browser) -> None:
    """Cancel a live request by the link on its page."""
    path, _ = caller.sent()
    request_id = path.rpartition("/")[2]
    link = re.search(rf'"({ACT}/cancel-request[^"]*)"', operator.page(f"/console/requests/{request_id}"))
    assert link
    place = by_link(
        operator, "cancel-request", link[1].removeprefix(f"{ACT}/cancel-request"), reason="a test"
    )
    assert place == f"/console/requests/{request_id}"
    assert caller.get(path).json["status"] == Status.CANCELLED
    assert "cancel-request" not in operator.page(place)


def enable(caller: Caller, operator: Browser) -> None:
    """Enable a disabled webhook."""
    caller.parts.webhooks.set(caller.client, "https://shop.example/", events=(), now=clock.now())
    caller.execute(
        "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'gone' WHERE client_id = :id",
        id=caller.client_id,
    )
    assert f"{ACT}/enable-webhook?client={caller.client}" in operator.page(ACT)
    by_link(operator, "enable-webhook", f"?client={caller.client}", reason="a test")
    endpoint, _ = caller.parts.webhooks.show(caller.client, now=clock.now())
    assert endpoint.disabled_at is None


def allow(caller: Caller, operator: Browser) -> None:
    """Exempt the first digits of numbers from the guard."""
    by_link(operator, "allow-through-guard", subject="447911", lasting="4h", reason="a test")
    assert [one.subject for one in caller.parts.guard_admin.exceptions(now=clock.now())] == ["447911"]
    assert "guard-again?subject=447911" in operator.page(ACT)


def guard_again(caller: Caller, operator: Browser) -> None:
    """End an exception."""
    by_link(operator, "guard-again", "?subject=447911", reason="a test")
    assert caller.parts.guard_admin.exceptions(now=clock.now()) == []


WAYS: dict[str, Callable[[Caller, Browser], None]] = {
    "stop-sending": stop,
    "resume-sending": resume,
    "block-number": block,
    "unblock-number": unblock,
    "unlock-number": unlock,
    "erase-number": erase,
    "cancel-request": cancel,
    "enable-webhook": enable,
    "allow-through-guard": allow,
    "guard-again": guard_again,
}


@pytest.mark.parametrize("name", ACTIONS)
def test_action_is_done_and_recorded(caller: Caller, operator: Browser, name: str) -> None:
    """Each action does what the command does, and its entry has key, session, network, call and reason."""
    before = len(trail(caller, action=ACTIONS[name].records))

    try:
        WAYS[name](caller, operator)
    finally:
        for country in (None, "FR"):
            caller.parts.switch.resume(country=country, client=None, by="a test", now=clock.now())

    entry = trail(caller, action=ACTIONS[name].records)[0]
    assert len(trail(caller, action=ACTIONS[name].records)) == before + 1
    assert entry.reason in {"a test", "art. 17"}
    assert entry.actor.name.startswith("oq_")
    assert all((entry.actor.key_id, entry.actor.session, entry.actor.peer, entry.actor.call_id))


def test_action_needs_a_reason_without_a_number(caller: Caller, operator: Browser) -> None:
    """Without a reason, or with one that contains a number, the page asks again and nothing happens."""
    page = operator.page(f"{ACT}/stop-sending")

    for reason in ("", "  ", f"asked by {caller.number}"):
        answer = operator.post(f"{ACT}/stop-sending", **hidden(page, f"{ACT}/stop-sending"), reason=reason)
        assert answer.status_code == 400
        assert "reason" in words(answer.text)

    assert caller.parts.switch.stops() == ()
    assert 'role="alert"' in answer.text


@pytest.mark.parametrize("name", ACTIONS)
def test_action_needs_the_form_of_its_session(caller: Caller, operator: Browser, name: str) -> None:
    """Without the token of the session, or with a number sealed for another session, nothing happens."""
    stranger = Browser(caller.app)
    stranger.log_in(admin_key(caller.parts))
    foreign = hidden(find_number(caller, stranger), f"{ACT}/erase-number")
    begin = clock.now()

    blind = operator.post(f"{ACT}/{name}", confirmed="yes", reason="a test", client=caller.client)
    stolen = operator.send(ACT, "/console/requests/find", wanted=caller.number, country="")
    token = hidden(stolen.text, f"{ACT}/erase-number")["token"]
    sealed = operator.post(
        f"{ACT}/{name}", token=token, sealed=foreign["sealed"], confirmed="yes", reason="a test"
    )

    assert (blind.status_code, sealed.status_code) == (403, 403)
    assert [one.action for one in trail(caller, since=begin)] == ["number_searched"]


def test_reader_sees_no_buttons_and_gets_403(caller: Caller, operator: Browser) -> None:
    """A key with the scope `read` opens every page and searches, and can do nothing else."""
    reader = Browser(caller.app)
    path, _ = caller.sent()
    alert_id = open_alert(caller.parts, requests=[])
    key = caller.parts.keys.create(client="ops", scopes=frozenset({"read"}), now=clock.now())
    assert reader.log_in(key).status_code == 303

    found = find_number(caller, reader)
    pages = [ACT, "/console/alerts", f"/console/alerts/{alert_id}", "/console/audit", "/console/erasures"]
    pages.append(f"/console/requests/{path.rpartition('/')[2]}")
    shown = found + "".join(reader.page(page) for page in pages)
    assert re.findall(rf'"({ACT}/[^"]+)"', shown) == []
    assert not re.search('action="[^"]*(acknowledge|silence|end)"', shown)
    token = hidden(found, "/console/requests/find")["token"]
    refused = [
        *(reader.post(f"{ACT}/{name}", token=token, confirmed="yes", reason="a test") for name in ACTIONS),
        *(reader.get(f"{ACT}/{name}") for name in ACTIONS),
        reader.post(f"/console/alerts/{alert_id}/acknowledge", token=token),
        reader.post(f"/console/alerts/{alert_id}/silence", token=token, **{"for": "1h"}),
    ]
    assert {answer.status_code for answer in refused} == {403}
    assert "scope admin" in words(refused[0].text)
    assert caller.get("/v1/audit", headers={"Authorization": f"Bearer {key}"}).status_code == 403
    # Beside a reader, an operator sees them.
    assert f"{ACT}/stop-sending" in operator.page(ACT)


def test_national_number_with_its_country(caller: Caller, operator: Browser) -> None:
    """A number may be written as at home if its country is chosen."""
    caller.sent()
    national = f"0{caller.number[3:]}"

    found = operator.send("/console/requests", "/console/requests/find", wanted=national, country="GB")
    lost = operator.send("/console/requests", "/console/requests/find", wanted=national, country="")

    assert "sent" in words(found.text)
    assert f"+44********{caller.number[-2:]}" in found.text
    assert '<option value="GB" selected>' in found.text
    assert "choose the country" in words(lost.text)
    for country in ("XX", "<b>"):
        answer = operator.send(
            "/console/requests", "/console/requests/find", wanted=national, country=country
        )
        assert answer.status_code == 200
        assert "Invalid search" in words(answer.text)


def test_unknown_action_is_not_found(operator: Browser) -> None:
    """There is no page for an action that does not exist, nor for one on a number without the number."""
    assert operator.get(f"{ACT}/make-coffee").status_code == 404
    assert operator.get(f"{ACT}/erase-number").status_code == 400
    assert operator.get(f"{ACT}/cancel-request?request={uuid4()}").status_code == 200


def test_logins_are_recorded(caller: Caller) -> None:
    """A login, a logout and a refused login are in the trail; of an unknown key only what may be shown."""
    browser = Browser(caller.app)
    key = admin_key(caller.parts)
    browser.log_in("hunter2_is_my_password")
    browser.log_in(key)
    browser.send("/console", "/console/log-out")

    out, opened, refused = trail(caller)[:3]

    assert [one.action for one in (out, opened, refused)] == [
        OperatorAction.CONSOLE_LOGOUT,
        OperatorAction.CONSOLE_LOGIN,
        OperatorAction.CONSOLE_LOGIN_REFUSED,
    ]
    assert (refused.actor.name, refused.outcome.value) == ("unknown", "refused")
    assert out.actor.name == opened.actor.name == key[:11]
    assert out.actor.session == opened.actor.session


def test_audit_page_filters_and_pages(make_caller: MakeCaller) -> None:
    """Filters are links; older pages keep them; a filter that cannot be is refused."""
    caller = make_caller()
    browser = Browser(caller.app)
    key = admin_key(caller.parts)
    browser.log_in(key)
    for _ in range(52):
        caller.parts.clients.create(f"client of {uuid4().hex}", now=clock.now())

    page = browser.page("/console/audit?action=client_created&last=24h")
    older = re.search(r'href="([^"]*)" rel="next"', page)
    assert older
    rest = browser.page(older[1].replace("&amp;", "&"))
    mine = browser.page(f"/console/audit?actor={key[:11]}&surface=console")

    assert page.count("client created</td>") == 50
    assert rest.count("client created</td>") == 2
    assert "console login" in words(mine)
    assert "client created" not in mine.partition("Newest first")[2]
    for query in ("action=coffee", "surface=moon", "last=9y", "after=x", "client=nobody", "cursor=x"):
        assert browser.get(f"/console/audit?{query}").status_code == 400, query
