"""The trace of one code from the API through a worker to the provider."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import text

from otpqueue import clock
from otpqueue.embedded import ChildProcess
from otpqueue.store.engine import connection
from tests import leaks
from tests.api.conftest import Caller
from tests.api.serving import Served, free_port, parts_of, serving, settings_over_a_database
from tests.conftest import NO_LIMITS, Engines, Provider
from tests.operations.looking import until
from tests.traces.collector import Seen, collecting
from tests.traces.hung import Hung

CALLERS_TRACE, CALLERS_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
RETRIED, RESENT, LOST, UNSAMPLED = (f"+4477009006{last}" for last in (61, 62, 63, 64))
SESSION = "session-Tr4cEd"
ASK = "/v1/otp-requests"


def traceparent(flags: str = "01") -> dict[str, str]:
    """Return the header of a caller that traces its own calls."""
    return {"traceparent": f"00-{CALLERS_TRACE}-{CALLERS_SPAN}-{flags}"}


@dataclass
class Story:
    """What was done, and what was seen of it."""

    spans: list[Seen]
    written: bytes
    resources: list[dict[str, Any]]
    records: list[dict[str, Any]]
    ids: dict[str, str]
    secrets: leaks.Secrets
    rows: dict[str, str | None]

    def of(self, number: str, name: str) -> list[Seen]:
        """Return the spans of this name about the request for a number, in the order of their beginning."""
        mine = [span for span in self.spans if span.attributes.get("otpqueue.otp_id") == self.ids[number]]
        return [span for span in mine if span.name == name]

    def within(self, span: Seen) -> list[Seen]:
        """Return the child spans of this span."""
        return [one for one in self.spans if (one.trace_id, one.parent_id) == span.context]


class _Telling:
    """Makes the calls of the story."""

    def __init__(self, served: Served) -> None:
        self.served, self.ids = served, dict[str, str]()
        self.secrets = leaks.Secrets({"session": SESSION, "key": served.key.split("_", 2)[2]})

    def ask(self, number: str, *, headers: dict[str, str] | None = None) -> str:
        """Ask for a code and return the request's path."""
        self.secrets.add_number(number)
        body = {"phone_number": number, "session_id": SESSION}
        answer = self.served.call("POST", ASK, json=body, headers=headers or {})
        assert answer.status_code == 202, answer.text
        self.ids[number] = answer.json()["id"]
        return f"{ASK}/{self.ids[number]}"

    def becomes(self, path: str, status: str, *, resend: str | None = None) -> None:
        """Wait until the request, and its resend if it has one, stand so."""

        def stands() -> bool:
            request = self.served.call("GET", path).json()
            again = request["resend"] and request["resend"]["status"]
            return (request["status"], again) == (status, resend)

        until(stands, within_s=30)

    def code(self, number: str) -> str:
        """Return the code that was sent, which must be found nowhere."""
        message = self.served.provider.messages(number)[0]
        self.secrets.codes.add(message["pin"])
        self.secrets.texts[f"pin id of ..{number[-2:]}"] = message["pinId"]
        return str(message["pin"])

    def make_calls(self) -> None:
        """Make all calls."""
        provider = self.served.provider
        provider.fault(match={"path": "/2fa/2/pin", "to": RETRIED[1:]}, status=503, times=1)
        provider.fault(match={"path": "/2fa/2/pin", "to": LOST[1:]}, status=500, body="gone", times=1)
        retried = self.ask(RETRIED, headers=traceparent())
        resent, lost = self.ask(RESENT), self.ask(LOST)
        unsampled = self.ask(UNSAMPLED, headers=traceparent("00"))
        for path in (retried, resent, lost, unsampled):
            self.becomes(path, "sent")
        code = self.code(RETRIED)
        for guess, status in ((f"{(int(code) + 1) % 1_000_000:06}", 422), (code, 200)):
            body = {"code": guess, "session_id": SESSION}
            assert self.served.call("POST", f"{retried}/verify", json=body).status_code == status
        with connection(self.served.parts.engine) as conn:
            conn.execute(text("UPDATE otp_requests SET resend_after = created_at"))
        assert self.served.call("POST", f"{resent}/resend").status_code == 202
        self.becomes(resent, "sent", resend="sent")
        for number in (RESENT, LOST, UNSAMPLED):
            self.code(number)
        for path in (f"/nowhere/{RESENT}?code={code}", f"{ASK}/{RESENT}/verify?phone_number={RESENT}"):
            assert self.served.call("POST", path, json={"code": code}, checked=False).status_code in {
                400,
                404,
            }
        requests.request(f"CODE{code}", self.served.url + ASK, timeout=10)
        self.served.call("GET", "/health")


@pytest.fixture(scope="module")
def story(engines: Engines, _simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Run the calls against an API and a worker, stop both, and return the collected spans."""
    folder: Path = tmp_path_factory.mktemp("traced")
    with collecting() as collector, settings_over_a_database(engines, provider_url=_simulator) as settings:
        settings |= {
            "OTPQUEUE_TRACES": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            # Nothing is sent before the processes end, unless a flush sends it then.
            "OTEL_BSP_SCHEDULE_DELAY": "600000",
        }
        log = folder / "worker.log"
        worker = ChildProcess(
            "worker",
            [sys.executable, "-m", "otpqueue", "worker", "--queues=send"],
            env={**os.environ, **settings},
            log=log,
            cwd=folder,
        )
        with serving(settings, folder) as served:
            worker.start()
            try:
                telling = _Telling(served)
                telling.make_calls()
            finally:
                os.kill(worker.pid, signal.SIGTERM)
                worker.wait(30)
            with connection(served.parts.engine) as conn:
                found = conn.execute(text("SELECT id::text, trace_context FROM otp_requests"))
                rows = {row.id: row.trace_context for row in found}
            assert {span.service for span in collector.spans()} == {"otpqueue-worker"}
        records = [
            json.loads(line)
            for file in (served.log, log)
            for line in file.read_text().splitlines()
            if line.startswith("{")
        ]
        yield Story(
            collector.spans(),
            b"".join(collector.bodies),
            collector.resources(),
            records,
            telling.ids,
            telling.secrets,
            rows,
        )


def test_caller_is_where_the_trace_begins(story: Story) -> None:
    """The accepted call is a child span of the caller's span in `traceparent`."""
    (accepted,) = story.of(RETRIED, f"POST {ASK}")

    assert (accepted.trace_id, accepted.parent_id) == (CALLERS_TRACE, CALLERS_SPAN)
    assert (accepted.kind, accepted.service, accepted.failed) == ("server", "otpqueue-api", False)
    about = accepted.attributes
    assert (about["http.request.method"], about["http.route"], about["url.scheme"]) == ("POST", ASK, "http")
    assert (about["http.response.status_code"], about["otpqueue.client"]) == (202, "served")


def test_row_carries_the_trace_to_the_worker(story: Story) -> None:
    """Each attempt of the worker is a span within the call that was accepted, and so is the retry."""
    (accepted,) = story.of(RETRIED, f"POST {ASK}")
    refused, sent = story.of(RETRIED, "send_code")

    assert story.rows[story.ids[RETRIED]] == f"00-{CALLERS_TRACE}-{accepted.span_id}-01"
    assert str(story.rows[story.ids[RETRIED]]) not in str(story.records)
    for attempt in (refused, sent):
        assert (attempt.trace_id, attempt.parent_id) == accepted.context
        assert (attempt.service, attempt.kind) == ("otpqueue-worker", "internal")
    assert [one.attributes["otpqueue.attempt"] for one in (refused, sent)] == [1, 2]
    assert [one.attributes["otpqueue.outcome"] for one in (refused, sent)] == ["refused", "accepted"]
    assert [one.failed for one in (refused, sent)] == [True, False]
    assert sent.attributes["otpqueue.country"] == "GB"
    assert accepted.start < refused.start < refused.end < sent.start


def test_provider_is_asked_within_the_attempt(story: Story) -> None:
    """The call to the provider is a client's span within its attempt; one that is refused has failed."""
    refused, sent = story.of(RETRIED, "send_code")

    for attempt, status in ((refused, 503), (sent, 200)):
        (asked,) = story.within(attempt)
        assert (asked.kind, asked.name) == ("client", "POST /2fa/2/pin")
        assert (asked.attributes["server.address"], asked.attributes["http.response.status_code"]) == (
            "127.0.0.1",
            status,
        )
        assert asked.attributes["server.port"] > 0
        assert (asked.failed, asked.attributes.get("error.type")) == (
            (True, "503") if status == 503 else (False, None)
        )


def test_unknown_outcome_is_investigated_within_the_attempt(story: Story) -> None:
    """The evidence query of an unknown outcome belongs to the attempt."""
    unknown, *_ = story.of(LOST, "send_code")

    asked, looked = story.within(unknown)
    assert (unknown.attributes["otpqueue.outcome"], unknown.failed) == ("unknown", True)
    assert (asked.failed, asked.attributes["error.type"]) == (True, "500")
    assert looked.name == "GET /2fa/2/applications/{applicationId}/verifications"


def test_check_is_linked_to_the_call_that_had_the_code_sent(story: Story) -> None:
    """A check is a trace of its own, the provider in it, and names the one in which the code was sent."""
    (accepted,) = story.of(RETRIED, f"POST {ASK}")
    calls = story.of(RETRIED, f"POST {ASK}/{{request_id}}/verify")
    wrong, right = story.of(RETRIED, "check_code")

    for call, check in zip(calls, (wrong, right), strict=True):
        assert call.trace_id != accepted.trace_id
        assert (check.trace_id, check.parent_id) == call.context
        assert check.links == [accepted.context]
        (asked,) = story.within(check)
        assert (asked.kind, asked.name) == ("client", "POST /2fa/2/pin/{pinId}/verify")
    assert [one.attributes["otpqueue.verdict"] for one in (wrong, right)] == ["wrong", "correct"]
    assert [call.attributes["http.response.status_code"] for call in calls] == [422, 200]
    # A wrong code is the person's mistake, and no failure of ours.
    assert not any(one.failed for one in (*calls, wrong, right))
    assert calls[0].attributes["otpqueue.problem"] == "code_incorrect"


def test_resend_goes_on_in_its_own_trace(story: Story) -> None:
    """The second send belongs to the call that asked for it, which names the first one."""
    (accepted,) = story.of(RESENT, f"POST {ASK}")
    (again,) = story.of(RESENT, f"POST {ASK}/{{request_id}}/resend")
    first, second = story.of(RESENT, "send_code")

    assert accepted.parent_id == ""
    assert again.links == [accepted.context]
    assert (first.trace_id, first.parent_id) == accepted.context
    assert (second.trace_id, second.parent_id) == again.context
    assert second.attributes["otpqueue.send"] == 2
    assert [one.name for one in story.within(second)] == ["POST /2fa/2/pin/{pinId}/resend"]
    assert str(story.rows[story.ids[RESENT]]).startswith(f"00-{again.trace_id}-{again.span_id}-")


def test_call_that_is_not_sampled_is_not_traced_further(story: Story) -> None:
    """A caller that says its trace is not kept is believed, by the worker, too."""
    unsampled = story.ids[UNSAMPLED]

    assert str(story.rows[unsampled]).startswith(f"00-{CALLERS_TRACE}-")
    assert str(story.rows[unsampled]).endswith("-00")
    assert story.of(UNSAMPLED, f"POST {ASK}") == story.of(UNSAMPLED, "send_code") == []
    (record,) = [one for one in story.records if one["event"] == "otp_sent" and one["otp_id"] == unsampled]
    assert "trace_id" not in record


def test_calls_are_named_by_their_route(story: Story) -> None:
    """What a path, query or method holds is in no name: a call that no route takes has only its method."""
    (nowhere,) = [span for span in story.spans if span.attributes.get("http.response.status_code") == 404]
    (odd,) = [span for span in story.spans if span.attributes.get("http.request.method") == "_OTHER"]

    assert (nowhere.name, "http.route" in nowhere.attributes) == ("POST", False)
    assert odd.attributes["http.response.status_code"] == 405
    assert not [span for span in story.spans if "health" in span.name]


def test_nothing_secret_is_sent(story: Story) -> None:
    """No number, code, pinId, session or key is in what the collector got."""
    assert story.ids[RETRIED].encode() in story.written
    assert story.secrets.found_in(story.written) == []


def test_processes_say_who_they_are(story: Story) -> None:
    """Each process is a service by name, with its version and an instance."""
    assert {one["service.name"] for one in story.resources} == {"otpqueue-api", "otpqueue-worker"}
    for one in story.resources:
        assert one["service.namespace"] == "otpqueue"
        assert one["service.version"]
        assert ":" in one["service.instance.id"]


@pytest.mark.parametrize(
    ("event", "spans"),
    [
        ("otp_requested", f"POST {ASK}"),
        ("http_request", f"POST {ASK}/{{request_id}}/verify"),
        ("otp_sent", "send_code"),
        ("otp_send_refused", "send_code"),
        ("otp_verified", f"POST {ASK}/{{request_id}}/verify"),
    ],
)
def test_log_names_the_span(story: Story, event: str, spans: str) -> None:
    """A record carries the ids of the span it was written in: from a log one finds the trace, and back."""
    mine = [
        (one.get("trace_id"), one.get("span_id"))
        for one in story.records
        if one["event"] == event and one.get("otp_id") == story.ids[RETRIED]
    ]

    assert mine
    assert set(mine) & {span.context for span in story.of(RETRIED, spans)}
    assert all(trace and span for trace, span in mine)


@pytest.mark.parametrize("collector", ["away", "hung"])
def test_unresponsive_collector_causes_no_delay(
    engines: Engines, provider: Provider, monkeypatch: pytest.MonkeyPatch, collector: str
) -> None:
    """While the collector does not answer, codes are requested, sent and checked."""
    with (
        closing(Hung()) as hung,
        settings_over_a_database(engines, provider_url=provider.url) as settings,
    ):
        port = hung.port if collector == "hung" else free_port()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60" if collector == "hung" else "1")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
        with parts_of(settings | NO_LIMITS | {"OTPQUEUE_TRACES": "true"}) as parts:
            parts.provision(parts.transport, now=clock.now())
            caller = Caller(parts, provider)
            for _ in range(10):
                path, code = caller.sent()
                assert caller.verify(path, code).status_code == 200
            if collector == "hung":
                until(lambda: hung.asked)
        hung.refuse()
        until(lambda: not [one for one in threading.enumerate() if one.name.startswith("OtelBatch")])
