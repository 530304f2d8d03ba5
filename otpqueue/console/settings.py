"""The settings page: every setting in force, whether it was set or is a default. Secrets are not shown."""

from __future__ import annotations

from dataclasses import dataclass

import falcon

from otpqueue.console.layout import ConsolePage, PageContext
from otpqueue.operations.access.clients import Clients
from otpqueue.settings import Settings
from otpqueue.settings.document import list_settings


@dataclass(frozen=True, kw_only=True)
class SettingsPage(ConsolePage):
    """`/console/settings`."""

    settings: Settings
    clients: Clients

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show every setting of this API process, and the settings of each client."""

        def show(page: PageContext) -> None:
            own = [client for client in self.clients.list() if client.settings]
            page.show("settings.html", settings=list_settings(self.settings), clients=own)

        self.layout.respond(req, resp, show)
