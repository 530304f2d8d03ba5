"""Rate limits of verification pages: per client, per page and per address."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import LimitsUnavailable
from otpqueue.domain.limits import PAGE_PEER, PAGE_REQUESTS, PAGES, Quotas
from otpqueue.limiter import Limiter, LimitWindow
from otpqueue.operations.admission.counted_limits import build_limit_error, choose_quota, note_counted
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class PageLimits:
    """Counts pages per client, requests per page, and actions on pages per address."""

    limiter: Limiter
    vault: Vault
    quotas: Quotas

    def count_page(self, client_id: UUID, own: ClientSettings) -> None:
        """Count a new page. Raises LimitExceeded, LimitsUnavailable."""
        quota = choose_quota(PAGES, self.quotas, own.limits)
        if quota is not None:
            subject = self.vault.limit_hash(client_id.bytes)
            self._count(LimitWindow(limit=PAGES, quota=quota, subject=subject))

    def count_request(self, page_id: UUID) -> None:
        """Count a request for a code on a page. Raises LimitExceeded, LimitsUnavailable."""
        quota = self.quotas[PAGE_REQUESTS.name]
        if quota is not None:
            subject = self.vault.limit_hash(page_id.bytes)
            self._count(LimitWindow(limit=PAGE_REQUESTS, quota=quota, subject=subject))

    def count_action(self, address: str | None) -> None:
        """Count an opened link or a submitted form. Raises LimitExceeded.

        Without Redis all are admitted, so that codes can be verified. Unknown addresses share one count.
        """
        quota = self.quotas[PAGE_PEER.name]
        if quota is None:
            return
        subject = self.vault.limit_hash(self.vault.address_hash(address) or b"")
        try:
            self._count(LimitWindow(limit=PAGE_PEER, quota=quota, subject=subject))
        except LimitsUnavailable as error:
            log.warning("page_action_not_counted", error=type(error.__cause__).__name__)

    def _count(self, window: LimitWindow) -> None:
        counted = self.limiter.count_call((window,))
        note_counted(counted)
        if not counted.admitted:
            raise build_limit_error(counted.statuses)
