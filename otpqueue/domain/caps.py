"""Daily sending caps: codes per day (UTC), in total, per client and per country."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.phone import WORLD

OTHERS = "*"
"""The key of a table by country for every country that has no entry."""


class CapScope(StrEnum):
    """What a cap or a sending stop applies to."""

    ALL = "all"
    CLIENT = "client"
    COUNTRY = "country"


@dataclass(frozen=True, kw_only=True)
class Caps:
    """The daily caps. None means no cap."""

    overall: int | None = None
    per_client: int | None = None
    client_share: float | None = None
    """What part of `overall` a client without another cap may use once there are several clients, 0 to 1."""
    by_country: Mapping[str, int] = field(default_factory=dict)
    """By ISO 3166 alpha-2. `001` is for numbers without a country, `*` for countries without an entry."""

    @property
    def by_share(self) -> int | None:
        """How many codes `client_share` of `overall` is, at least one; None if one of them is not set."""
        if self.overall is None or self.client_share is None:
            return None
        # Rounded first: 0.29 * 100 is 28.999... in binary.
        return max(1, math.floor(round(self.overall * self.client_share, 6)))

    def get_client_cap(self, settings: ClientSettings, *, clients: int) -> int | None:
        """Return the cap of a client with these settings, one of `clients` clients."""
        if settings.daily_cap is not None:
            return settings.daily_cap
        if self.per_client is not None:
            return self.per_client
        return self.by_share if clients > 1 else None

    def is_share(self, settings: ClientSettings, *, clients: int) -> bool:
        """Return whether the cap of a client with these settings is its share of the overall cap."""
        others = (settings.daily_cap, self.per_client)
        return others == (None, None) and self.get_client_cap(settings, clients=clients) is not None

    def get_country_cap(self, country: str | None) -> int | None:
        """Return the cap of a country. `country` is None for numbers without a country."""
        return self.by_country.get(country or WORLD, self.by_country.get(OTHERS))


def get_cap_day(moment: datetime) -> date:
    """Return the day (UTC) in which the caps count a send at this moment."""
    return moment.astimezone(UTC).date()


def count_seconds_to_midnight(now: datetime) -> int:
    """Return the seconds until the next day (UTC) begins, rounded up."""
    midnight = datetime.combine(get_cap_day(now) + timedelta(days=1), time(), tzinfo=UTC)
    return math.ceil((midnight - now).total_seconds())
