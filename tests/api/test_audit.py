"""`/v1/audit`, `/v1/audit/search` and `/v1/erasures`, and what the API's own calls for operators record."""

from __future__ import annotations

from otpqueue import clock
from tests.api.conftest import Caller, MakeCaller
from tests.console.alerting import open_alert


def test_trail_is_for_operators(caller: Caller) -> None:
    """A key without `admin` reads nothing of it; nobody writes to it."""
    for path in ("/v1/audit", "/v1/erasures"):
        assert caller.get(path).status_code == 403
        assert caller.call("DELETE", path).status_code == 405
    assert caller.post("/v1/audit/search", json={"phone_number": caller.number}).status_code == 403


def test_calls_of_operators_are_recorded(make_caller: MakeCaller) -> None:
    """Search, erasure, acknowledgement and silence: with key, network and id of the call."""
    caller = make_caller()
    client_key = caller.key
    caller.sent()
    alert_id = open_alert(caller.parts, requests=[])
    caller.key = caller.new_key("admin", client="ops")
    assert caller.key
    began = clock.now().isoformat().replace("+00:00", "Z")

    calls = [
        caller.post("/v1/otp-requests/search", json={"phone_number": caller.number}),
        caller.post(f"/v1/alerts/{alert_id}/acknowledge"),
        caller.post(f"/v1/alerts/{alert_id}/silence", json={"reason": "a test"}),
        caller.post("/v1/phone-numbers/erase", json={"phone_number": caller.number}),
    ]
    assert {one.status_code for one in calls} == {200}
    entries = caller.get(f"/v1/audit?surface=api&since={began}").json["entries"]

    assert [one["action"] for one in reversed(entries)] == [
        "number_searched",
        "alert_acknowledged",
        "alert_silenced",
        "number_erased",
    ]
    assert {one["actor"] for one in entries} == {caller.key[:11]}
    assert [one["call_id"] for one in reversed(entries)] == [one.headers["X-Request-Id"] for one in calls]
    assert all(one["key_id"] and one["peer"] for one in entries)
    (proof,) = caller.get("/v1/erasures?limit=1").json["erasures"]
    assert (proof["id"], proof["by"]) == (entries[0]["target"], caller.key[:11])
    # A client's own calls are no actions of an operator.
    caller.key = client_key
    path, _ = caller.sent()
    caller.call("DELETE", path)
    caller.key = caller.new_key("admin", client="ops")
    later = caller.get(f"/v1/audit?surface=api&since={began}").json["entries"]
    assert later == entries


def test_pages_and_filters(make_caller: MakeCaller) -> None:
    """A page leads to the next; a cursor fits only its filters; a number is searched for in a body."""
    caller = make_caller()
    caller.key = caller.new_key("admin", client="ops")
    caller.parts.blocklist.block(caller.number, reason="a test", until=None, now=clock.now())
    for name in ("one", "two", "three"):
        caller.parts.clients.create(f"{name} of {caller.client}"[:64], now=clock.now())

    first = caller.get("/v1/audit?action=client_created&limit=2").json
    rest = caller.get(f"/v1/audit?action=client_created&limit=2&cursor={first['next_cursor']}").json
    other = caller.get(f"/v1/audit?limit=2&cursor={first['next_cursor']}")
    wanted = {"phone_number": caller.number, "action": "number_blocked", "surface": "process"}
    of_number = caller.post("/v1/audit/search", json=wanted).json

    names = [one["client"].split()[0] for one in (*first["entries"], *rest["entries"])]
    assert names[:3] == ["three", "two", "one"]
    assert other.status_code == 400
    assert [one["action"] for one in of_number["entries"]] == ["number_blocked"]
    assert of_number["entries"][0]["reason"] == "a test"
    for query in ("action=coffee", "surface=moon", "limit=0", "since=yesterday", "client=nobody", "x=1"):
        assert caller.get(f"/v1/audit?{query}").status_code == 400, query
    for wrong in ({"phone_number": "+1"}, wanted | {"action": "coffee"}, wanted | {"surface": 1}):
        assert caller.post("/v1/audit/search", json=wrong).status_code == 400, wrong
