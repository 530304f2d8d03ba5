"""The settings page: every setting in force, whether it was set or is a default. Secrets are not shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import falcon
from pydantic import SecretStr

from otpqueue.console.layout import ConsolePage, PageContext
from otpqueue.operations.access.clients import Clients
from otpqueue.settings import Settings

_LONGEST = 400


@dataclass(frozen=True, kw_only=True)
class SettingView:
    """One setting without secrets."""

    name: str
    value: str
    help: str
    is_set: bool
    """Whether the environment, a file or `.env` sets it; else it is the default."""
    secret: bool


@dataclass(frozen=True, kw_only=True)
class SettingsPage(ConsolePage):
    """`/console/settings`."""

    settings: Settings
    clients: Clients

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show every setting of this API process, and the settings of single clients."""

        def show(page: PageContext) -> None:
            own = [client for client in self.clients.list() if client.settings]
            page.show("settings.html", settings=list_settings(self.settings), clients=own)

        self.layout.respond(req, resp, show)


def list_settings(settings: Settings) -> list[SettingView]:
    """Return all settings in their order, secrets as set or not set."""
    return [
        SettingView(
            name=str(field.alias),
            value=_value(
                getattr(settings, name), hidden=field.repr is False, nothing=_nothing(settings, name)
            ),
            help=field.description or "",
            is_set=name in settings.model_fields_set,
            secret=isinstance(getattr(settings, name), SecretStr) or _is_secret(field.annotation),
        )
        for name, field in Settings.model_fields.items()
    ]


def _is_secret(annotation: object) -> bool:
    return SecretStr in {annotation, *getattr(annotation, "__args__", ())}


def _nothing(settings: Settings, name: str) -> str:
    # `none` can be a deliberate value, e.g. no cap.
    return "none" if name in settings.model_fields_set else "not set"


def _value(value: object, *, hidden: bool, nothing: str) -> str:
    """Return a value as text; for a hidden value (test numbers with their codes) only how many there are."""
    if value is None or value == "":
        return nothing
    if isinstance(value, SecretStr):
        return "set"
    if hidden:
        count = len(value) if isinstance(value, dict) else 1
        return f"{count} set" if count else "not set"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ", ".join(str(one) for one in value) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {one}" for key, one in value.items())[:_LONGEST] or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if not isinstance(value, Path) else value.as_posix()
