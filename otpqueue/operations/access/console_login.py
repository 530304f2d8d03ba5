"""Console log-in by an API key with the scope `admin` or `read`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from otpqueue.domain.audit import OperatorAction
from otpqueue.domain.errors import LimitsUnavailable, MissingScope, Unauthenticated
from otpqueue.domain.limits import LOG_IN_LIMITS, CountedBy, Quota
from otpqueue.limiter import Limiter, LimitWindow
from otpqueue.operations.access.cache import AccessCache
from otpqueue.operations.access.keys import ApiKeys
from otpqueue.operations.admission.counted_limits import build_limit_error
from otpqueue.operations.auditing import record_alone
from otpqueue.store.clients import ApiKey
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

SCOPES_TO_LOG_IN = frozenset({"admin", "read"})
"""A key with `read` alone opens the console without its actions."""


@dataclass(frozen=True, kw_only=True)
class ConsoleLogin:
    """Authenticates operators by API key, at log-in and again for every page."""

    keys: ApiKeys
    access: AccessCache
    limiter: Limiter
    vault: Vault

    def __call__(self, api_key: str, *, address: str | None, now: datetime) -> ApiKey:
        """Return the API key.

        Only failed log-ins are counted, by address and in total. A valid key is therefore never rate limited.
        An unknown key costs no Postgres query other than a refresh of the cache. A revoked key is accepted
        until the cache is refreshed, but the first page then rejects it.

        Raises Unauthenticated and MissingScope, or LimitExceeded instead after too many of them;
        DatabaseUnavailable.
        """
        try:
            return _admin(self.keys.recognise(api_key, access=self.access, now=now))
        except (Unauthenticated, MissingScope):
            self._count(address)
            raise

    def record(self, action: OperatorAction, **given: Any) -> None:
        """Record a login or logout in the audit trail. Raises DatabaseUnavailable."""
        record_alone(self.keys.engine, action, **given)

    def is_known(self, api_key: str) -> bool:
        """Return whether the cache has this operator's key, without querying Postgres."""
        known = self.access.find_key_at_once(self.keys.hashes(api_key))
        return known is not None and bool(SCOPES_TO_LOG_IN & known.scopes)

    def again(self, key_id: UUID, *, now: datetime) -> ApiKey:
        """Return the current state of a key that was used to log in.

        Raises Unauthenticated if it is revoked or expired, MissingScope, DatabaseUnavailable.
        """
        return _admin(self.keys.in_force(key_id, now=now))

    def _count(self, address: str | None) -> None:
        try:
            counted = self.limiter.count_call(self._windows(address))
        except LimitsUnavailable as error:
            # 256 random bits cannot be guessed, so log-in fails open without Redis.
            log.warning("log_ins_not_counted", error=type(error.__cause__).__name__)
            return
        if not counted.admitted:
            raise build_limit_error(counted.statuses)

    def _windows(self, address: str | None) -> list[LimitWindow]:
        peer = self.vault.address_hash(address)
        subjects = {CountedBy.PEER: None if peer is None else (b"log_in", peer), CountedBy.ALL: (b"log_in",)}
        return [
            LimitWindow(limit=limit, quota=quota, subject=self.vault.limit_hash(*parts))
            for limit in LOG_IN_LIMITS
            if (quota := Quota.parse(limit.default)) and (parts := subjects[limit.counted])
        ]


def _admin(key: ApiKey) -> ApiKey:
    if not SCOPES_TO_LOG_IN & key.scopes:
        raise MissingScope("The console needs an API key with the scope admin or read.")
    return key
