"""When a pump polls for work: the schedule of its polls, and the thread that receives nudges.

A nudge comes from a caller who has not committed its row yet: limits and wake-up are one script in Redis, and
the call of Postgres follows. So a nudged pump polls after a moment, and again after growing pauses until it
has found as many rows as it was nudged for.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

PAUSES_S = (0.002, 0.002, 0.004, 0.008, 0.016)
"""Between a nudge and the polls that follow it, while they do not find its row."""

LAST_PAUSE_S = 0.03
"""Between the polls after those."""

WAIT_FOR_ROW_S = 0.25
"""After this long a nudge is dropped: its caller was refused, or another worker has the row."""

QUIET_POLL_S = 0.5
"""Pause between polls while nothing is expected and nudges are received."""

UNNUDGED_POLL_S = 0.025
"""Pause between polls while nudges cannot be received."""

TAKEN_POLL_S = 0.05
"""Pause between polls while rows are due that others hold."""

BURST = 3
"""A poll that finds this many rows is followed by the next one at once: more are likely to have come."""

REFRESH_S = 0.5
"""How often the listener sets the flag that says that a pump lingers."""

_UNREAD_S = 0.05
"""How long the listener waits at most for the pump to poll before it listens again."""


class PollSchedule:
    """The schedule of one job's polls. Times are of the monotonic clock, in seconds. Not thread-safe."""

    def __init__(
        self, *, now: float, linger_s: float, horizon_s: float, poll_s: float = UNNUDGED_POLL_S
    ) -> None:
        """Wait for rows up to `linger_s` after the last one, and for what falls due within `horizon_s`.

        `poll_s` is the pause between polls while no nudges are received.
        """
        self.at = now
        """When to poll next."""
        self._linger_s, self._horizon_s, self._poll_s = linger_s, horizon_s, poll_s
        self._found_at = now
        self._found_nothing = False
        self._due_soon = False
        self._expected: deque[tuple[float, int]] = deque()
        """Nudges without a row yet, oldest first: when, and how many."""
        self._step = 0
        if linger_s:
            # Callers who saw that a job was published may commit after the first poll.
            self._expected.append((now, 1))

    def note_nudges(self, now: float, count: int) -> None:
        """Expect `count` rows that are committed, or will be in a moment."""
        self._expected.append((now, count))
        self._step = 1
        self.at = min(self.at, now + PAUSES_S[0])

    def postpone_poll(self, until: float) -> None:
        """Poll at that time, whatever comes before: until then nothing may be claimed."""
        self.at = until
        self._found_nothing = False

    def poll_now(self, now: float) -> None:
        """Poll now."""
        self.at = now

    def note_poll(
        self,
        now: float,
        *,
        found: int,
        expected: int,
        more: bool,
        next_due_in_s: float | None,
        is_receiving: bool,
    ) -> None:
        """Note what a poll found, and when to poll next.

        `expected` is how many of the rows found are of the kind that callers nudge for. `more` says that more
        may be due than there was room for.
        """
        self._found_nothing = not found and not more
        if found:
            self._found_at = now
        self._settle(now, expected)
        if more or found >= BURST:
            self.at = now
        elif self._expected:
            self.at = now + (PAUSES_S[self._step] if self._step < len(PAUSES_S) else LAST_PAUSE_S)
            self._step += 1
        else:
            self.at = now + (QUIET_POLL_S if is_receiving else self._poll_s)
            if self._found_at + self._linger_s > now:
                self.at = min(self.at, self._found_at + self._linger_s)
        self._due_soon = next_due_in_s is not None and next_due_in_s <= self._horizon_s
        if next_due_in_s is not None and self._due_soon:
            # Due already, and yet not found: others hold it.
            self.at = min(self.at, now + (next_due_in_s + 0.001 if next_due_in_s > 0 else TAKEN_POLL_S))

    def _settle(self, now: float, found: int) -> None:
        while self._expected:
            since, count = self._expected[0]
            if since >= now - WAIT_FOR_ROW_S and not found:
                return
            self._expected.popleft()
            if since >= now - WAIT_FOR_ROW_S and count > found:
                self._expected.appendleft((since, count - found))
                return
            found = max(0, found - count)

    def is_over(self, now: float) -> bool:
        """Return whether the last row came more than `linger_s` ago and no other is expected."""
        is_waiting = self._expected or self._due_soon
        return self._found_nothing and not is_waiting and now >= self._found_at + self._linger_s


class Nudges(Protocol):
    """How pumps and those who have work for them find each other. No method raises."""

    def wake(self) -> bool:
        """Nudge a pump that lingers, or publish a job."""

    def linger(self) -> bool:
        """Announce for a moment that a pump lingers; return False when that fails."""

    def stop_lingering(self) -> None:
        """Withdraw that announcement."""

    def listen(self, seconds: float) -> int | None:
        """Wait for nudges and return how many came, None when they cannot be received."""


class NudgeListener:
    """The thread of a worker process that receives nudges while a job lingers. Thread-safe."""

    def __init__(self, nudges: Nudges, on_nudge: Callable[[int], bool]) -> None:
        """`on_nudge` gets how many there were; it returns whether a job will poll for their rows."""
        self._nudges, self._on_nudge = nudges, on_nudge
        self._changed = threading.Condition()
        self._is_on = self._has_thread = False
        self._refresh_at = 0.0
        self._polled = threading.Event()
        self.is_receiving = False
        """Whether nudges could be received at the last try."""

    def start(self) -> None:
        """Announce that a pump lingers, and listen from now on."""
        with self._changed:
            self._is_on = True
            self._refresh()
            if not self._has_thread:
                self._has_thread = True
                threading.Thread(target=self._run, name="nudges", daemon=True).start()
            self._changed.notify_all()

    def hand_over(self) -> None:
        """Leave the listening to a successor in any process; until it has begun, nudges wait for it."""
        with self._changed:
            self._is_on = False

    def stop(self) -> None:
        """Withdraw the announcement; do nothing after `hand_over`.

        A nudge of this moment may still come to `on_nudge`.
        """
        with self._changed:
            if self._is_on:
                self._is_on = False
                self._nudges.stop_lingering()

    def admit_nudge(self) -> None:
        """Accept the next nudge: the pump has polled since the last one."""
        self._polled.set()

    def _refresh(self) -> None:
        self._refresh_at = time.monotonic() + REFRESH_S
        self.is_receiving = self._nudges.linger()

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._is_on)
                    if time.monotonic() >= self._refresh_at:
                        self._refresh()
                    listen_s = max(0.01, self._refresh_at - time.monotonic())
                count = self._nudges.listen(listen_s)
                self.is_receiving = count is not None
                if count:
                    self._pass_on(count)
                elif count is None:
                    time.sleep(REFRESH_S)
        finally:
            with self._changed:
                self._has_thread = self.is_receiving = False

    def _pass_on(self, count: int) -> None:
        self._polled.clear()
        if self._on_nudge(count):
            self._polled.wait(_UNREAD_S)
        else:
            # The job has ended while we listened: the nudge is another worker's, or a reason for a new job.
            self._nudges.wake()
