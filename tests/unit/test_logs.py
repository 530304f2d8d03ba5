"""Logs: one JSON object per line for all loggers, without secrets in tracebacks."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PREAMBLE = """
import logging
import structlog
from otpqueue.telemetry.logs import begin_call, configure_logs, get_logger
log = get_logger("otpqueue.test")
"""


def run(script: str) -> list[str]:
    """Run a script that logs, in a process of its own, and return what it wrote to stderr, by line."""
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    """Return the records of a process that logs in every way, as JSON."""
    lines = run(
        """
configure_logs(process="api", style="json", level="INFO")
log.info("otp_requested", otp_id="1", country="GB")
log.debug("too_quiet")
logging.getLogger("library").warning("two\\nlines and %s", "an argument")
logging.getLogger("library").debug("too quiet")
logging.getLogger("library").error("more", extra={"attempt": 3})
def fails(api_key):
    hidden = "local-s3cret"
    raise ValueError("static words")
for logger in (log, logging.getLogger("library")):
    try:
        fails("argument-s3cret")
    except ValueError:
        logger.exception("it_failed")
begin_call(request_id="r-1")
log.warning("otp_sent", thing=object(), process="worker")
log.info("odd", text="\\u2028 \\x00 \\ud83d\\ude00 \\n")
"""
    )
    return [json.loads(line) for line in lines]


def test_every_record_is_one_json_object_with_the_same_fields(records: list[dict[str, Any]]) -> None:
    """Each line has process, event, level and time, for all loggers."""
    assert len(records) == 7
    for record in records:
        assert {"process", "event", "level", "logger", "timestamp"} <= set(record)
        assert record["timestamp"].endswith("Z")
    assert [record["event"] for record in records] == [
        "otp_requested",
        "two\nlines and an argument",
        "more",
        "it_failed",
        "it_failed",
        "otp_sent",
        "odd",
    ]


def test_fields_stand_beside_the_event(records: list[dict[str, Any]]) -> None:
    """What was logged as a field is a field."""
    first = records[0]

    assert (first["process"], first["level"], first["logger"]) == ("api", "info", "otpqueue.test")
    assert (first["otp_id"], first["country"]) == ("1", "GB")


def test_standard_library_records_go_the_same_way(records: list[dict[str, Any]]) -> None:
    """Libraries' records have the same shape, their `extra` included."""
    warning, error = records[1], records[2]

    assert (warning["process"], warning["level"], warning["logger"]) == ("api", "warning", "library")
    assert error["attempt"] == 3


def test_tracebacks_have_no_local_variables(records: list[dict[str, Any]]) -> None:
    """A traceback names frames and the error, never the values in the frames."""
    ours, theirs = records[3], records[4]

    for record in (ours, theirs):
        (exception,) = record["exception"]
        assert (exception["exc_type"], exception["exc_value"]) == ("ValueError", "static words")
        assert [frame["name"] for frame in exception["frames"]][-1] == "fails"
        assert "s3cret" not in json.dumps(record)


def test_record_contains_the_bound_context(records: list[dict[str, Any]]) -> None:
    """Bound fields are in the records. An explicit field has priority."""
    assert records[5]["request_id"] == "r-1"
    assert records[5]["process"] == "worker"


def test_readable_style_is_for_people() -> None:
    """The readable style says the same, without colours in a file and without local variables."""
    lines = run(
        """
configure_logs(process="dev", style="readable", level="WARNING")
log.info("too_quiet")
log.warning("otp_failed", otp_id="1")
try:
    hidden = "local-s3cret"
    raise ValueError("static words")
except ValueError:
    log.exception("it_failed")
"""
    )

    text = "\n".join(lines)
    assert "otp_failed" in lines[0]
    assert "otp_id=1" in lines[0]
    assert "too_quiet" not in text
    assert "\x1b" not in text
    assert "ValueError: static words" in text
    assert "local-s3cret" not in text


def test_http_library_does_not_log_urls() -> None:
    """A pinId stands in the URL of a check, which the HTTP library would log: it may not, at any level."""
    lines = run(
        """
configure_logs(process="api", level="DEBUG")
from otpqueue.infobip.transport import Transport
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
def serve():
    connection, _ = server.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nno header at all\\r\\n\\r\\n")
    connection.close()
threading.Thread(target=serve).start()
transport = Transport(
    base_url=f"http://127.0.0.1:{server.getsockname()[1]}",
    api_key="s3cret", connections=1, connect_timeout_s=2, timeout_s=2,
)
transport.call("POST", "/2fa/2/pin/p1n1d/verify", {"pin": "123456"})
log.debug("end")
"""
    )

    assert [json.loads(line)["event"] for line in lines] == ["end"]


def test_configuring_again_replaces_the_handler() -> None:
    """A second call does not double the records."""
    lines = run(
        """
configure_logs(process="one")
configure_logs(process="two")
logging.getLogger("x").warning("once")
"""
    )

    assert [json.loads(line)["process"] for line in lines] == ["two"]


def test_later_configuration_holds_for_loggers_that_have_logged() -> None:
    """A logger that has been used before takes the level and the process of the latest configuration."""
    lines = run(
        """
configure_logs(process="one", level="INFO")
log.info("first")
configure_logs(process="two", level="WARNING")
log.info("too_quiet")
log.warning("second")
"""
    )

    found = [json.loads(line) for line in lines]
    assert [(record["event"], record["process"]) for record in found] == [("first", "one"), ("second", "two")]


def test_records_can_be_captured_after_they_were_written() -> None:
    """Tests capture records of loggers that have been used, and undo a configuration."""
    lines = run(
        """
from otpqueue.telemetry import logs
configure_logs(process="api")
log.info("written")
with structlog.testing.capture_logs() as captured:
    log.info("captured", a=1)
assert captured == [{"event": "captured", "a": 1, "log_level": "info"}]
log.info("written_again")
logs.reset_logs()
with structlog.testing.capture_logs() as captured:
    log.debug("captured_too")
assert captured == [{"event": "captured_too", "log_level": "debug"}]
"""
    )

    assert [json.loads(line)["event"] for line in lines] == ["written", "written_again"]


def test_records_follow_a_redirection() -> None:
    """Records follow a redirection of standard error."""
    lines = run(
        """
import contextlib, io, json
configure_logs(process="api")
with contextlib.redirect_stderr(io.StringIO()) as caught:
    log.info("caught")
    logging.getLogger("library").warning("caught, too")
assert [json.loads(line)["event"] for line in caught.getvalue().splitlines()] == ["caught", "caught, too"]
log.info("end")
"""
    )

    assert [json.loads(line)["event"] for line in lines] == ["end"]


def test_record_that_cannot_be_written_stops_nothing() -> None:
    """Work goes on when standard error is closed, is full, or cannot take what a record holds."""
    lines = run(
        """
import io, sys
configure_logs(process="api", style="readable")
kept, sys.stderr = sys.stderr, io.TextIOWrapper(io.BytesIO(), "ascii", "strict")
log.info("odd", text="\\u2028")
assert b"record_not_written" in sys.stderr.buffer.getvalue()
sys.stderr.close()
log.info("closed")
sys.stderr = open("/dev/full", "w")
log.info("full")
logging.getLogger("library").warning("full, too")
sys.stderr = kept
log.info("end")
"""
    )

    assert len(lines) == 1
    assert "end" in lines[0]


def test_handler_of_a_signal_may_log() -> None:
    """A signal that comes while a record is being written may be logged by the same thread."""
    lines = run(
        """
import signal, sys
configure_logs(process="api")
signal.signal(signal.SIGALRM, lambda *_: log.info("signalled"))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for _ in range(2000):
    log.info("work")
signal.setitimer(signal.ITIMER_REAL, 0)
log.info("end")
"""
    )

    assert json.loads(lines[-1])["event"] == "end"
    assert any('"signalled"' in line for line in lines)


def test_forked_process_may_log() -> None:
    """A fork while another thread writes leaves the child able to log."""
    lines = run(
        """
import os, threading
configure_logs(process="api")
done = threading.Event()
def write():
    while not done.is_set():
        log.info("work")
threading.Thread(target=write).start()
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        log.info("forked")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
done.set()
"""
    )

    assert sum('"forked"' in line for line in lines) == 20


def test_lines_of_threads_are_whole() -> None:
    """Threads that log at once write whole lines, long ones too."""
    lines = run(
        """
import threading
configure_logs(process="api")
def write(number):
    for _ in range(50):
        log.info("work", number=number, long="x" * 20_000)
threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    )

    assert len([json.loads(line) for line in lines]) == 400
