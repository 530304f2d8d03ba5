"""Let an operator in by an API key with the scope `admin`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from otpqueue.domain.errors import LimitsUnavailable, MissingScope, Unauthenticated
from otpqueue.domain.limits import LOG_IN_LIMITS, CountedBy, Quota
from otpqueue.limiter import Limiter, LimitWindow
from otpqueue.operations.access.cache import AccessCache
from otpqueue.operations.access.keys import ApiKeys
from otpqueue.operations.admission.limits import refusal
from otpqueue.store.clients import ApiKey
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

SCOPE = "admin"


@dataclass(frozen=True, kw_only=True)
class ConsoleLogin:
    """Looks up the keys of operators: when one logs in, and again with every page."""

    keys: ApiKeys
    access: AccessCache
    limiter: Limiter
    vault: Vault

    def __call__(self, api_key: str, *, address: str | None, now: datetime) -> ApiKey:
        """Return what is known of the key.

        Only log-ins that are refused are counted, by address and in all: whatever strangers do, the right key
        is let in. An unknown key costs no connection to Postgres, but for a refresh of the cache. A revoked
        key is let in until that is refreshed, and no further than to the first page.

        Raises Unauthenticated, MissingScope, in place of these LimitExceeded after too many of them, and
        DatabaseUnavailable.
        """
        try:
            return _admin(self.keys.recognise(api_key, access=self.access, now=now))
        except (Unauthenticated, MissingScope):
            self._count(address)
            raise

    def is_known(self, api_key: str) -> bool:
        """Return whether this process knows the key of an operator without asking Postgres."""
        known = self.access.find_key_at_once(self.keys.hashes(api_key))
        return known is not None and SCOPE in known.scopes

    def again(self, key_id: UUID, *, now: datetime) -> ApiKey:
        """Return what is known now of a key that let an operator in.

        Raises Unauthenticated when it is revoked or has expired, MissingScope, DatabaseUnavailable.
        """
        return _admin(self.keys.in_force(key_id, now=now))

    def _count(self, address: str | None) -> None:
        try:
            counted = self.limiter.count_call(self._windows(address))
        except LimitsUnavailable as error:
            # Nobody guesses 256 bits.
            log.warning("log_ins_not_counted", error=type(error.__cause__).__name__)
            return
        if not counted.admitted:
            raise refusal(counted.statuses)

    def _windows(self, address: str | None) -> list[LimitWindow]:
        peer = self.vault.address_hash(address)
        whom = {CountedBy.PEER: None if peer is None else (b"log_in", peer), CountedBy.ALL: (b"log_in",)}
        return [
            LimitWindow(limit=limit, quota=quota, subject=self.vault.limit_hash(*parts))
            for limit in LOG_IN_LIMITS
            if (quota := Quota.parse(limit.default)) and (parts := whom[limit.counted])
        ]


def _admin(key: ApiKey) -> ApiKey:
    if SCOPE not in key.scopes:
        raise MissingScope(f"The console needs an API key with the scope {SCOPE}.")
    return key
