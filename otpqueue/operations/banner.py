"""The banner of every console page: stops of sending, and the number of open alerts."""

from __future__ import annotations

from dataclasses import dataclass

from otpqueue.operations.admission.stop_sending import SendingSwitch, StopDetails
from otpqueue.operations.alerts.admin import AlertAdmin


@dataclass(frozen=True, kw_only=True)
class Banner:
    """The content of the banner."""

    stops: tuple[StopDetails, ...]
    alerts_open: int


def read_banner(switch: SendingSwitch, alerts: AlertAdmin) -> Banner:
    """Return the banner. Raises DatabaseUnavailable."""
    return Banner(stops=switch.stops(), alerts_open=alerts.count_open())
