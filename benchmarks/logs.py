"""What log records cost, in CPU time: `python -m benchmarks logs`. us a record, best of five runs."""

from __future__ import annotations

import contextlib
import os
import time
import timeit
from collections.abc import Callable
from pathlib import Path

from otpqueue.telemetry import logs, masks

REQUEST = {
    "event": "http_request",
    "method": "POST",
    "route": "/v1/otp-requests/{request_id}/verify",
    "status": 200,
    "peer": "198.51.100.0/24",
    "duration_ms": 12.7,
    "request_id": "01a20f32-a391-7501-be4a-729756d292ed",
    "otp_id": "01a20f3b-dd5d-754f-9fbd-cec92d4a20c2",
    "client": "shop",
    "level": "info",
    "logger": "otpqueue.api.middleware",
    "timestamp": "2026-11-24T20:25:11.273986Z",
    "process": "api",
}
FRAME = {
    "filename": "/srv/otpqueue/operations/send.py",
    "lineno": 314,
    "name": "send",
    "line": "raise",
    "locals": None,
}
CRASH = {
    **REQUEST,
    "exception": [
        {
            "exc_type": "ValueError",
            "exc_value": "no way to +44 7700 900123",
            "frames": [FRAME] * 20,
        }
    ],
}


def cost_us(work: Callable[[], object]) -> float:
    """Return what this costs, in microseconds of CPU time."""
    runs = timeit.repeat(work, timer=time.process_time, number=5000, repeat=5)
    return min(runs) / 5000 * 1_000_000


def written_us() -> float:
    """Return what a record costs from the call of the logger until it is written."""
    logs.configure_logs(process="api", level="INFO")
    log = logs.get_logger("benchmarks.logs")
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        logs.begin_call(request_id=str(REQUEST["request_id"]))
        logs.bind_fields(client="shop", otp_id=str(REQUEST["otp_id"]))
        return cost_us(
            lambda: log.info(
                "http_request",
                method="POST",
                route=REQUEST["route"],
                status=200,
                peer="198.51.100.0/24",
                duration_ms=12.7,
            )
        )


def main() -> None:
    """Print what records and masks cost."""
    print(f"masks of a request's record   {cost_us(lambda: masks.mask_values(REQUEST)):6.1f} us")
    print(f"masks of one with a traceback {cost_us(lambda: masks.mask_values(CRASH)):6.1f} us")
    print(f"a request's record, written   {written_us():6.1f} us")


if __name__ == "__main__":
    main()
