"""Tell what every page of the console must say first: that sending is stopped, and that alerts are open."""

from __future__ import annotations

from dataclasses import dataclass

from otpqueue.operations.alert_desk import AlertDesk
from otpqueue.operations.stop_sending import SendingSwitch, StopShown


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What nobody may overlook."""

    stops: tuple[StopShown, ...]
    alerts_open: int


@dataclass(frozen=True, kw_only=True)
class TellStanding:
    """Tells what nobody may overlook."""

    switch: SendingSwitch
    alerts: AlertDesk

    def __call__(self) -> Standing:
        """Return it. Raises DatabaseUnavailable."""
        return Standing(stops=self.switch.stops(), alerts_open=self.alerts.count_open())
