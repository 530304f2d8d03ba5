"""Clients, and what is set for each of them alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain.client_settings import ClientSettings, Stored, add_setting, remove_setting
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.operations.access.keys import check_client_name
from otpqueue.store import clients
from otpqueue.store.clients import Client
from otpqueue.store.engine import connection, transaction


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Manages clients. A change of settings is heeded by the next call."""

    engine: Engine

    def create(self, name: str, *, now: datetime) -> None:
        """Make a client. Raises InvalidRequest for an odd name or one that is taken, DatabaseUnavailable."""
        check_client_name(name)
        with connection(self.engine) as conn:
            if not clients.add_client(conn, name, now=now):
                raise InvalidRequest([FieldError("client", "has this name already")])

    def list(self) -> list[Client]:
        """Return all clients by name."""
        with connection(self.engine) as conn:
            return clients.list_clients(conn)

    def show(self, name: str) -> Client:
        """Return a client. Raises InvalidRequest when there is none."""
        with connection(self.engine) as conn:
            return _found(clients.read_client(conn, name))

    def set(self, name: str, path: str, text: str) -> None:
        """Set one of a client's settings. Raises InvalidRequest for what cannot be set."""
        self._change(name, lambda stored: add_setting(stored, path, text))

    def unset(self, name: str, path: str) -> None:
        """Have the deployment's setting apply to a client again. Raises InvalidRequest when none is set."""
        self._change(name, lambda stored: remove_setting(stored, path))

    def settings_of(self, client_id: UUID) -> ClientSettings:
        """Return what is set for a client."""
        with connection(self.engine) as conn:
            return clients.read_settings(conn, client_id)

    def _change(self, name: str, change: Callable[[Stored], Stored]) -> None:
        def work(conn: Connection) -> None:
            # Two operators at once: each changes what the other has left.
            client = _found(clients.read_client(conn, name, lock=True))
            clients.store_settings(conn, client.id, change(client.settings))

        transaction(self.engine, work)


def _found(client: Client | None) -> Client:
    if client is None:
        raise InvalidRequest([FieldError("client", "is not the name of one; `otpqueue clients list`")])
    return client
