import base64
import re
import socket
import time
from datetime import datetime

import pytest

TO = "41793026727"
OTHER = "447700900123"
PATH = "/_simulator/receipts"

ALL = ["PENDING_ENROUTE", "DELIVERED_TO_OPERATOR", "DELIVERED_TO_HANDSET"]


def basic(user):
    """Return the header of Basic authorization."""
    return "Basic " + base64.b64encode(user.encode()).decode()


@pytest.fixture
def pushing(client_with, hook):
    """Return a client of a simulator that pushes its reports to the webhook at once."""
    with client_with(
        receipts_url=hook.url, receipts_user="ann:pass", receipts_delay_ms=20, receipts_retry_scale=0.0005
    ) as client:
        yield client


def waited(client, **counts):
    """Return the numbers of the receipts endpoint once they are as given."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        shown = client.get(PATH).json()
        if all(shown[name] == count for name, count in counts.items()):
            return shown
        time.sleep(0.005)
    raise AssertionError(shown)


def test_reports_come_first_intermediate_then_final(pushing, hook):
    """A tracked message is reported as pending, with the operator, and on the handset, by its own id."""
    message_id = pushing.tracked(pushing.ready())
    hook.wait(3)
    assert hook.names(message_id) == ALL
    assert {push.path for push in hook.pushes} == {"/receipts?a=b"}
    assert {push.headers["authorization"] for push in hook.pushes} == {basic("ann:pass")}
    assert {push.headers["content-type"] for push in hook.pushes} == {"application/json"}
    waited(pushing, accepted=len(hook.pushes), failed=0, scheduled=0, retrying=0)


def test_shape_of_a_report(pushing, hook):
    """A report has the V3 shape, with price and currency and times with an offset without colon."""
    message_id = pushing.tracked({**pushing.ready(), "from": "Shop"})
    *_, last = hook.wait(3)
    for name in ("sentAt", "doneAt"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", last[name])
    assert datetime.fromisoformat(last.pop("doneAt")) > datetime.fromisoformat(last.pop("sentAt"))
    assert last == {
        "messageId": message_id,
        "to": TO,
        "sender": "Shop",
        "messageCount": 1,
        "mccMnc": "23400",
        "price": {"pricePerMessage": 0.01, "currency": "EUR"},
        "status": {
            "groupId": 3,
            "groupName": "DELIVERED",
            "id": 5,
            "name": "DELIVERED_TO_HANDSET",
            "description": "Message delivered to handset",
        },
        "error": {
            "groupId": 0,
            "groupName": "OK",
            "id": 0,
            "name": "NO_ERROR",
            "description": "No Error",
            "permanent": False,
        },
    }


def test_legacy_shape(client_with, hook):
    """The legacy shape says from, smsCount and Ok."""
    options = {"receipts_shape": "legacy", "receipts_before_final": "none", "receipts_delay_ms": 0}
    with client_with(receipts_url=hook.url, **options) as client:
        client.tracked({**client.ready(), "from": "Shop"})
        (report,) = hook.wait(1)
        assert (report["from"], report["smsCount"], report["error"]["groupName"]) == ("Shop", 1, "Ok")
        assert {"sender", "messageCount"}.isdisjoint(report)
        assert "authorization" not in hook.pushes[0].headers


def test_untracked_messages_have_no_reports(pushing, hook):
    """Without trackDelivery nothing is reported."""
    body = pushing.ready()
    pushing.send_pin(body)
    pushing.tracked(body)
    hook.wait(3)


def test_resend_is_reported_under_its_own_id(pushing, hook):
    """Each tracked resend has reports of its own; a voice call never reaches an operator's phone first."""
    pin_id = pushing.send_pin(pushing.ready())
    ids = [
        pushing.post(f"/2fa/2/pin/{pin_id}/resend{by}", json={"trackDelivery": True}).json()[
            "externalMessageId"
        ]
        for by in ("", "/voice")
    ]
    hook.wait(5)
    assert hook.names(ids[0]) == ALL
    assert hook.names(ids[1]) == [ALL[0], ALL[2]]


@pytest.mark.parametrize(
    ("outcome", "status", "error", "price"),
    [
        ("undelivered", ("UNDELIVERABLE", 9), ("HANDSET_ERRORS", "EC_ABSENT_SUBSCRIBER"), 0.01),
        ("rejected", ("REJECTED", 20), ("USER_ERRORS", "EC_DESTINATION_FLOODING"), 0.0),
        ("expired", ("EXPIRED", 15), ("OPERATOR_ERRORS", "EC_VP_EXPIRED"), 0.01),
    ],
)
def test_outcomes(pushing, hook, outcome, status, error, price):
    """A rule makes a message end otherwise, as often as it says, for its number."""
    body = pushing.ready()
    rule = pushing.receipts(match={"to": f"+{TO}"}, times=1, outcome=outcome)
    pushing.tracked({**body, "to": OTHER})
    hook.wait(3)
    message_id = pushing.tracked(body)
    *_, last = hook.wait(6)
    assert (last["status"]["groupName"], last["status"]["id"]) == status
    assert (last["error"]["groupName"], last["error"]["name"]) == error
    assert last["price"]["pricePerMessage"] == price
    assert last["messageId"] == message_id
    pushing.tracked(body)
    assert hook.wait(9)[-1]["status"]["groupName"] == "DELIVERED"
    assert pushing.get(PATH).json()["rules"] == [{**rule, "used": 1}]


def test_no_report_and_no_final_report(pushing, hook):
    """Outcome none reports nothing, operator nothing final; deleting the rules ends them."""
    body = pushing.ready()
    pushing.receipts(outcome="none", times=1)
    pushing.receipts(outcome="operator", times=1)
    pushing.tracked(body)
    message_id = pushing.tracked(body)
    hook.wait(2)
    assert hook.names(message_id) == ALL[:2]
    pushing.receipts(outcome="none")
    assert pushing.delete(PATH).status_code == 204
    assert pushing.get(PATH).json()["rules"] == []
    pushing.tracked(body)
    hook.wait(5)


def test_undelivered_may_be_followed_by_delivered(pushing, hook):
    """A rule can give two final reports."""
    pushing.receipts(outcome="undelivered", then="delivered", then_delay_ms=300)
    message_id = pushing.tracked(pushing.ready())
    hook.wait(4)
    assert hook.names(message_id) == [*ALL[:2], "UNDELIVERABLE_NOT_DELIVERED", ALL[2]]


def test_duplicates(pushing, hook):
    """Duplicates repeat each report, word for word."""
    pushing.receipts(duplicate=2)
    message_id = pushing.tracked(pushing.ready())
    reports = hook.wait(9)
    assert hook.names(message_id) == [name for name in ALL for _ in range(3)]
    assert reports[6] == reports[7] == reports[8]


def test_reordering(pushing, hook):
    """Reordered, the final report overtakes those before it, whose doneAt is still the earlier."""
    pushing.receipts(reorder=True)
    message_id = pushing.tracked(pushing.ready())
    reports = hook.wait(3)
    assert hook.names(message_id) == [ALL[2], *ALL[:2]]
    assert reports[0]["doneAt"] > reports[1]["doneAt"]


def test_before_answer(pushing, hook):
    """A report may arrive, and be answered, before the send itself is."""
    body = pushing.ready()
    pushing.receipts(before_answer=True, delay_ms=0)
    seen = []
    hook.before_answer = lambda: time.sleep(0.1)
    started = time.monotonic()
    message_id = pushing.tracked(body)
    seen = hook.names(message_id)
    assert time.monotonic() - started >= 0.1
    assert seen == ALL


def test_before_answer_with_a_webhook_that_is_down(client_with):
    """A webhook that does not answer delays the send, and nothing else; the push is tried again later."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with client_with(receipts_url=url) as client:
            client.receipts(before_answer=True, delay_ms=0)
            client.tracked(client.ready())
            assert waited(client, retrying=1)["failed"] == 1


def test_late_reports_follow_the_clock(client_with, hook):
    """A report that is due in an hour comes when the clock is moved, and says when it was done."""
    with client_with(receipts_url=hook.url, receipts_before_final="none") as client:
        client.receipts(delay_ms=3_600_000)
        client.tracked(client.ready())
        waited(client, scheduled=1)
        client.advance(3590)
        time.sleep(0.05)
        assert hook.pushes == []
        client.advance(11)
        (report,) = hook.wait(1)
        times = [datetime.fromisoformat(report[name]).timestamp() for name in ("sentAt", "doneAt")]
        assert times[1] - times[0] == pytest.approx(3600, abs=0.01)


def test_batches(client_with, hook):
    """Reports that are due together come together, at most so many in a push."""
    options = {"receipts_before_final": "none", "receipts_batch": 4, "receipts_linger_ms": 100}
    with client_with(receipts_url=hook.url, receipts_delay_ms=0, **options) as client:
        body = client.ready()
        ids = [client.tracked(body) for _ in range(10)]
        hook.wait(10)
        assert sorted(report["messageId"] for report in hook.reports()) == sorted(ids)
        assert max(len(push.reports) for push in hook.pushes) == 4


def test_retries_when_the_webhook_is_unavailable(pushing, hook):
    """A push that is not accepted is tried again, whole, after 1 min, 2, 5 (here 30 ms a minute)."""
    hook.statuses = [503, 302, 404]
    pushing.receipts(outcome="operator")
    pushing.tracked(pushing.ready())
    waited(pushing, accepted=1, failed=3)
    assert [len(push.reports) for push in hook.pushes] == [2] * 4
    gaps = [later.at - earlier.at for earlier, later in zip(hook.pushes, hook.pushes[1:], strict=False)]
    for gap, least in zip(gaps, (0.030, 0.060, 0.150), strict=True):
        assert least <= gap < least + 0.5


def test_retry_delays_follow_the_clock(client_with, hook):
    """Unscaled, the first retry comes a minute of simulated time later, the second two minutes after it."""
    hook.statuses = [500, 500]
    options = {"receipts_before_final": "none", "receipts_delay_ms": 0}
    with client_with(receipts_url=hook.url, **options) as client:
        client.tracked(client.ready())
        for minutes, tries in ((1, 1), (2, 2)):
            waited(client, failed=tries, retrying=1)
            client.advance(minutes * 60 - 5)
            time.sleep(0.05)
            assert len(hook.pushes) == tries
            client.advance(6)
        assert waited(client, accepted=1)["failed"] == 2


def test_giving_up(client_with, hook):
    """After the last retry a push is given up; the report can still be pulled."""
    hook.statuses = [500] * 3
    options = {"receipts_before_final": "none", "receipts_delay_ms": 0, "receipts_retries": 2}
    with client_with(receipts_url=hook.url, receipts_retry_scale=0.0001, **options) as client:
        message_id = client.tracked(client.ready())
        waited(client, given_up=1, failed=3, retrying=0)
        (report,) = client.get("/sms/3/reports").json()["results"]
        assert report["messageId"] == message_id


def test_a_webhook_that_says_nothing(client_with):
    """A webhook that accepts the connection but never answers counts as unavailable."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with client_with(receipts_url=url, receipts_timeout_s=0.05) as client:
            client.tracked(client.ready())
            waited(client, failed=1, retrying=1)


def test_stopping_does_not_wait_for_a_webhook(client_with):
    """The simulator stops at once, also while a webhook keeps it waiting."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with client_with(receipts_url=f"http://127.0.0.1:{silent.getsockname()[1]}") as client:
            client.tracked(client.ready())
            silent.accept()[0].close()
            client.tracked(client.ready())
            time.sleep(0.1)
            started = time.monotonic()
        assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"outcome": "lost"}, "outcome: must be"),
        ({"times": 0}, "times: must be greater"),
        ({"delay_ms": -1}, "delay_ms"),
        ({"match": {"path": "x"}}, "match.path: Extra inputs"),
        ({"match": {"to": "x"}}, "match.to: must be a phone number"),
        ({"duplicate": 101}, "duplicate"),
        ({"outcome": "none", "then": "delivered"}, "then needs an outcome"),
        ({"late": True}, "late: Extra inputs"),
    ],
)
def test_bad_rules_are_400(client, body, words):
    """A rule that makes no sense is 400, saying why."""
    answer = client.post(PATH, json=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert client.get(PATH).json()["rules"] == []


def test_reset_deletes_reports(client_with, hook):
    """Reset drops rules and reports that are on their way."""
    with client_with(receipts_url=hook.url, receipts_before_final="none") as client:
        client.receipts(delay_ms=3_600_000)
        client.tracked(client.ready())
        client.post("/_simulator/reset")
        assert client.get(PATH).json() == {
            "rules": [],
            "scheduled": 0,
            "retrying": 0,
            "accepted": 0,
            "failed": 0,
            "given_up": 0,
        }
        client.tracked(client.ready())
        client.advance(3601)
        hook.wait(1)


def test_pull_returns_each_report_once(client):
    """GET /sms/3/reports returns the same reports, oldest first, each once, at most `limit`."""
    body = client.ready()
    ids = [client.tracked(body) for _ in range(2)]
    client.advance(2)
    first = client.get("/sms/3/reports?limit=2").json()["results"]
    assert [report["messageId"] for report in first] == [ids[0]] * 2
    rest = client.get("/sms/3/reports").json()["results"]
    assert [report["status"]["name"] for report in rest if report["messageId"] == ids[0]] == [ALL[2]]
    assert [report["status"]["name"] for report in rest if report["messageId"] == ids[1]] == ALL
    assert client.get("/sms/3/reports").json() == {"results": []}


def test_pull_of_one_message(client):
    """`messageId` chooses a message, and leaves the others' reports for later; other ids find nothing."""
    body = client.ready()
    ids = [client.tracked(body) for _ in range(2)]
    client.advance(2)
    for name in ("bulkId", "entityId", "applicationId", "campaignReferenceId"):
        assert client.get("/sms/3/reports", params={name: "x"}).json() == {"results": []}
    found = client.get("/sms/3/reports", params={"messageId": ids[1]}).json()["results"]
    assert [report["messageId"] for report in found] == [ids[1]] * 3
    assert len(client.get("/sms/3/reports").json()["results"]) == 3


def test_pull_knows_neither_duplicates_nor_voice_nor_what_is_old(client):
    """Pulled are SMS reports of the last 48 h, without the copies that are only pushed."""
    body = client.ready()
    client.tracked(body)
    client.advance(48 * 3600 + 2)
    client.receipts(duplicate=3)
    client.post("/2fa/2/pin/voice", json={**body, "trackDelivery": True})
    message_id = client.tracked(body)
    client.advance(2)
    found = client.get("/sms/3/reports").json()["results"]
    assert [report["messageId"] for report in found] == [message_id] * 3


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=-1"])
def test_pull_errors_use_the_new_envelope(client, query):
    """Errors of the SMS API have errorCode and violations."""
    answer = client.get(f"/sms/3/reports?{query}")
    assert answer.status_code == 400
    body = answer.json()
    assert set(body) == {"errorCode", "description", "action", "violations", "resources"}
    assert body["errorCode"] == "E400"
    assert [violation["property"] for violation in body["violations"]] == ["limit"]
    stranger = client.get("/sms/3/reports", headers={"Authorization": "App no"})
    assert (stranger.status_code, stranger.json()["errorCode"]) == (401, "E401")
    assert client.get("/sms/3/nope").json()["errorCode"] == "E404"


def test_optional_and_extra_fields_of_reports(client_with, hook):
    """Reports can be bare of all but id and status, and hold fields nobody knows."""
    options = {"optional_fields": "omit", "extra_fields": True, "receipts_before_final": "none"}
    with client_with(receipts_url=hook.url, receipts_delay_ms=0, **options) as client:
        client.tracked(client.ready())
        (report,) = hook.wait(1)
        assert set(report) == {"messageId", "status", "unknownField"}
        assert [set(pulled) for pulled in client.get("/sms/3/reports").json()["results"]] == [set(report)]
