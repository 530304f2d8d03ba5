"""What the masks of the logs cost: `python -m benchmarks.logs`. Microseconds a record, best of five runs."""

from __future__ import annotations

import timeit

from otpqueue import masks

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


def cost_us(record: dict[str, object]) -> float:
    """Return what masking a record costs, in microseconds."""
    runs = timeit.repeat(lambda: masks.values(record), number=5000, repeat=5)
    return min(runs) / 5000 * 1_000_000


if __name__ == "__main__":
    print(f"a request's record   {cost_us(REQUEST):6.1f} us")
    print(f"one with a traceback {cost_us(CRASH):6.1f} us")
