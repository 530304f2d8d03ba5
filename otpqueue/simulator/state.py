"""The state of a running simulator."""

from collections import Counter
from collections.abc import Callable
from threading import RLock
from uuid import uuid4

from otpqueue.simulator.applications import Application
from otpqueue.simulator.auth import Tokens
from otpqueue.simulator.clock import Clock
from otpqueue.simulator.errors import ApiError
from otpqueue.simulator.faults import Faults
from otpqueue.simulator.inbox import Inbox
from otpqueue.simulator.limits import HitWindows
from otpqueue.simulator.options import Options
from otpqueue.simulator.outbox import Outbox
from otpqueue.simulator.pins import Pins


class SimulatorState:
    """The state of one simulator.

    Hold `lock` for reads and changes that must be atomic; the server runs on its own thread. `changes` counts
    changes that may have to be written to a file. `when_work` is called, from any thread, when a delivery
    report may be due.
    """

    clock: Clock
    applications: dict[str, Application]
    pins: Pins
    sends: HitWindows
    verifications: HitWindows
    throttles: HitWindows
    inbox: Inbox
    outbox: Outbox
    tokens: Tokens
    faults: Faults
    requests: Counter[tuple[str, str]]

    def __init__(self, options: Options) -> None:
        self.options = options
        self.lock = RLock()
        self.changes = 0
        self.when_work: Callable[[], None] | None = None
        self.reset()

    def reset(self) -> None:
        """Delete all state and return to wall time."""
        with self.lock:
            self.clock = Clock()
            self.applications = {}
            self.pins = Pins(self.options.pins_kept)
            self.sends = HitWindows(self.options.limit_window)
            self.verifications = HitWindows(self.options.limit_window)
            self.throttles = HitWindows(self.options.limit_window)
            self.inbox = Inbox(self.options.inbox_size)
            self.outbox = Outbox(self.options)
            self.tokens = Tokens()
            self.faults = Faults()
            self.requests = Counter()
            self.touch()

    def touch(self) -> None:
        """Count a change."""
        self.changes += 1

    def wake(self) -> None:
        """Wake the pusher, because a delivery report may be due."""
        if self.when_work is not None:
            self.when_work()

    def application(self, application_id: str) -> Application:
        """Return an application by id; raises `ApiError` 404."""
        application = self.applications.get(application_id)
        if application is None:
            raise ApiError(404)
        return application

    def throttled(self, wait_s: float) -> ApiError:
        """Return the error of a request over a limit that admits it after `wait_s` seconds."""
        options = self.options
        return ApiError(
            options.throttle_status,
            options.throttle_message_id,
            "Too many requests",
            retry_after_s=wait_s if options.retry_after else None,
        )


def new_id() -> str:
    """Return an id in the shape of Infobip's samples: 32 hex digits in capitals."""
    return uuid4().hex.upper()
