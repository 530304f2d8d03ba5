"""The back end of the made-up shop. It uses the same operations as a client with an API key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from otpqueue.operations.access.clients import Clients
from otpqueue.operations.access.keys import ApiKeys
from otpqueue.operations.verification_pages.create import CreatedPage, CreateVerificationPage, WantedPage
from otpqueue.operations.verification_pages.find import FindPage, PageSnapshot
from otpqueue.operations.verification_pages.redeem import RedeemVerificationToken, VerifiedPerson

CLIENT = "try-shop"
_SETTINGS = {
    "page.name": "Harbour Books",
    "page.colour": "#0f7a5f",
    # A demo is repeated more often than a login.
    "limits.number_15m": "100/15m",
    "limits.number_day": "200/d",
    "limits.client_ip_15m": "200/15m",
}


@dataclass(frozen=True, kw_only=True)
class DemoShop:
    """A client of this deployment."""

    keys: ApiKeys
    clients: Clients
    create: CreateVerificationPage
    redeem: RedeemVerificationToken
    find: FindPage

    def prepare(self, origin: str, *, now: datetime) -> None:
        """Create the client, and register this origin for its pages. Raises InvalidRequest."""
        self.keys.client_id(CLIENT, now=now)
        wanted = _SETTINGS | {"page.return_urls": f"{origin}/try", "page.origins": origin}
        stored = self.clients.show(CLIENT).settings
        sections = {
            f"{section}.{name}": value
            for section, values in stored.items()
            if isinstance(values, dict)
            for name, value in values.items()
        }
        for path, text in wanted.items():
            found = sections.get(path)
            if (found[0] if isinstance(found, list) and found else found) != text:
                self.clients.set(CLIENT, path, text)

    def create_page(self, wanted: WantedPage, *, now: datetime) -> CreatedPage:
        """Create a page. Raises as CreateVerificationPage."""
        return self.create(wanted, client_id=self._client_id(now), now=now)

    def read_page(self, page_id: UUID, *, now: datetime) -> PageSnapshot | None:
        """Return the page and its request, None if it has expired."""
        return self.find(page_id, client_id=self._client_id(now), now=now)

    def redeem_token(self, token: str, *, now: datetime) -> VerifiedPerson:
        """Redeem a token. Raises VerificationTokenInvalid."""
        return self.redeem(token, client_id=self._client_id(now), now=now)

    def _client_id(self, now: datetime) -> UUID:
        return self.keys.client_id(CLIENT, now=now)
