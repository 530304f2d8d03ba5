"""Queries for what API processes cache: clients and API keys, stops, and the use of the daily caps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Engine

from otpqueue.domain.caps import CapScope
from otpqueue.store import clients
from otpqueue.store.clients import AccessList
from otpqueue.store.engine import connection, fetch
from otpqueue.store.send_counts import Subject

_CURRENT = """
    SELECT
        coalesce((SELECT version FROM access_version), 0) AS version,
        ARRAY(SELECT ARRAY[scope, subject] FROM sending_stops WHERE resumed_at IS NULL) AS stops,
        (
            SELECT jsonb_agg(jsonb_build_array(scope, subject, taken))
            FROM (
                SELECT scope, subject, sum(taken) AS taken FROM send_counts WHERE day = %(day)s
                GROUP BY scope, subject
            ) AS counts
        ) AS taken,
        (
            SELECT jsonb_agg(jsonb_build_array(client_id, checks, wrong))
            FROM (
                SELECT client_id, sum(checks) AS checks, sum(wrong) AS wrong
                FROM check_counts WHERE minute > %(judged_since)s GROUP BY client_id
            ) AS counts
        ) AS judged
"""


@dataclass(frozen=True, kw_only=True)
class CurrentAccess:
    """The values of one query: small, and changing within seconds."""

    version: int
    """Raised by every change of API keys and clients."""
    stops: frozenset[Subject]
    """The scopes for which sending is stopped."""
    taken: Mapping[Subject, int]
    """How many codes of the day count against each cap."""
    judged: Mapping[UUID, tuple[int, int]]
    """How many codes of each client were checked since the given moment, and how many of them were wrong."""


def read_current(engine: Engine, *, day: date, judged_since: datetime | None) -> CurrentAccess:
    """Return the current values, in one round trip. Without `judged_since`, no checked codes are counted.

    Raises DatabaseUnavailable.
    """
    (row,) = fetch(engine, _CURRENT, {"day": day, "judged_since": judged_since})
    return CurrentAccess(
        version=row.version,
        stops=frozenset((CapScope(scope), subject) for scope, subject in row.stops),
        taken={(CapScope(scope), subject): taken for scope, subject, taken in row.taken or ()},
        judged={UUID(client_id): (checks, wrong) for client_id, checks, wrong in row.judged or ()},
    )


def read_access_list(engine: Engine, *, now: datetime) -> AccessList:
    """Return all clients and their usable API keys. Raises DatabaseUnavailable."""
    with connection(engine) as conn:
        return clients.read_access_list(conn, now=now)
