"""The PINs that were sent."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Pin:
    """One PIN; `to` is a number in digits or an e-mail address, times are epoch seconds of the clock.

    `issued_at` starts its time to live, `sent_at` is when it was last sent. `nc_needed` is whether
    replies contain the result of a number look-up. `replaced` makes it unknown.
    """

    id: str
    application_id: str
    template_id: str
    to: str
    code: str
    sender: str | None
    nc_needed: bool
    issued_at: float
    sent_at: float
    attempts_used: int = 0
    verified_at: float | None = None
    replaced: bool = False

    @property
    def by_email(self) -> bool:
        """Whether it went to an e-mail address."""
        return "@" in self.to


class Pins:
    """PINs by id and by number; beyond `kept` the oldest are dropped."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._by_id: dict[str, Pin] = {}
        self._by_number: dict[tuple[str, str], list[Pin]] = {}

    def get(self, pin_id: str) -> Pin | None:
        """Return a PIN by id, expired or not, or None."""
        pin = self._by_id.get(pin_id)
        return None if pin is None or pin.replaced else pin

    def of_number(self, application_id: str, to: str) -> list[Pin]:
        """Return the PINs an application sent to a number, oldest first, also the replaced ones."""
        return list(self._by_number.get((application_id, to), ()))

    def all(self) -> Iterable[Pin]:
        """Return all PINs, oldest first, also the replaced ones."""
        return self._by_id.values()

    def add(self, pin: Pin) -> None:
        """Add a PIN as the newest."""
        self._by_id[pin.id] = pin
        self._by_number.setdefault((pin.application_id, pin.to), []).append(pin)
        if len(self._by_id) > self._kept:
            self._forget(next(iter(self._by_id)))

    def rename(self, pin: Pin, new_id: str) -> None:
        """Give a PIN another id; the old one becomes unknown."""
        del self._by_id[pin.id]
        pin.id = new_id
        self._by_id[new_id] = pin

    def _forget(self, pin_id: str) -> None:
        pin = self._by_id.pop(pin_id)
        key = (pin.application_id, pin.to)
        remaining = [other for other in self._by_number[key] if other is not pin]
        if remaining:
            self._by_number[key] = remaining
        else:
            del self._by_number[key]
