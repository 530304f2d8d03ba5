"""Daily caps: how many codes may be sent on one day (UTC), in all, per client and per country."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.phone import WORLD

OTHERS = "*"
"""In a table by country: each country that is not named."""


class Scope(StrEnum):
    """What a cap, or a stop, holds for."""

    ALL = "all"
    CLIENT = "client"
    COUNTRY = "country"


@dataclass(frozen=True, kw_only=True)
class Caps:
    """How many codes may be sent a day; None is no cap."""

    overall: int | None = None
    per_client: int | None = None
    by_country: Mapping[str, int] = field(default_factory=dict)
    """By ISO 3166 alpha-2; `001` is numbers of no one country, `*` each country that is not named."""

    def of_client(self, settings: ClientSettings) -> int | None:
        """Return the cap of a client with these settings."""
        return self.per_client if settings.daily_cap is None else settings.daily_cap

    def of_country(self, country: str | None) -> int | None:
        """Return the cap of a country, None being numbers of no one country."""
        return self.by_country.get(country or WORLD, self.by_country.get(OTHERS))


def day_of(moment: datetime) -> date:
    """Return the day that a send at this moment counts for."""
    return moment.astimezone(UTC).date()


def seconds_to_midnight(now: datetime) -> int:
    """Return in how many whole seconds the next day (UTC) has begun."""
    midnight = datetime.combine(day_of(now) + timedelta(days=1), time(), tzinfo=UTC)
    return math.ceil((midnight - now).total_seconds())
