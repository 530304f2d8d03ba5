"""The settings in force: what each is, and whether somebody set it. Nothing secret is shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import falcon
from pydantic import SecretStr

from otpqueue.console.house import Page, Visit
from otpqueue.operations.clients import Clients
from otpqueue.settings import Settings

_LONGEST = 400


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One setting as it may be shown."""

    name: str
    value: str
    help: str
    is_set: bool
    """Whether the environment, a file or `.env` says it; else it is the default."""
    secret: bool


@dataclass(frozen=True, kw_only=True)
class SettingsPage(Page):
    """`/console/settings`."""

    settings: Settings
    clients: Clients

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show every setting of this API process, and what clients have of their own."""

        def show(visit: Visit) -> None:
            own = [client for client in self.clients.list() if client.settings]
            visit.show("settings.html", settings=shown(self.settings), clients=own)

        self.house.receive(req, resp, show)


def shown(settings: Settings) -> list[Shown]:
    """Return all settings in their order, secrets as set or not set."""
    return [
        Shown(
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
    # That there is no cap, e.g., is a value like others.
    return "none" if name in settings.model_fields_set else "not set"


def _value(value: object, *, hidden: bool, nothing: str) -> str:
    """Return a value as text. Of what is `hidden` (numbers with their codes) only how many there are."""
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
