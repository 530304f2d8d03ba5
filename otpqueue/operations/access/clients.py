"""Clients and their settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain.audit import OperatorAction
from otpqueue.domain.client_settings import ClientSettings, Stored, add_setting, remove_setting
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.operations.access.keys import check_client_name
from otpqueue.operations.auditing import record_action
from otpqueue.store import clients
from otpqueue.store.clients import Client
from otpqueue.store.engine import connection, transaction


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Manages clients. A change of settings takes effect with the next call."""

    engine: Engine

    def create(self, name: str, *, now: datetime) -> None:
        """Create a client. Raises InvalidRequest for an invalid or duplicate name, DatabaseUnavailable."""
        check_client_name(name)

        def work(conn: Connection) -> None:
            client_id = clients.add_client(conn, name, now=now)
            if client_id is None:
                raise InvalidRequest([FieldError("client", "already exists")])
            record_action(conn, OperatorAction.CLIENT_CREATED, client_id=client_id)

        transaction(self.engine, work)

    def list(self) -> list[Client]:
        """Return all clients by name."""
        with connection(self.engine) as conn:
            return clients.list_clients(conn)

    def show(self, name: str) -> Client:
        """Return a client. Raises InvalidRequest if there is none."""
        with connection(self.engine) as conn:
            return _require_client(clients.read_client(conn, name))

    def set(self, name: str, path: str, text: str) -> None:
        """Set one of a client's settings. Raises InvalidRequest for an unknown setting or invalid value."""
        self._change(
            name,
            lambda stored: add_setting(stored, path, text),
            action=OperatorAction.CLIENT_SETTING_SET,
            target=path,
            details={"value": text},
        )

    def unset(self, name: str, path: str) -> None:
        """Remove a client's setting, so that the deployment's applies.

        Raises InvalidRequest if it is not set.
        """
        self._change(
            name,
            lambda stored: remove_setting(stored, path),
            action=OperatorAction.CLIENT_SETTING_UNSET,
            target=path,
            details={},
        )

    def settings_of(self, client_id: UUID) -> ClientSettings:
        """Return the settings of a client."""
        with connection(self.engine) as conn:
            return clients.read_settings(conn, client_id)

    def _change(
        self,
        name: str,
        change: Callable[[Stored], Stored],
        *,
        action: OperatorAction,
        target: str,
        details: Mapping[str, str],
    ) -> None:
        def work(conn: Connection) -> None:
            # Each of two concurrent operators changes the result of the other.
            client = _require_client(clients.read_client(conn, name, lock=True))
            clients.store_settings(conn, client.id, change(client.settings))
            record_action(conn, action, client_id=client.id, target=target, details=details)

        transaction(self.engine, work)


def _require_client(client: Client | None) -> Client:
    if client is None:
        raise InvalidRequest([FieldError("client", "does not exist (`otpqueue clients list`)", missing=True)])
    return client
