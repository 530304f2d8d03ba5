"""The data of the console's pages."""

from __future__ import annotations

from functools import cached_property

from otpqueue.domain.guard import GuardMode
from otpqueue.operations.access.console_login import ConsoleLogin
from otpqueue.operations.banner import Banner, read_banner
from otpqueue.operations.stats.breakdown import ReadBreakdown
from otpqueue.operations.stats.overview import ReadOverview
from otpqueue.wiring.alerts import AlertParts
from otpqueue.wiring.monitoring import MonitoringParts


class ConsoleParts(AlertParts, MonitoringParts):
    """What only the console uses."""

    @cached_property
    def console_login(self) -> ConsoleLogin:
        """Authenticates operators in the console."""
        return ConsoleLogin(keys=self.keys, access=self.access, limiter=self.limiter, vault=self.vault)

    def read_banner(self) -> Banner:
        """Return the banner of the console's pages. Raises DatabaseUnavailable."""
        return read_banner(self.switch, self.alert_admin)

    @cached_property
    def overview(self) -> ReadOverview:
        """Reads the data of the console's dashboard."""
        return ReadOverview(
            engine=self.engine, switch=self.switch, health=self.health, rules=self.alert_rules
        )

    @cached_property
    def breakdown(self) -> ReadBreakdown:
        """Reads the breakdown by country and by client."""
        return ReadBreakdown(engine=self.engine, switch=self.switch, guard=GuardMode(self.settings.guard))
