"""The access cache of each API process: API keys, clients, stops and cap counts.

With it a call needs no extra query.

One small query reads what changes every second. API keys and clients are read again only when their version
has changed. Everything is refreshed together and never used when older than `max_age_s`: a call that finds a
snapshot too old refreshes it first, and fails if the refresh fails.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine

from otpqueue import clock
from otpqueue.domain.caps import CapScope, get_cap_day
from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import CredentialFault, DatabaseUnavailable
from otpqueue.domain.keys import KeyState
from otpqueue.domain.phone import WORLD
from otpqueue.store import access
from otpqueue.store.access import CurrentAccess
from otpqueue.store.clients import AccessList, ApiKey
from otpqueue.store.send_counts import Subject

_MISS_AGE_S = 0.1
"""A miss queries Postgres unless the snapshot is younger than this. A new key thus works at once.
A flood of unknown keys costs at most ten queries a second.
"""

FAULTS = {
    KeyState.EXPIRED: CredentialFault.EXPIRED_KEY,
    KeyState.REVOKED: CredentialFault.REVOKED_KEY,
}
"""The states of keys that have ended, as faults of a caller's credentials."""


@dataclass(frozen=True, kw_only=True)
class AccessSnapshot:
    """API keys, clients, stops and cap counts, read at one moment."""

    read_at: float
    """When the read began, in seconds of the monotonic clock."""
    day: date
    """The day (UTC) of its cap counts."""
    listed: AccessList
    current: CurrentAccess

    def find_key(self, key_hashes: Sequence[bytes], *, now: datetime) -> ApiKey | None:
        """Return the API key with one of these hashes unless it has expired."""
        for key_hash in key_hashes:
            key = self.listed.keys.get(key_hash)
            if key is not None and (key.expires_at is None or key.expires_at > now):
                return key
        return None

    def explain_miss(self, key_hashes: Sequence[bytes]) -> CredentialFault:
        """Return why no usable API key has one of these hashes."""
        for key_hash in key_hashes:
            if key_hash in self.listed.keys:
                return CredentialFault.EXPIRED_KEY  # since the snapshot was read
            if key_hash in self.listed.ended:
                return FAULTS[self.listed.ended[key_hash]]
        return CredentialFault.UNKNOWN_KEY

    def taken_on(self, day: date) -> Mapping[Subject, int]:
        """Return how many codes of a day count against each cap; empty for a day that is not cached."""
        return self.current.taken if day == self.day else {}

    def is_stopped(self, *, client_id: UUID, country: str | None) -> bool:
        """Return whether sending is stopped for this client or country, or for all."""
        stops = self.current.stops
        return bool(stops) and not stops.isdisjoint(
            ((CapScope.ALL, ""), (CapScope.CLIENT, str(client_id)), (CapScope.COUNTRY, country or WORLD))
        )


class AccessCache:
    """Keeps a snapshot that is at most `max_age_s` old; with 0, each call reads a new one. Thread-safe."""

    def __init__(self, *, engine: Engine, max_age_s: float, judged_window_s: float | None) -> None:
        """Cache for `max_age_s`. Verified and failed codes are counted only if `judged_window_s` is given."""
        self._engine, self._max_age_s, self._judged_window_s = engine, max_age_s, judged_window_s
        self._refreshing = threading.Lock()
        self._snapshot: AccessSnapshot | None = None
        self._failure: tuple[float, DatabaseUnavailable] | None = None

    def current(self) -> AccessSnapshot:
        """Return a snapshot within the maximum age. Raises DatabaseUnavailable."""
        return self._younger_than(self._max_age_s)

    def find_key(self, key_hashes: Sequence[bytes]) -> ApiKey | None:
        """Return the usable API key with one of these hashes. Raises DatabaseUnavailable."""
        now = clock.now()
        found = self.current().find_key(key_hashes, now=now)
        return found or self._younger_than(min(self._max_age_s, _MISS_AGE_S)).find_key(key_hashes, now=now)

    def find_key_at_once(self, key_hashes: Sequence[bytes]) -> ApiKey | None:
        """Return the usable API key with one of these hashes from the cache, without a query."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.read_at <= time.monotonic() - self._max_age_s:
            return None
        return snapshot.find_key(key_hashes, now=clock.now())

    def is_listed(self, key_hash: bytes) -> bool:
        """Return whether an API key is stored under this hash. Raises DatabaseUnavailable."""
        return key_hash in self.current().listed.keys

    def client_settings(self, client_id: UUID) -> ClientSettings:
        """Return the settings of one client. Raises DatabaseUnavailable."""
        found = self.current().listed.settings.get(client_id)
        if found is None:
            found = self._younger_than(min(self._max_age_s, _MISS_AGE_S)).listed.settings.get(client_id)
        # A client that was created after the snapshot has no settings of its own yet.
        return found or ClientSettings()

    def find_client(self, name: str) -> UUID | None:
        """Return the id of the client with this name. Raises DatabaseUnavailable."""
        return self.current().listed.ids.get(name)

    def _younger_than(self, max_age_s: float) -> AccessSnapshot:
        oldest = time.monotonic() - max_age_s
        snapshot = self._snapshot
        if snapshot is not None and snapshot.read_at > oldest:
            return snapshot
        waiting_since = time.monotonic()
        with self._refreshing:
            snapshot = self._snapshot
            if snapshot is not None and snapshot.read_at > oldest:
                return snapshot
            # Calls that waited for a failed refresh share its error, instead of each querying Postgres again.
            if self._failure is not None and self._failure[0] > waiting_since:
                raise DatabaseUnavailable(retry_after_s=1) from self._failure[1]
            self._snapshot = self._refresh()
            return self._snapshot

    def _refresh(self) -> AccessSnapshot:
        begun, now, before = time.monotonic(), clock.now(), self._snapshot
        since = None if self._judged_window_s is None else now - timedelta(seconds=self._judged_window_s)
        try:
            current = access.read_current(self._engine, day=get_cap_day(now), judged_since=since)
            if before is not None and before.current.version == current.version:
                listed = before.listed
            else:
                listed = access.read_access_list(self._engine, now=now)
        except DatabaseUnavailable as error:
            self._failure = time.monotonic(), error
            raise
        return AccessSnapshot(read_at=begun, day=get_cap_day(now), listed=listed, current=current)
