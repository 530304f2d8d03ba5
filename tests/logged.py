"""A plugin that collects what is logged in tests, one record of each event, for the examples in docs/logs.md.

    pytest -n 0 -p tests.logged --logged=FILE tests/operations/test_send.py ...

Each line of FILE is a record as the product prints it. Records of real processes (`*.log` in the folders of
tests) are taken rather than those of the tests' own process, which are given the name of the process that
would have logged them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import structlog

from otpqueue import logs

OURS = (
    ("otpqueue.api", "api"),
    ("otpqueue.cli", "dev"),
    ("otpqueue.worker", "worker-periodic+slow"),
    ("otpqueue.store.claims", "worker-send"),
    ("otpqueue.circuit", "worker-send"),
    ("otpqueue.operations.send_webhooks", "worker-slow"),
    ("otpqueue.store.webhooks", "worker-slow"),
    ("otpqueue.operations.notify_alerts", "worker-slow"),
    ("otpqueue.operations.evaluate_alerts", "worker-slow"),
    ("otpqueue.operations.alert_book", "worker-slow"),
    ("otpqueue.operations.send", "worker-send"),
    ("otpqueue.operations.sweep", "worker-periodic"),
    ("otpqueue.operations.expire", "worker-periodic"),
    ("otpqueue.operations.roll_up", "worker-periodic"),
    ("otpqueue.operations.heart", "worker-periodic"),
    ("otpqueue.operations.purge", "worker-slow"),
    *(
        (f"otpqueue.operations.{command}", "otpqueue")
        for command in (
            "blocklist",
            "numbers",
            "provision",
            "rotate_hash",
            "rotate_seal",
            "stop_sending",
            "webhooks",
        )
    ),
    ("otpqueue", "api"),
)
"""Which process a module logs in; the first that fits."""


class Collected:
    """Keeps the first record of each event."""

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}

    def take(self, line: str) -> None:
        """Keep a record."""
        found = json.loads(line)
        name = str(found.get("logger", ""))
        if name.startswith("otpqueue"):
            found["process"] = next(process for module, process in OURS if name.startswith(module))
            self.records.setdefault(found["event"], found)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--logged`."""
    parser.addoption("--logged", required=True, type=Path, help="where to write records, one a line")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to collect."""
    collected = config.stash[_COLLECTED] = Collected()
    logs.write = collected.take
    logs.configure(process="test", level="INFO")
    _take_from_captures(collected)


def pytest_runtest_setup() -> None:
    """Configure again: each test ends with what it began with, and that is nothing."""
    logs.configure(process="test", level="INFO")


def _take_from_captures(collected: Collected) -> None:
    """See records, too, that a test captures and looks at."""
    (render,) = structlog.get_config()["processors"]
    capture = structlog.testing.LogCapture.__call__

    def take_and_capture(self: Any, logger: Any, method: str, event: Any) -> Any:
        collected.take(render(logger, method, dict(event)))
        return capture(self, logger, method, event)

    structlog.testing.LogCapture.__call__ = take_and_capture  # type: ignore[method-assign]


_COLLECTED = pytest.StashKey[Collected]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was collected."""
    records = session.config.stash[_COLLECTED].records
    folder: Path = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    for log in sorted(folder.rglob("*.log")):
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith('{"') and line.endswith("}"):
                record = json.loads(line)
                if str(record.get("logger", "")).startswith("otpqueue"):
                    records[record["event"]] = record
    lines = [json.dumps(record) for _, record in sorted(records.items())]
    session.config.getoption("logged").write_text("\n".join(lines) + "\n")
