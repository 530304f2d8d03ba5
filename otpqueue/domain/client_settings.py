"""What may be set for one client beside the deployment's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """One client's own settings. What is not set is as the deployment has it."""

    daily_cap: int | None = None
    """How many codes may be sent for it on one day (UTC)."""
    countries_allowed: tuple[str, ...] | None = None
    """Instead of the deployment's; ISO 3166 alpha-2, or `001` for numbers of no one country."""
    countries_blocked: tuple[str, ...] | None = None
    """Beside the deployment's, which nothing here can lift."""
    languages: tuple[str, ...] | None = None
    """The only ones that may be asked for, e.g. `de`, which stands for `de-AT` too."""

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> ClientSettings:
        """Return the settings that `stored` says, as `to_stored` gave them."""
        # JSON has no tuples.
        values: dict[str, Any] = {
            name: tuple(one) if isinstance(one, list) else one for name, one in stored.items()
        }
        return cls(**values)

    def to_stored(self) -> dict[str, Any]:
        """Return the settings as JSON has them, without those that are not set."""
        return {name: value for name, value in vars(self).items() if value is not None}
