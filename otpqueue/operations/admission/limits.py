"""Rate limits in Redis: of requests and resends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import LimitExceeded, LimitsUnavailable
from otpqueue.domain.limits import (
    REQUEST_LIMITS,
    CountedBy,
    Limit,
    Quota,
    Quotas,
)
from otpqueue.limiter import CountedCall, Limiter, LimitWindow
from otpqueue.operations.admission.counted_limits import build_limit_error, choose_quota, note_counted
from otpqueue.operations.admission.key_rate import CallRate
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


def _set(*quotas: Quota | None) -> set[Quota]:
    return {quota for quota in quotas if quota is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedTry:
    """The result of counting an attempt."""

    refusal: LimitExceeded | LimitsUnavailable | None = None
    wake_up: int | None = None
    """The state of the wake-up that the script found; None if the script woke no worker."""
    limiter: Limiter | None = field(default=None, repr=False)
    windows: tuple[LimitWindow, ...] = ()
    """The windows in which the attempt was counted."""
    call: CountedCall | None = None
    mark: str | None = None
    """The mark of its Idempotency-Key, which the attempt holds."""
    is_running: bool = False
    """Whether another call with the same Idempotency-Key is running."""

    def give_back(self) -> None:
        """Revert the counts of an attempt that stored no request. The rate of the API key stays counted."""
        if self.limiter and self.call and (self.windows or self.mark):
            self.limiter.undo_call(self.windows, self.call, mark=self.mark)


@dataclass(frozen=True, kw_only=True)
class LeftWindows:
    """Limit windows that still need an older hash key."""

    windows: int
    until: datetime


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """Counts requests and resends. All limits of one are counted, or none."""

    limiter: Limiter
    vault: Vault
    quotas: Quotas

    def take(
        self,
        *,
        client_id: UUID,
        settings: ClientSettings,
        number_hashes: Sequence[bytes],
        client_ip_hashes: Sequence[bytes] | None,
        is_resend: bool,
        is_test: bool,
        rate: CallRate | None,
        wake: tuple[str, str] | None,
        mark: str | None = None,
    ) -> LimitedTry:
        """Count an attempt, and before it the rate of its call. `wake` names the job to wake. One round trip.

        `mark` identifies its Idempotency-Key. Attempts for test numbers count only against the rate. Raises
        LimitExceeded for the rate.
        """
        windows = (
            ()
            if is_test
            else tuple(
                self._windows(client_id, settings, number_hashes, client_ip_hashes or (), is_resend=is_resend)
            )
        )
        first = () if rate is None or rate.counted else rate.windows
        if not (windows or first or wake):
            return LimitedTry()
        try:
            counted = self.limiter.count_call(windows, rate=first, wake=wake, mark=mark)
        except LimitsUnavailable as error:
            if windows:
                return LimitedTry(refusal=error)
            log.warning("key_rate_not_counted", error=type(error.__cause__).__name__)
            return LimitedTry()
        finally:
            if rate is not None:
                rate.counted = True
        note_counted(counted, keyless=rate is not None and rate.keyless)
        if not counted.rate_admitted:
            raise build_limit_error(counted.statuses)
        if counted.is_running:
            return LimitedTry(is_running=True)
        if not counted.admitted:
            return LimitedTry(refusal=build_limit_error(counted.statuses[len(first) :]))
        return LimitedTry(
            wake_up=counted.wake_up, limiter=self.limiter, windows=windows, call=counted, mark=mark
        )

    def forget(self, number_hashes: Sequence[bytes], own: Mapping[UUID, Quotas]) -> None:
        """Delete a number's windows: with each hash key, per client and shared, by the current quotas.

        `own` maps clients to their own quotas. A window with a quota that has changed since it began is kept
        until it expires. Raises LimitsUnavailable.
        """
        self.limiter.delete_windows(
            [
                LimitWindow(limit=limit, quota=quota, subject=self.vault.limit_hash(*scope, number, nth=nth))
                for nth, number in enumerate(number_hashes)
                for limit in REQUEST_LIMITS
                for scope, quotas in self._counted_by(limit, own)
                for quota in quotas
            ]
        )

    def under(self, nth: int, own: Mapping[UUID, Quotas], *, now: datetime, note: bool) -> LeftWindows:
        """Return the windows that use the `nth` hash key, and until when they are needed.

        Every attempt is counted with all hash keys. So the windows of an older key are needed for the length
        of the longest window, from when every process has the first key. The first call with `note` records
        that time; an operator runs it then. Raises LimitsUnavailable.
        """
        marks = [mark.hex() for mark in self.vault.marks]
        windows = self.limiter.count_windows(REQUEST_LIMITS, marks[nth])
        since = self.limiter.get_first_time(marks[0], note=note)
        begun = datetime.fromtimestamp(since, UTC) if since else now
        quotas = [self.quotas, *own.values()]
        longest_s = max(
            (quota.window_s for one in quotas for limit in REQUEST_LIMITS if (quota := one.get(limit.name))),
            default=0,
        )
        until = begun + timedelta(seconds=longest_s)
        return LeftWindows(windows=windows if until > now else 0, until=until)

    def _counted_by(
        self, limit: Limit, own: Mapping[UUID, Quotas]
    ) -> Iterable[tuple[tuple[bytes, ...], set[Quota]]]:
        """Yield the scopes of a limit's windows for a number, with the quotas that may apply."""
        usual = self.quotas[limit.name]
        if limit.counted is CountedBy.NUMBER:
            yield (), _set(usual)
        elif limit.counted is CountedBy.NUMBER_OF_CLIENT:
            for client_id, quotas in own.items():
                yield (client_id.bytes,), _set(usual, quotas.get(limit.name))

    def _windows(
        self,
        client_id: UUID,
        settings: ClientSettings,
        number_hashes: Sequence[bytes],
        client_ip_hashes: Sequence[bytes],
        *,
        is_resend: bool,
    ) -> Iterable[LimitWindow]:
        client = client_id.bytes
        subjects: dict[CountedBy, list[tuple[bytes, ...]]] = {
            CountedBy.NUMBER_OF_CLIENT: [(client, number) for number in number_hashes],
            CountedBy.NUMBER: [(number,) for number in number_hashes],
            CountedBy.ADDRESS_OF_CLIENT: [(client, address) for address in client_ip_hashes],
        }
        for limit in REQUEST_LIMITS:
            quota = choose_quota(limit, self.quotas, settings.limits)
            if quota and (limit.resends or not is_resend):
                # One per hash key, so that key rotation does not reset a caller's window.
                for nth, parts in enumerate(subjects[limit.counted]):
                    yield LimitWindow(
                        limit=limit, quota=quota, subject=self.vault.limit_hash(*parts, nth=nth)
                    )
