"""All that a running simulator remembers."""

from collections import Counter
from threading import RLock
from uuid import uuid4

from otpqueue.simulator.applications import Application
from otpqueue.simulator.clock import Clock
from otpqueue.simulator.errors import ApiError
from otpqueue.simulator.faults import Faults
from otpqueue.simulator.inbox import Inbox
from otpqueue.simulator.limits import Windows
from otpqueue.simulator.options import Options
from otpqueue.simulator.pins import Pins


class State:
    """The memory of one simulator.

    Hold `lock` for whatever must not be seen half done; the server works on its own thread.
    """

    clock: Clock
    applications: dict[str, Application]
    pins: Pins
    sends: Windows
    verifications: Windows
    inbox: Inbox
    faults: Faults
    requests: Counter[tuple[str, str]]

    def __init__(self, options: Options) -> None:
        self.options = options
        self.lock = RLock()
        self.reset()

    def reset(self) -> None:
        """Forget everything, and go back to wall time."""
        with self.lock:
            self.clock = Clock()
            self.applications = {}
            self.pins = Pins(self.options.pins_kept)
            self.sends = Windows(self.options.limit_window)
            self.verifications = Windows(self.options.limit_window)
            self.inbox = Inbox(self.options.inbox_size)
            self.faults = Faults()
            self.requests = Counter()

    def application(self, application_id: str) -> Application:
        """Return an application by id; raises `ApiError` 404."""
        application = self.applications.get(application_id)
        if application is None:
            raise ApiError(404)
        return application

    def throttled(self, wait_s: float) -> ApiError:
        """Return the refusal of a request that is over a limit for `wait_s` seconds more."""
        return ApiError(
            429, self.options.throttle_message_id, retry_after_s=wait_s if self.options.retry_after else None
        )


def new_id() -> str:
    """Return an id in the shape of Infobip's samples: 32 hex digits in capitals."""
    return uuid4().hex.upper()
