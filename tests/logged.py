"""A plugin that collects what is logged in tests, one record of each event, for the examples in docs/logs.md.

    pytest -n 0 -p tests.logged --logged=FILE tests/operations/test_send.py ...

Each line of FILE is a record as the product prints it. Records of real processes (`*.log` in the folders of
tests) are taken rather than those of the tests' own process, which are given the name of the process that
would have logged them.
"""

from __future__ import annotations

import json
import logging
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


class Collecting(logging.Handler):
    """Keeps the first record of each event."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, dict[str, Any]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        if record.name.startswith("otpqueue"):
            found = json.loads(self.format(record))
            found["process"] = next(name for module, name in OURS if record.name.startswith(module))
            self.records.setdefault(found["event"], found)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--logged`."""
    parser.addoption("--logged", required=True, type=Path, help="where to write records, one a line")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to collect."""
    logs.configure(process="test", level="INFO")
    (printing,) = logging.getLogger().handlers
    collecting = Collecting()
    collecting.setFormatter(printing.formatter)
    logging.getLogger().handlers[:] = [collecting]
    config.stash[_COLLECTING] = collecting
    _take_from_captures()


def _take_from_captures() -> None:
    """See records, too, that a test captures and looks at."""
    chain, capture = list(structlog.get_config()["processors"]), structlog.testing.LogCapture.__call__

    def pass_on(self: Any, logger: Any, method: str, event: Any) -> Any:
        said: Any = dict(event)
        for processor in chain:
            said = processor(logger, method, said)
        positional, named = said
        getattr(logger, method)(*positional, **named)
        return capture(self, logger, method, event)

    structlog.testing.LogCapture.__call__ = pass_on  # type: ignore[method-assign]


_COLLECTING = pytest.StashKey[Collecting]()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was collected."""
    records = session.config.stash[_COLLECTING].records
    folder: Path = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
    for log in sorted(folder.rglob("*.log")):
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith('{"') and line.endswith("}"):
                record = json.loads(line)
                if str(record.get("logger", "")).startswith("otpqueue"):
                    records[record["event"]] = record
    lines = [json.dumps(record) for _, record in sorted(records.items())]
    session.config.getoption("logged").write_text("\n".join(lines) + "\n")
