"""The moves of a request: each is stored by the statement that causes it, in order, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import RowMapping, select, text

from otpqueue.domain.checking import CheckVerdict
from otpqueue.domain.receipts import DeliveryState
from otpqueue.domain.request import FINAL, MOVES, OtpRequest, Reason, Status
from otpqueue.domain.sending import Outcome, SendDecision
from otpqueue.store import attempts, expiring, receipts, requests
from otpqueue.store.schema import moves
from tests.store.conftest import NOW, REFUSED, SENT, Store, a_result, accepted, again, later
from tests.store.lives import Life, a_report, ask_again

MoveRow = tuple[str, str | None, str, str | None, datetime]


def rows(store: Store, request_id: UUID) -> list[RowMapping]:
    """Return the moves of a request, first to last."""
    query = select(moves).where(moves.c.request_id == request_id).order_by(moves.c.number)
    return list(store.conn.execute(query).mappings())


def list_moves(store: Store, request: OtpRequest) -> list[MoveRow]:
    """Return the moves of a request as what moved, from, to, why and when."""
    return [
        (row["of"], row["was"], row["became"], row["reason"], row["at"]) for row in rows(store, request.id)
    ]


def send(store: Store, outcome: Outcome, decision: SendDecision, *, now: datetime) -> None:
    """Claim the one that is due, and record what became of it."""
    (claim,) = store.claim(now=now)
    result = a_result(claim, outcome, decision, now=now)
    attempts.record(store.conn, [replace(result, resend_after=now)])


def test_unchanged_status_is_not_recorded(store: Store) -> None:
    """Acceptance, a claim, a retry and a check without an effect are no moves."""
    request = store.insert()
    send(store, REFUSED, again(), now=later(1))
    assert list_moves(store, request) == []

    send(store, accepted(), SENT, now=later(2))
    store.check(request, CheckVerdict.WRONG)

    assert list_moves(store, request) == [("status", "queued", "sent", None, later(2))]


def test_life_that_ends_well(store: Store) -> None:
    """Each status is stored with the previous one, the time of the update, and the reason of the end."""
    request = store.insert()
    send(store, replace(accepted(), external_message_id="m"), SENT, now=later(1))
    for delivery, second in ((DeliveryState.UNDELIVERED, 2), (DeliveryState.DELIVERED, 3)):
        receipts.add(store.conn, [a_report("m", delivery)], now=later(second))
        receipts.match(store.conn, ["m"], now=later(second))
    check = store.begin(request, now=later(4))
    assert check
    store.judge(check, CheckVerdict.CORRECT, now=later(5))

    assert list_moves(store, request) == [
        ("status", "queued", "sent", None, later(1)),
        ("status", "sent", "undelivered", None, later(2)),
        ("status", "undelivered", "delivered", None, later(3)),
        ("status", "delivered", "verified", "code_correct", later(5)),
    ]
    assert store.row(request.id)["updated_at"] == later(5)


def test_resends(store: Store) -> None:
    """Each resend is stored from request to sent or failed; the status does not change."""
    request = store.insert()
    send(store, accepted(), SENT, now=later(1))
    assert ask_again(store, request, now=later(2))
    send(store, accepted(), SENT, now=later(3))
    assert ask_again(store, request, now=later(4))
    refused = SendDecision(status=Status.FAILED, reason=Reason.PROVIDER_REFUSED)
    send(store, replace(REFUSED, retryable=False), refused, now=later(5))
    assert not ask_again(store, request, now=NOW)

    assert list_moves(store, request)[1:] == [
        ("resend", None, "pending", None, later(2)),
        ("resend", "pending", "sent", None, later(3)),
        ("resend", "sent", "pending", None, later(4)),
        ("resend", "pending", "failed", "provider_refused", later(5)),
    ]


def test_end_that_takes_a_resend_along(store: Store) -> None:
    """A request that ends with a pending resend stores both moves."""
    request = store.insert()
    send(store, accepted(), SENT, now=later(1))
    assert ask_again(store, request, now=later(2))
    assert requests.cancel(store.conn, request.id, client_id=store.client_id, now=later(3))

    assert list_moves(store, request)[2:] == [
        ("status", "sent", "cancelled", "cancelled_by_client", later(3)),
        ("resend", "pending", "failed", "cancelled_by_client", later(3)),
    ]


def test_late_resend_is_recorded_after_the_end(store: Store) -> None:
    """A resend in a worker's claim when the request ended is stored when it finishes."""
    request = store.insert()
    send(store, accepted(), SENT, now=later(1))
    assert ask_again(store, request, now=later(2))
    (claim,) = store.claim(now=later(3))
    assert requests.cancel(store.conn, request.id, client_id=store.client_id, now=later(5))
    store.record(claim, accepted(), SENT, now=later(4))

    assert list_moves(store, request)[2:] == [
        ("status", "sent", "cancelled", "cancelled_by_client", later(5)),
        ("resend", "pending", "sent", None, later(4)),
    ]


def test_replaced(store: Store) -> None:
    """The older request stores its replacement, at the time of the newer one."""
    older = store.insert()
    newer = store.insert(created_at=later(7))

    assert list_moves(store, older) == [("status", "queued", "cancelled", "replaced", later(7))]
    assert list_moves(store, newer) == []


def test_one_statement_moves_many(store: Store) -> None:
    """A statement that ends many requests stores a move of each."""
    asked = store.insert_many(20)
    assert len(expiring.expire_unsent(store.conn, now=later(90), limit=100)) == 20

    assert [list_moves(store, one) for one in asked] == [
        [("status", "queued", "expired", "send_deadline", later(90))]
    ] * 20


def test_any_statement_is_recorded(store: Store) -> None:
    """A trigger stores moves, so a manual statement is covered too."""
    request = store.insert()
    store.conn.execute(text("UPDATE otp_requests SET status = 'failed', reason = 'outcome_unknown'"))

    assert list_moves(store, request) == [("status", "queued", "failed", "outcome_unknown", NOW)]


def test_move_that_is_rolled_back_was_none(store: Store) -> None:
    """Move and row are written together or not at all."""
    request = store.insert()
    with store.engine.connect().execution_options(isolation_level="READ COMMITTED") as conn:
        requests.cancel(conn, request.id, client_id=store.client_id, now=NOW)
        conn.rollback()

    assert list_moves(store, request) == []


def test_moves_go_with_their_request(store: Store) -> None:
    """Erasing a request erases its moves, and no other's."""
    gone, stays = store.insert(), store.insert("+447700900124")
    for one in (gone, stays):
        assert requests.cancel(store.conn, one.id, client_id=store.client_id, now=NOW)

    store.conn.execute(text("DELETE FROM otp_requests WHERE id = :id"), {"id": gone.id})

    assert store.conn.execute(select(moves.c.request_id)).scalars().all() == [stays.id]


@pytest.mark.parametrize("column", ["of", "request_id"])
def test_move_of_nothing_is_refused(store: Store, column: str) -> None:
    """A move is one of a status or a resend, and of a request that is there."""
    store.insert_sent()
    value = "'perhaps'" if column == "of" else "gen_random_uuid()"

    with pytest.raises(Exception, match=f"moves_{column}_"):
        store.conn.execute(text(f"UPDATE moves SET {column} = {value}"))


RESENDS = {
    (None, "pending"),
    ("sent", "pending"),
    ("failed", "pending"),
    ("pending", "sent"),
    ("pending", "failed"),
}


def test_random_lives(store: Store) -> None:
    """In random histories, the moves form a chain of allowed ones from `queued` to the status.

    Over many histories every allowed move occurs.
    """
    random = Random(3)
    made: Counter[tuple[Any, Any]] = Counter()
    resent: Counter[tuple[Any, Any]] = Counter()
    allowed = {(was, became) for was, targets in MOVES.items() for became in targets}
    for number in range(800):
        if number >= 100 and set(made) >= allowed and set(resent) >= RESENDS:
            break
        life = Life(store, random, number)
        life.live()
        for request_id in life.ids:
            row, moved = store.row(request_id), rows(store, request_id)
            chain = [(one["was"], one["became"]) for one in moved if one["of"] == "status"]
            others = [(one["was"], one["became"]) for one in moved if one["of"] == "resend"]
            assert _unbroken([(None, "queued"), *chain], ends=row["status"]), moved
            assert _unbroken([(None, None), *others], ends=row["resend"]), moved
            assert all(became in MOVES[Status(was)] for was, became in chain), moved
            assert set(others) <= RESENDS, moved
            if row["status"] in FINAL:
                (end,) = [one for one in moved if one["of"] == "status" and one["became"] in FINAL]
                assert (end["at"], end["reason"]) == (row["finished_at"], row["reason"])
            made.update(chain)
            resent.update(others)

    assert set(made) == allowed
    assert set(resent) == RESENDS


def _unbroken(chain: list[tuple[Any, Any]], *, ends: str | None) -> bool:
    return all(one[1] == other[0] for one, other in pairwise(chain)) and chain[-1][1] == ends
