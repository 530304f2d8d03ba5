"""Logs: one JSON object a line, whoever logs, and no secrets in tracebacks."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

PREAMBLE = """
import logging
import structlog
from otpqueue.logs import configure, get_logger
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
configure(process="api", style="json", level="INFO")
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
structlog.contextvars.bind_contextvars(request_id="r-1")
log.warning("otp_sent", thing=object(), process="worker")
log.info("odd", text="\\u2028 \\x00 \\ud83d\\ude00 \\n")
"""
    )
    return [json.loads(line) for line in lines]


def test_every_record_is_one_json_object_with_the_same_fields(records: list[dict[str, Any]]) -> None:
    """A machine can read each line alone, whoever logged it, and finds process, event, level and time."""
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


def test_bound_context_stands_in_the_record(records: list[dict[str, Any]]) -> None:
    """What was bound for a request is in its records; a field given by name wins over the process's."""
    assert records[5]["request_id"] == "r-1"
    assert records[5]["process"] == "worker"


def test_readable_style_is_for_people() -> None:
    """The readable style says the same, without colours in a file and without local variables."""
    lines = run(
        """
configure(process="dev", style="readable", level="WARNING")
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
configure(process="api", level="DEBUG")
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
configure(process="one")
configure(process="two")
logging.getLogger("x").warning("once")
"""
    )

    assert [json.loads(line)["process"] for line in lines] == ["two"]
