"""`/metrics`: who may see it, what it says, also while all else is down, and that it does not grow."""

from __future__ import annotations

from typing import Any

import falcon.testing
import pytest

from otpqueue import clock
from otpqueue.domain.heartbeats import ProcessKind
from otpqueue.infobip.receipts import parse_reports
from otpqueue.telemetry import metrics
from tests.api.conftest import Caller, MakeCaller, MakeOtherParts, wrong
from tests.operations.looking import show_life, until
from tests.scraping import Scraped, scraped

TOKEN = "a-token-of-prometheus"
HTTP = "otpqueue_http_requests_total"


@pytest.fixture
def operator(caller: Caller) -> Caller:
    """Return a caller whose key may do everything."""
    caller.key = caller.new_key("send", "verify", "admin")
    return caller


def page(caller: Caller) -> Scraped:
    """Return what is scraped."""
    answer = caller.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return scraped(answer.text)


def test_page_has_everything(operator: Caller) -> None:
    """Prometheus can read it, and each metric is there with its kind."""
    found = page(operator)

    for family in (*metrics.OURS, *metrics.READ):
        assert found.kinds[family.name] == family.kind, family.name
    assert found("otpqueue_build_info") == 1
    assert found("process_resident_memory_bytes") > 0


@pytest.mark.parametrize("scopes", [("send", "verify"), ("admin",)])
def test_without_a_token_an_admin_may_look(caller: Caller, scopes: tuple[str, ...]) -> None:
    """Unless a token is set, a key with the scope `admin` opens it, and no other."""
    caller.key = caller.new_key(*scopes)
    allowed = caller.get("/metrics").status_code
    caller.key = None
    keyless = caller.get("/metrics").status_code
    stranger = caller.get("/metrics", headers={"Authorization": "Bearer oq_aaaaaaaa_" + "x" * 43}).status_code

    assert (allowed, keyless, stranger) == (200 if "admin" in scopes else 403, 401, 401)


def test_with_a_token_nothing_else_opens(caller: Caller, make_other_parts: MakeOtherParts) -> None:
    """The token opens it without a look at Postgres; no key does, nor part of a token, nor another scheme."""
    admin = caller.new_key("admin")
    guarded = caller.over(make_other_parts(OTPQUEUE_METRICS_TOKEN=TOKEN))
    guarded.key = None

    def status(authorization: str | None) -> int:
        headers = {} if authorization is None else {"Authorization": authorization}
        return int(guarded.get("/metrics", headers=headers).status_code)

    refused = (None, "", "Bearer", "Bearer ", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", f"Basic {TOKEN}")
    assert [status(given) for given in refused] == [401] * len(refused)
    assert status(f"Bearer {admin}") == status("Bearer ключ".encode().decode("latin-1")) == 401
    answers = [guarded.get("/metrics", headers={"Authorization": given}) for given in refused[1:]]
    reasons = [answer.json["reason"] for answer in answers]
    assert reasons == ["no_credentials", *["wrong_token"] * 4, "wrong_scheme"]
    assert status(f"Bearer {TOKEN}") == status(f"bearer {TOKEN}") == 200


def test_life_of_a_code_is_counted(operator: Caller) -> None:
    """What was asked, claimed, sent, checked, delivered and refused is counted once each."""
    before = page(operator)
    path, code = operator.sent()
    assert operator.verify(path, wrong(code)).status_code == 422
    assert operator.verify(path, code).status_code == 200
    for _ in range(3):
        refused = operator.post("/v1/otp-requests", json={"phone_number": operator.number})
    assert refused.status_code == 429
    assert operator.post("/v1/otp-requests", json={"phone_number": "+44"}).status_code == 400
    after = page(operator)

    def grown(name: str, **labels: str) -> float:
        return after(name, **labels) - before(name, **labels)

    asked, verify = "/v1/otp-requests", "/v1/otp-requests/{request_id}/verify"
    assert grown(HTTP, method="POST", route=asked, status="202") == 3
    assert grown(HTTP, method="POST", route=asked, status="429") == 1
    assert grown(HTTP, method="POST", route=asked, status="400") == 1
    assert grown("otpqueue_http_request_duration_seconds_count", route=asked) == 5
    assert grown(HTTP, route=verify, status="422") == grown(HTTP, route=verify, status="200") == 1
    assert grown("otpqueue_requests_accepted_total", channel="sms") == 3
    assert grown("otpqueue_refusals_total", reason="limit_number_15m") == 1
    assert grown("otpqueue_limits_hit_total", limit="number_15m") == 1
    # In shadow mode what is claimed is decided on, and the pump has run once.
    assert grown("otpqueue_guard_decisions_total", mode="shadow") == 1
    assert grown("otpqueue_guard_uncounted_total") == 0
    assert grown("otpqueue_pump_claimed_total") == 1
    assert grown("otpqueue_send_attempts_total", outcome="accepted", answer="2xx") == 1
    assert grown("otpqueue_provider_requests_total", call="send", answer="2xx") == 1
    assert grown("otpqueue_provider_request_duration_seconds_count", call="verify") == 2
    assert grown("otpqueue_checks_total", verdict="wrong") == 1
    assert grown("otpqueue_checks_total", verdict="correct") == 1
    assert sum(grown("otpqueue_wake_ups_total", result=result) for result in ("published", "pending")) == 3
    # A pump of another test may be about to end.
    until(lambda: page(operator)("otpqueue_pump_in_flight") == 0)
    until(lambda: page(operator)("otpqueue_database_connections_in_use") == 0)
    # The scrape itself is being answered.
    assert after("otpqueue_http_requests_in_flight") == 1


def test_delivery_is_counted(operator: Caller) -> None:
    """A report that moves a request is counted, a repeated one is not."""
    path, _ = operator.sent()
    (named,) = operator.execute(
        "SELECT external_message_id FROM send_attempts WHERE request_id = :id", id=path.rpartition("/")[2]
    )[0]
    reports = parse_reports({"results": [{"messageId": named, "status": {"groupName": "DELIVERED"}}]})

    before = page(operator)
    for _ in range(2):
        operator.parts.receipts(reports, now=clock.now())
    after = page(operator)

    grown = after("otpqueue_deliveries_total", status="delivered") - before(
        "otpqueue_deliveries_total", status="delivered"
    )
    assert grown == 1


def test_nothing_secret_is_shown(operator: Caller) -> None:
    """No number, code, key, session, id of a request or of Infobip's, nor what a caller sent, gets there."""
    path, code = operator.sent(session_id="secret-session", client_ip="192.0.2.7", client_reference="a-name")
    assert operator.verify(path, code, session_id="secret-session").status_code == 200
    operator.get("/secret-path", params={"secret": "query"}, headers={"X-Request-Id": "secret-id"})
    request_id = path.rpartition("/")[2]
    (pin_id,) = operator.execute("SELECT pin_id FROM send_attempts WHERE request_id = :id", id=request_id)[0]
    assert operator.key

    text = operator.get("/metrics").text

    secrets = (operator.number[3:], request_id, pin_id, operator.key, operator.client, "secret", "192.0.2")
    assert [secret for secret in (*secrets, "a-name") if secret in text] == []
    shown = {value for (_, labels) in scraped(text).samples for _, value in labels}
    assert code not in shown


def test_labels_are_bounded(operator: Caller) -> None:
    """Whatever is asked for, with whatever method: the page does not grow with what callers think up."""
    methods = ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "LOOK")
    requests = ("/v1/otp-requests", "/v1/otp-requests/1", "/v1/otp-requests/1/verify")
    paths = ("/", "/nowhere", "//x", "/x/", *requests)
    known = page(operator).labels(HTTP, "route")
    statuses: set[str] = set()

    def ask(method: str, path: str) -> None:
        headers = {"Authorization": f"Bearer {operator.key}"}
        environ = falcon.testing.create_environ(path, method=method, headers=headers)
        list(operator.app(environ, lambda status, *_: statuses.add(status[:3])))

    def drive(seed: int) -> int:
        for method in (*methods, f"LOOK{seed}"):
            for path in (*paths, f"/made-up-{seed}", f"/v1/otp-requests/{seed}"):
                ask(method, path)
        return len(page(operator).samples)

    first, *others = [drive(seed) for seed in range(4)]
    found = page(operator)

    assert statuses >= {"200", "404", "405"}
    assert set(others) == {first}
    of_http = {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
    assert found.labels(HTTP, "method") <= of_http | {"other"}
    assert found.labels(HTTP, "route") - known <= _routes(operator.app) | {"unmatched"}
    assert all(len(status) == 3 and status.isdigit() for status in found.labels(HTTP, "status"))
    # What a path does not take costs no histogram.
    timed = "otpqueue_http_request_duration_seconds_count"
    assert "unmatched" not in found.labels(timed, "route")
    assert "other" not in found.labels(timed, "method")


def _routes(app: Any) -> set[str]:
    """Return the templates of the route table."""

    def below(nodes: list[Any]) -> list[Any]:
        return [one for node in nodes for one in (node, *below(node.children))]

    return {node.uri_template for node in below(app._router._roots)}


def test_queue_is_read(lonely: Caller) -> None:
    """How much waits to be sent, and for how long, comes from Postgres, whoever will send it."""
    lonely.key = lonely.new_key("send", "admin")
    empty = page(lonely)
    fresh = lonely.over(lonely.parts)
    for state in ("due", "later", "claimed"):
        path = lonely.ask(session_id=state)
        columns = {
            "due": "next_attempt_at = now() - interval '1 minute'",
            "later": "next_attempt_at = now() + interval '1 minute'",
            "claimed": "send_state = 'claimed', next_attempt_at = NULL, lease_until = now()",
        }
        lonely.become(path, columns[state])
    # Readings are kept for some seconds: another API has none.
    lonely.parts.__dict__.pop("gauges")
    full = page(lonely.over(lonely.parts))

    assert fresh.parts is lonely.parts
    assert empty("otpqueue_queue_requests") == empty("otpqueue_queue_oldest_due_age_seconds") == 0
    assert [full("otpqueue_queue_requests", state=state) for state in ("due", "later", "claimed")] == [
        1,
        1,
        1,
    ]
    assert full("otpqueue_queue_oldest_due_age_seconds") >= 60


def test_processes_and_stops_are_read(lonely: Caller) -> None:
    """Which processes live and hear the broker, which queues are served, and what an operator has stopped."""
    lonely.key = lonely.new_key("admin")
    show_life(lonely.parts, "a:1", "send")
    show_life(lonely.parts, "a:2", "send", "slow")
    show_life(lonely.parts, "a:3", "slow", in_touch=False)
    show_life(lonely.parts, "a:4", "slow", ago_s=100)
    show_life(lonely.parts, "a:5", kind=ProcessKind.BEAT)
    lonely.execute("UPDATE heartbeats SET skew_s = -1.5 WHERE process = 'worker|a:2'")
    lonely.parts.switch.stop(country="FR", client=None, reason=None, by="ann", now=clock.now())

    found = page(lonely)

    assert found("otpqueue_processes", kind="worker", life="running") == 2
    assert found("otpqueue_processes", kind="worker", life="cut_off") == 1
    assert found("otpqueue_processes", kind="beat", life="running") == 1
    queues = ("send", "periodic", "slow")
    assert [found("otpqueue_queue_workers", queue=queue) for queue in queues] == [2, 0, 1]
    assert found("otpqueue_clock_skew_seconds") == -1.5
    assert found("otpqueue_sending_stopped", scope="country") == 1
    assert found("otpqueue_sending_stopped", scope="all") == 0


def test_statistics_are_read(lonely: Caller) -> None:
    """What happened in the last 15 minutes, everywhere, and how long it took."""
    lonely.key = lonely.new_key("send", "verify", "admin")
    path, code = lonely.sent()
    assert lonely.verify(path, code).status_code == 200
    lonely.parts.roll_up()
    lonely.execute("UPDATE stats_minutes SET at = at - interval '2 minutes'")
    spent = "SELECT at, client_id, country, channel, 'cost', :currency, 1, 0.05 FROM stats_minutes LIMIT 1"
    for currency in ("EUR", "anything"):
        lonely.execute(f"INSERT INTO stats_minutes {spent}", currency=currency)

    found = page(lonely)

    assert found("otpqueue_recent_events", event="requested") == 1
    assert (
        found("otpqueue_recent_events", event="sent")
        == found("otpqueue_recent_events", event="verified")
        == 1
    )
    assert found("otpqueue_recent_events", event="failed") == 0
    assert found.labels("otpqueue_recent_latency_seconds", "span") == {"accept_to_sent", "sent_to_verified"}
    assert found.labels("otpqueue_recent_latency_seconds", "percentile") == {"50", "95", "99"}
    assert found.labels("otpqueue_recent_cost", "currency") == {"EUR"}
    assert found("otpqueue_recent_cost") == pytest.approx(0.05)


@pytest.mark.parametrize("how", ["closed", "hung"])
def test_page_without_postgres(
    make_caller: MakeCaller, make_other_parts: MakeOtherParts, how: str, nowhere: str, hung: int
) -> None:
    """Without Postgres, or with one that hangs, the page says so and has everything else."""
    address = nowhere if how == "closed" else f"127.0.0.1:{hung}"
    parts = make_other_parts(OTPQUEUE_METRICS_TOKEN=TOKEN, DATABASE_URL=f"postgresql://x@{address}/x")
    caller = make_caller().over(parts)
    caller.key = TOKEN

    found = page(caller)

    assert found.has("otpqueue_database_up")
    assert found("otpqueue_database_up") == 0
    assert found("otpqueue_redis_up") == 1
    assert not found.has("otpqueue_queue_requests")
    assert found.has("otpqueue_http_requests_in_flight")


def test_page_without_redis(operator: Caller, make_other_parts: MakeOtherParts, nowhere: str) -> None:
    """Without Redis nobody can tell what the circuit is for all; the rest is there."""
    found = page(operator.over(make_other_parts(REDIS_URL=f"redis://{nowhere}/0")))

    assert found.has("otpqueue_redis_up")
    assert found("otpqueue_redis_up") == 0
    assert not found.has("otpqueue_circuit_state")
    assert found("otpqueue_database_up") == 1


def test_circuit_is_read(operator: Caller) -> None:
    """Exactly one state of the circuit is 1."""
    found = page(operator)

    assert found.labels("otpqueue_circuit_state", "state") == {"closed", "open", "half_open"}
    assert found("otpqueue_circuit_state", state="closed") == found("otpqueue_circuit_state") == 1
