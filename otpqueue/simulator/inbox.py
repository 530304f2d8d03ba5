"""The inbox: every sent message, so that a test or a person can read the PIN.

Not part of the simulated API.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from otpqueue.simulator.clock import format_iso

Channel = Literal["SMS", "VOICE", "EMAIL"]


@dataclass(frozen=True, slots=True)
class InboxMessage:
    """One message that arrived; `to` in digits or an address, `sent_at` in epoch seconds of the clock.

    `text` is what an SMS or an e-mail says, or what a call speaks. `external_id` is the id delivery reports
    carry, None when the message is not tracked.
    """

    to: str
    channel: Channel
    sender: str | None
    text: str
    pin: str
    pin_id: str
    sent_at: float
    external_id: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the message as the inbox endpoint shows it."""
        return {
            "to": self.to,
            "channel": self.channel,
            "from": self.sender,
            "text": self.text,
            "pin": self.pin,
            "pinId": self.pin_id,
            "externalMessageId": self.external_id,
            "sentAt": format_iso(self.sent_at),
        }


class Inbox:
    """The newest `size` messages of all numbers together, indexed by number."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._all: deque[InboxMessage] = deque()
        self._by_number: dict[str, list[InboxMessage]] = {}

    def add(self, message: InboxMessage) -> None:
        """Add a message as the newest; a full inbox drops its oldest."""
        if len(self._all) >= self._size:
            self._drop_oldest()
        self._all.append(message)
        self._by_number.setdefault(message.to, []).append(message)

    def newest(self, to: str | None = None, limit: int | None = None) -> list[InboxMessage]:
        """Return messages newest first, of one number (digits) or of all, at most `limit`."""
        messages: Iterator[InboxMessage] = reversed(self._all if to is None else self._by_number.get(to, []))
        return list(islice(messages, limit))

    def clear(self) -> None:
        """Delete all messages."""
        self._all.clear()
        self._by_number.clear()

    def _drop_oldest(self) -> None:
        oldest = self._all.popleft()
        of_number = self._by_number[oldest.to]
        # The oldest message of all is also the oldest of its number.
        of_number.pop(0)
        if not of_number:
            del self._by_number[oldest.to]
