"""The published throttles of the configuration endpoints: requests in 10 minutes.

Source: Infobip OpenAPI 3.210.0.
"""

from collections.abc import Mapping
from typing import Final

from otpqueue.simulator.durations import AttemptLimit
from otpqueue.simulator.state import SimulatorState

_SECONDS: Final = 600.0

PUBLISHED: Final[Mapping[tuple[str, str], int]] = {
    ("GET", "/2fa/2/applications"): 50,
    ("POST", "/2fa/2/applications"): 20,
    ("GET", "/2fa/2/applications/{application_id}"): 100,
    ("PUT", "/2fa/2/applications/{application_id}"): 40,
    ("POST", "/2fa/2/applications/{application_id}/email/messages"): 20,
    ("PUT", "/2fa/2/applications/{application_id}/email/messages/{message_id}"): 40,
}


def count_request(state: SimulatorState, method: str, route: str) -> None:
    """Count one request; raises `ApiError` 429 over the throttle of its operation.

    A throttle counts the requests of all keys and all applications, which is INFERRED.
    """
    attempts = PUBLISHED.get((method, route))
    if attempts is None:
        return
    key = f"{method} {route}"
    with state.lock:
        now = state.clock.now()
        wait_s = state.throttles.wait(key, AttemptLimit(attempts, _SECONDS), now)
        if wait_s > 0:
            raise state.throttled(wait_s)
        state.throttles.hit(key, now)
