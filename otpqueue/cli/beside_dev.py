"""The running `otpqueue dev` of this folder, and the settings of commands beside it.

A command uses the instance only as a whole: where the user's own settings name another database, provider or
key, none of the instance's values apply. A file in the working folder thus never receives the user's own key,
and the user's numbers never go to a database that only a file names.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from otpqueue.cli.exits import CommandFailed, ExitCode

if TYPE_CHECKING:
    from otpqueue.settings import Settings

FOLDER = Path(".otpqueue")

_DESCRIPTION = "dev.json"
_IDENTITY = (
    "DATABASE_URL",
    "REDIS_URL",
    "OTPQUEUE_BROKER_URL",
    "INFOBIP_BASE_URL",
    "INFOBIP_API_KEY",
    "OTPQUEUE_SEAL_KEYS",
    "OTPQUEUE_HASH_KEY",
)
"""The settings that decide which deployment a command works on."""


@dataclasses.dataclass(frozen=True)
class RunningInstance:
    """A running `otpqueue dev`, by its dev.json."""

    file: Path
    about: dict[str, Any] = dataclasses.field(repr=False)

    @property
    def folder(self) -> Path:
        """Its data folder."""
        return self.file.parent

    @cached_property
    def api_url(self) -> str:
        """The URL of its API, on this machine. Raises CommandFailed for another machine."""
        url = self._get_text("api_url")
        try:
            host = urlsplit(url).hostname
        except ValueError:
            raise self._make_unreadable() from None
        if not host or not _is_local(host):
            # Another user may have written the file to receive numbers and codes.
            raise CommandFailed(
                ExitCode.CONFIGURATION,
                f"{self.file} names another machine. Set OTPQUEUE_URL and OTPQUEUE_API_KEY instead.",
            )
        return url

    @property
    def api_key(self) -> str:
        """The API key of its client."""
        return self._get_text("api_key")

    @property
    def environment(self) -> dict[str, str]:
        """The settings of its services, by variable."""
        values = self.about.get("environment")
        if not isinstance(values, dict) or not all(isinstance(one, str) for one in values.values()):
            raise self._make_unreadable()
        return dict(values)

    def _get_text(self, name: str) -> str:
        value = self.about.get(name)
        if not isinstance(value, str):
            raise self._make_unreadable()
        return value

    def _make_unreadable(self) -> CommandFailed:
        return CommandFailed(
            ExitCode.CONFIGURATION, f"Cannot read {self.file}. Did this version of `otpqueue dev` write it?"
        )


def find_instance(folder: Path = FOLDER) -> RunningInstance | None:
    """Return the `otpqueue dev` that runs in this folder, or None.

    Raises CommandFailed for a dev.json that cannot be read or belongs to another user.
    """
    file = folder / _DESCRIPTION
    if not file.is_file():
        return None
    from otpqueue.embedded.home import is_in_use  # noqa: PLC0415 - seldom needed

    # A killed instance leaves the file, but not the lock.
    if not is_in_use(folder):
        return None
    try:
        # A link belongs to the user who made it, although its target may belong to another.
        if file.lstat().st_uid != os.geteuid():
            raise CommandFailed(ExitCode.DENIED, f"{file} belongs to another user.")
        about = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        about = None
    instance = RunningInstance(file, about if isinstance(about, dict) else {})
    _ = instance.api_url, instance.api_key
    return instance


def _is_local(host: str) -> bool:
    """Return whether a host is this machine. Only a local address can be bound."""
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with socket.socket(family) as probe:
                probe.bind(address)
    except (OSError, UnicodeError):
        return False
    return True


def find_own_instance() -> RunningInstance | None:
    """Return the running instance if it is what the user's settings mean: none of them names another one.

    Raises CommandFailed as `find_instance` does, and SettingsError for a file that cannot be read.
    """
    instance = find_instance()
    if instance is None:
        return None
    from otpqueue.settings import collect_given  # noqa: PLC0415 - slow, and `send` needs none

    given, theirs = collect_given(), instance.environment
    is_same = all(given[name] == theirs.get(name) for name in _IDENTITY if name in given)
    return instance if is_same else None


def load_settings() -> Settings:
    """Return the settings of this shell, or those of the running `otpqueue dev` with this shell's over them.

    Raises SettingsError and CommandFailed.
    """
    from otpqueue.settings import load  # noqa: PLC0415

    environment = build_environment()
    return load() if environment is None else load(environment, dotenv=None)


def build_environment() -> dict[str, str] | None:
    """Return the environment of a command beside the running `otpqueue dev`, or None if it is not beside one.

    Raises SettingsError and CommandFailed.
    """
    instance = find_own_instance()
    if instance is None:
        return None
    from otpqueue.settings import Settings, collect_given  # noqa: PLC0415

    given = collect_given()
    files = {f"{field.alias}_FILE" for field in Settings.model_fields.values()}
    others = {name: value for name, value in os.environ.items() if value and name not in files}
    return instance.environment | others | given
