"""Helpers of the webhook tests: status changes, passing time, a worker that sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, select, text

from otpqueue import clock
from otpqueue.domain.request import OtpRequest
from otpqueue.operations.pump import Pump
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.webhooks.send import SendWebhooks, SendWebhooksSettings
from otpqueue.store import clients
from otpqueue.store.engine import connection
from otpqueue.store.schema import webhook_deliveries, webhook_endpoints
from otpqueue.wiring import Parts
from tests.operations.looking import Rows

CLIENT = "test"


@dataclass
class Hooks:
    """Clients with webhooks, over parts that may post to this machine."""

    parts: Parts
    rows: Rows
    ahead: timedelta = field(default_factory=timedelta)
    """How far the sender's clock is ahead of the real time."""
    _numbers: int = 0

    def now(self) -> datetime:
        """Return the sender's time."""
        return clock.now() + self.ahead

    def pass_time(self, **by: float) -> None:
        """Advance the sender's clock."""
        self.ahead += timedelta(**by)

    def client(self, name: str = CLIENT) -> UUID:
        """Return the id of a client."""
        with connection(self.parts.engine) as conn:
            return clients.ensure_client(conn, name, now=clock.now())

    def set(self, url: str, *events: str, client: str = CLIENT) -> str:
        """Set a client's webhook URL. Returns the secret."""
        self.client(client)
        secret = self.parts.webhooks.set(client, url, events=events, now=self.now())
        assert secret
        return secret

    def ask(self, *, client: str = CLIENT, **wanted: Any) -> OtpRequest:
        """Request a code, for another number each time."""
        self._numbers += 1
        number = f"+447700900{self._numbers:03d}"
        return self.parts.request(
            RequestedCode(phone_number=number, **wanted), client_id=self.client(client), now=clock.now()
        )

    def moved(self, *statuses: str, client: str = CLIENT, **columns: Any) -> OtpRequest:
        """Request a code and set the request's status directly, several times."""
        request = self.ask(client=client)
        for status in statuses:
            self.move(request, status, **columns)
        return request

    def move(self, request: OtpRequest, status: str, **columns: Any) -> None:
        """Set a request's status."""
        self.rows.change(request.id, status=status, updated_at=self.now(), **columns)

    def sender(
        self,
        *,
        wake: Callable[[], bool] = lambda: True,
        outbound: Any = None,
        **differing: Any,
    ) -> Pump[Any, Any]:
        """Return a sender like a worker's, with `differing` settings."""
        settings = SendWebhooksSettings(lease_s=60, job_s=30, disable_after=timedelta(days=1))
        settings = replace(settings, **differing)
        send_webhooks = SendWebhooks(
            engine=self.parts.engine,
            vault=self.parts.vault,
            post=(outbound or self.parts.outbound).post,
            settings=settings,
        )
        return Pump(send_webhooks, name="webhooks", wake=wake, clock=self.now, settings=settings)

    def send(self) -> None:
        """Send due deliveries."""
        self.sender().run()

    def execute(self, statement: str, **values: Any) -> None:
        """Run a statement directly."""
        with connection(self.parts.engine) as conn:
            conn.execute(text(statement), values)

    def deliveries(self, **equal: Any) -> list[RowMapping]:
        """Return the deliveries with these column values, in order."""
        query = select(webhook_deliveries).order_by(webhook_deliveries.c.number)
        for name, value in equal.items():
            query = query.where(webhook_deliveries.c[name] == value)
        with connection(self.parts.engine) as conn:
            return list(conn.execute(query).mappings())

    def endpoint(self, client: str = CLIENT) -> RowMapping:
        """Return the endpoint of a client."""
        query = select(webhook_endpoints).where(webhook_endpoints.c.client_id == self.client(client))
        with connection(self.parts.engine) as conn:
            return conn.execute(query).mappings().one()
