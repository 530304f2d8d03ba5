"""`/metrics` of a real worker."""

from __future__ import annotations

from collections.abc import Callable

import requests

from otpqueue.embedded.home import free_port
from otpqueue.wiring import Parts
from tests.conftest import INFOBIP_KEY, Ask, Provider
from tests.operations.looking import Rows, numbers, served, until
from tests.scraping import scraped
from tests.worker.conftest import Start

TOKEN = "a-token-of-prometheus"


def test_worker_shows_what_it_does(
    start: Start, parts: Parts, ask: Ask, provider: Provider, rows: Rows, logged: Callable[[], str]
) -> None:
    """A worker reports claimed, sent and received counts, to callers with the token only."""
    port = free_port()
    settings = {"OTPQUEUE_METRICS_TOKEN": TOKEN, "OTPQUEUE_WORKER_METRICS_PORT": str(port)}
    start("worker", "--queues=send,periodic", "--jobs=2", **settings)
    until(lambda: {"send", "periodic"} <= served(parts), within_s=60)
    provider.fault(match={"to": numbers(1)[0].removeprefix("+")}, status=400)
    for number in numbers(3):
        ask(number)
    until(lambda: {row["status"] for row in rows.requests()} == {"sent", "failed"})

    def look(path: str = "/metrics", token: str | None = TOKEN, method: str = "GET") -> requests.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return requests.request(method, f"http://127.0.0.1:{port}{path}", headers=headers, timeout=10)

    assert [look(token=token).status_code for token in (None, "", TOKEN[:-1], "ключ".encode())] == [401] * 4
    assert [look(path).status_code for path in ("/", "/metrics/", "/health")] == [404] * 3
    assert look(method="POST").status_code == 405
    assert look("/health/live", token=None).status_code == 200
    assert look("/health/live", token=None, method="POST").status_code == 405
    until(lambda: scraped(look().text)("otpqueue_jobs_total", name="send_codes", result="done") >= 1)
    answer = look()
    found = scraped(answer.text)

    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert found("otpqueue_pump_claimed_total") == 3
    assert found("otpqueue_send_attempts_total", outcome="accepted", answer="2xx") == 2
    assert found("otpqueue_send_attempts_total", outcome="refused", answer="4xx") == 1
    assert found("otpqueue_provider_request_duration_seconds_count", call="send") == 3
    assert found("otpqueue_wake_ups_taken_total", name="send_codes") >= 1
    assert found("otpqueue_pump_in_flight") == 0
    assert found("otpqueue_pump_sender_threads") == 8
    assert found("process_cpu_seconds_total") > 0
    for secret in (*(number[3:] for number in numbers(3)), INFOBIP_KEY, TOKEN):
        assert secret not in answer.text
        assert secret not in logged()


def test_port_that_is_taken_stops_no_worker(
    start: Start, parts: Parts, ask: Ask, rows: Rows, logged: Callable[[], str]
) -> None:
    """A worker without its metrics port logs that and sends codes."""
    taken = requests.utils.urlparse(parts.settings.require("infobip_base_url")).port
    settings = {"OTPQUEUE_METRICS_TOKEN": TOKEN, "OTPQUEUE_WORKER_METRICS_PORT": str(taken)}
    start("worker", "--queues=send", **settings)
    until(lambda: "send" in served(parts), within_s=60)
    request = ask()

    until(lambda: rows.request(request.id)["status"] == "sent")
    assert '"metrics_not_served"' in logged()
