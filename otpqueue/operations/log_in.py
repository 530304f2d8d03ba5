"""Let an operator in by an API key with the scope `admin`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from otpqueue.domain.errors import LimitsUnavailable, MissingScope, Unauthenticated
from otpqueue.domain.limits import LOG_IN_LIMITS, Counted, Quota
from otpqueue.limiter import CountedCall, Limiter, Window
from otpqueue.logs import get_logger
from otpqueue.operations.keys import Keys
from otpqueue.operations.limits import refusal
from otpqueue.store.clients import ApiKey
from otpqueue.store.vault import Vault

log = get_logger(__name__)

SCOPE = "admin"


@dataclass(frozen=True, kw_only=True)
class LogIn:
    """Looks at keys of operators: when one logs in, and again with every page."""

    keys: Keys
    limiter: Limiter
    vault: Vault

    def __call__(self, api_key: str, *, address: str | None, now: datetime) -> ApiKey:
        """Return what is known of the key. Log-ins that are refused are counted, by address and in all.

        Raises LimitExceeded before it looks at the key, Unauthenticated, MissingScope, DatabaseUnavailable.
        """
        windows = self._windows(address)
        taken = self._take(windows)
        try:
            return _admin(self.keys.authenticate(api_key, now=now))
        except (Unauthenticated, MissingScope):
            taken = None
            raise
        finally:
            if taken is not None:
                self.limiter.give_back(windows, taken)

    def again(self, key_id: UUID, *, now: datetime) -> ApiKey:
        """Return what is known now of a key that let an operator in.

        Raises Unauthenticated when it is revoked or has expired, MissingScope, DatabaseUnavailable.
        """
        return _admin(self.keys.in_force(key_id, now=now))

    def _take(self, windows: list[Window]) -> CountedCall | None:
        try:
            taken = self.limiter.take(windows)
        except LimitsUnavailable as error:
            # The console is needed most while something is down, and nobody guesses 256 bits.
            log.warning("log_ins_not_counted", error=type(error.__cause__).__name__)
            return None
        if not taken.admitted:
            raise refusal(taken.standings)
        return taken

    def _windows(self, address: str | None) -> list[Window]:
        peer = self.vault.address_hash(address)
        whom = {Counted.PEER: None if peer is None else (b"log_in", peer), Counted.ALL: (b"log_in",)}
        return [
            Window(limit=limit, quota=quota, whom=self.vault.limit_hash(*parts))
            for limit in LOG_IN_LIMITS
            if (quota := Quota.parse(limit.default)) and (parts := whom[limit.counted])
        ]


def _admin(key: ApiKey) -> ApiKey:
    if SCOPE not in key.scopes:
        raise MissingScope(f"The console needs an API key with the scope {SCOPE}.")
    return key
