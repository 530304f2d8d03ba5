"""What may be set for one client beside the deployment's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """One client's own settings. What is not set is as the deployment has it."""

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> ClientSettings:
        """Return the settings that `stored` says, as `to_stored` gave them."""
        return cls(**stored)

    def to_stored(self) -> dict[str, Any]:
        """Return the settings as JSON has them, without those that are not set."""
        return {name: value for name, value in vars(self).items() if value is not None}
