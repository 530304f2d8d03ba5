"""Claim webhook deliveries and record their results.

A trigger inserts them (`otp_requests_tell_client`). One is claimed only if no earlier one of its request is
pending, whatever its `next_try_at`, so a receiver gets the events of a request in order.

One module because the statements of a claim and of its record depend on each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select, text

from otpqueue.domain.webhooks import DisabledReason, WebhookResponse, WebhookState, format_time
from otpqueue.store.schema import webhook_deliveries
from otpqueue.store.vault import Vault
from otpqueue.store.webhooks.endpoints import open_secrets

_d = webhook_deliveries.c

# Endpoints take turns. Each offers its oldest deliveries, up to its free slots, so an endpoint with a backlog
# does not delay the others. A failing endpoint has one slot, which tests whether it has recovered. Another
# session may claim a row of `due` before `chosen` locks it, so the condition is checked again.
_CLAIM = text(
    """
    WITH open AS MATERIALIZED (
        SELECT e.id, e.client_id, e.url, e.secrets_sealed, e.seal_key_id, e.previous_until,
               greatest(CASE WHEN e.failing_since IS NULL THEN :share ELSE 1 END - coalesce(b.busy, 0), 0)
                   AS room
        FROM webhook_endpoints AS e
        LEFT JOIN unnest(CAST(:clients AS uuid[]), CAST(:busy AS integer[])) AS b (client_id, busy)
            ON b.client_id = e.client_id
        WHERE e.disabled_at IS NULL
    ), due AS MATERIALIZED (
        SELECT found.id, row_number() OVER (PARTITION BY open.client_id ORDER BY found.next_try_at) AS nth
        FROM open CROSS JOIN LATERAL (
            SELECT d.id, d.next_try_at FROM webhook_deliveries AS d
            WHERE d.client_id = open.client_id AND d.state = 'pending' AND d.next_try_at <= :now
              AND (d.lease_until IS NULL OR d.lease_until < statement_timestamp())
              AND NOT EXISTS (
                  SELECT FROM webhook_deliveries AS earlier
                  WHERE earlier.request_id = d.request_id AND earlier.number < d.number
                    AND earlier.state = 'pending'
              )
            ORDER BY d.next_try_at
            LIMIT open.room
        ) AS found
    ), chosen AS MATERIALIZED (
        SELECT d.id FROM webhook_deliveries AS d JOIN due ON due.id = d.id
        WHERE d.state = 'pending' AND (d.lease_until IS NULL OR d.lease_until < statement_timestamp())
        ORDER BY due.nth
        LIMIT :slots
        FOR UPDATE OF d SKIP LOCKED
    ), claimed AS (
        UPDATE webhook_deliveries AS d
        SET tries = d.tries + 1, lease_until = statement_timestamp() + make_interval(secs => :lease_s)
        FROM chosen WHERE d.id = chosen.id
        RETURNING d.id, d.request_id, d.client_id, d.event, d.at, d.reason, d.provider_code, d.expires_at,
                  d.tries
    )
    SELECT claimed.*, open.id AS endpoint_id, open.url, open.secrets_sealed, open.previous_until,
           open.seal_key_id, r.number_sealed, r.seal_key_id AS number_key_id, r.channel, r.client_reference,
           r.created_at, r.sent_at
    FROM claimed
    JOIN open ON open.client_id = claimed.client_id
    JOIN otp_requests AS r ON r.id = claimed.request_id
    """
)

# A success is always stored, however late. A delivery that was not tried returns to its state before the
# claim.
_RECORD = text(
    """
    UPDATE webhook_deliveries AS d
    SET state = t.state,
        next_try_at = CASE WHEN t.state = 'pending' THEN coalesce(t.next_try_at, d.next_try_at) END,
        tries = CASE WHEN t.tried_at IS NULL THEN d.tries - 1 ELSE d.tries END,
        tried_at = coalesce(t.tried_at, d.tried_at),
        http_status = CASE WHEN t.tried_at IS NULL THEN d.http_status ELSE t.http_status END,
        problem = CASE WHEN t.tried_at IS NULL THEN d.problem ELSE t.problem END,
        lease_until = NULL
    FROM unnest(
        CAST(:ids AS uuid[]), CAST(:tries AS smallint[]), CAST(:states AS text[]),
        CAST(:next_tries AS timestamptz[]), CAST(:tried AS timestamptz[]), CAST(:statuses AS smallint[]),
        CAST(:problems AS text[])
    ) AS t (id, tries, state, next_try_at, tried_at, http_status, problem)
    WHERE d.id = t.id AND d.state = 'pending' AND (d.tries = t.tries OR t.state = 'delivered')
    RETURNING d.request_id, d.number, d.next_try_at
    """
)

# Deliveries behind a pending one wait for its next try; behind a finished one they are due now.
_MOVE_FOLLOWERS = text(
    """
    UPDATE webhook_deliveries AS d SET next_try_at = coalesce(t.next_try_at, :now)
    FROM unnest(CAST(:requests AS uuid[]), CAST(:numbers AS bigint[]), CAST(:next_tries AS timestamptz[]))
        AS t (request_id, number, next_try_at)
    WHERE d.request_id = t.request_id AND d.number > t.number AND d.state = 'pending'
      AND d.lease_until IS NULL
    """
)

# Only if the URL is still the one that was tried: an operator may have changed it.
_NOTE_SUCCESS = text(
    """
    UPDATE webhook_endpoints AS e SET failing_since = NULL
    FROM unnest(CAST(:clients AS uuid[]), CAST(:urls AS text[])) AS t (client_id, url)
    WHERE e.client_id = t.client_id AND e.url = t.url AND e.failing_since IS NOT NULL
    """
)
_NOTE_FAILURE = text(
    """
    UPDATE webhook_endpoints AS e
    SET failing_since = coalesce(e.failing_since, :now),
        disabled_at = CASE WHEN t.gone OR e.failing_since <= :too_long_ago THEN CAST(:now AS timestamptz) END,
        disabled_reason = CASE WHEN t.gone THEN CAST(:gone_word AS text)
                               WHEN e.failing_since <= :too_long_ago THEN :failing END
    FROM unnest(CAST(:clients AS uuid[]), CAST(:urls AS text[]), CAST(:gone AS boolean[]))
        AS t (client_id, url, gone)
    WHERE e.client_id = t.client_id AND e.url = t.url AND e.disabled_at IS NULL
    RETURNING e.client_id, e.failing_since, e.disabled_reason
    """
)


@dataclass(frozen=True, kw_only=True)
class WebhookDelivery:
    """A delivery that this worker may send now, and the number of the try."""

    id: UUID
    request_id: UUID
    client_id: UUID
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    """The signing secrets, newest first; empty when they cannot be unsealed."""
    event: str
    at: datetime
    """When the event happened."""
    data: Mapping[str, Any] = field(repr=False)
    tries: int
    """Which try this is; the first is 1."""


@dataclass(frozen=True, kw_only=True)
class DeliveryResult:
    """The result of a try."""

    delivery: WebhookDelivery
    answer: WebhookResponse | None
    """None if it was not tried."""
    tried_at: datetime
    next_try_at: datetime | None
    """When to retry; None for never."""

    @property
    def state(self) -> WebhookState:
        """The state of the delivery after the try."""
        if self.answer is not None and self.answer.is_success:
            return WebhookState.DELIVERED
        return (
            WebhookState.PENDING
            if self.answer is None or self.next_try_at is not None
            else WebhookState.GIVEN_UP
        )


@dataclass(frozen=True, kw_only=True)
class EndedEndpoint:
    """An endpoint that was disabled."""

    client_id: UUID
    reason: DisabledReason
    failing_since: datetime


def claim(
    conn: Connection,
    *,
    slots: int,
    share: int,
    busy: Mapping[UUID, int],
    lease_s: float,
    now: datetime,
    vault: Vault,
) -> list[WebhookDelivery]:
    """Claim up to `slots` deliveries that are due, each for `lease_s` seconds; in one statement.

    A client gets at most `share` slots, minus those in `busy`; a failing endpoint gets one.
    """
    rows = conn.execute(
        _CLAIM,
        {
            "slots": slots,
            "share": share,
            "clients": list(busy),
            "busy": list(busy.values()),
            "lease_s": lease_s,
            "now": now,
        },
    )
    return [_to_delivery(row, vault, now) for row in rows]


def record(
    conn: Connection, results: Sequence[DeliveryResult], *, disable_after: timedelta, now: datetime
) -> tuple[list[EndedEndpoint], set[UUID]]:
    """Record the results of tries; return the endpoints that this disabled, and the unrecorded results.

    An endpoint is disabled when it answers 410, or after nothing but failures for `disable_after`. A delivery
    that another session has locked is not recorded: record it again. Call in a transaction.
    """
    locked = _locked(conn, [one.delivery.id for one in results])
    results = [one for one in results if one.delivery.id not in locked]
    moved = conn.execute(
        _RECORD,
        {
            "ids": [one.delivery.id for one in results],
            "tries": [one.delivery.tries for one in results],
            "states": [one.state.value for one in results],
            "next_tries": [one.next_try_at for one in results],
            "tried": [one.tried_at if one.answer else None for one in results],
            "statuses": [one.answer.status if one.answer else None for one in results],
            "problems": [one.answer.reason if one.answer else None for one in results],
        },
    ).all()
    conn.execute(
        _MOVE_FOLLOWERS,
        {
            "requests": [row.request_id for row in moved],
            "numbers": [row.number for row in moved],
            "next_tries": [row.next_try_at for row in moved],
            "now": now,
        },
    )
    return _note_endpoints(conn, results, disable_after=disable_after, now=now), locked


def _locked(conn: Connection, ids: Sequence[UUID]) -> set[UUID]:
    """Lock the free ones among these deliveries, and return those that another session has locked."""
    of_these = select(_d.id).where(_d.id.in_(ids)).order_by(_d.id)
    free = set(conn.execute(of_these.with_for_update(skip_locked=True)).scalars())
    return set(conn.execute(of_these).scalars()) - free if len(free) < len(ids) else set()


def _note_endpoints(
    conn: Connection, results: Sequence[DeliveryResult], *, disable_after: timedelta, now: datetime
) -> list[EndedEndpoint]:
    answers: dict[tuple[UUID, str], list[WebhookResponse]] = {}
    for one in results:
        if one.answer is not None:
            answers.setdefault((one.delivery.client_id, one.delivery.url), []).append(one.answer)
    gone = {key: any(answer.is_gone for answer in found) for key, found in answers.items()}
    well = [key for key, found in answers.items() if any(one.is_success for one in found) and not gone[key]]
    ill = [key for key in answers if key not in well]
    if well:
        conn.execute(_NOTE_SUCCESS, {"clients": [key[0] for key in well], "urls": [key[1] for key in well]})
    if not ill:
        return []
    rows = conn.execute(
        _NOTE_FAILURE,
        {
            "clients": [key[0] for key in ill],
            "urls": [key[1] for key in ill],
            "gone": [gone[key] for key in ill],
            "gone_word": DisabledReason.GONE.value,
            "failing": DisabledReason.FAILING.value,
            "too_long_ago": now - disable_after,
            "now": now,
        },
    )
    return [
        EndedEndpoint(
            client_id=row.client_id,
            reason=DisabledReason(row.disabled_reason),
            failing_since=row.failing_since,
        )
        for row in rows
        if row.disabled_reason
    ]


def _to_delivery(row: Row[Any], vault: Vault, now: datetime) -> WebhookDelivery:
    data = {
        "id": str(row.request_id),
        "status": row.event.partition(".")[2],
        "reason": row.reason,
        "provider_code": row.provider_code,
        "phone_number": vault.unseal_masked_number(
            row.number_sealed, key_id=row.number_key_id, row_id=row.request_id
        ),
        "channel": row.channel,
        "client_reference": row.client_reference,
        "created_at": format_time(row.created_at),
        "sent_at": format_time(row.sent_at),
        "expires_at": format_time(row.expires_at),
    }
    return WebhookDelivery(
        id=row.id,
        request_id=row.request_id,
        client_id=row.client_id,
        url=row.url,
        secrets=open_secrets(row, row_id=row.endpoint_id, vault=vault, now=now),
        event=row.event,
        at=row.at,
        data=data,
        tries=row.tries,
    )
