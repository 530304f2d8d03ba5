"""Idempotency keys: one holder at a time, kept responses, and deletion."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from otpqueue.domain.replay import StoredResponse
from otpqueue.store import idempotency
from otpqueue.store.engine import connection
from otpqueue.store.idempotency import HeldKey, IdempotencyKey, UsedKey
from otpqueue.store.schema import idempotency_keys, otp_requests
from tests.store.conftest import NOW, RUN_OUT_S, Store, later

ANSWER = StoredResponse(status=202, headers={"Location": "/x"}, body='{"b": 1, "a": 2}')
DAY_S = 86_400


def key_of(store: Store, name: bytes = b"key", body: bytes = b"body") -> IdempotencyKey:
    """Return a key of the store's client."""
    return IdempotencyKey(client_id=store.client_id, key_hashes=(name,), fingerprints=(body,))


def take(store: Store, key: IdempotencyKey, *, lease_s: float = 20, at_s: float = 0) -> HeldKey | UsedKey:
    """Take a key on a connection of its own."""
    with connection(store.engine) as conn:
        return idempotency.take(conn, key, lease_s=lease_s, now=later(at_s), expires_at=later(at_s + DAY_S))


def held(store: Store, key: IdempotencyKey, *, lease_s: float = 20) -> HeldKey:
    """Take a free key."""
    taken = take(store, key, lease_s=lease_s)
    assert isinstance(taken, HeldKey)
    return taken


def keep(store: Store, held: HeldKey, request_id: UUID, answer: StoredResponse = ANSWER) -> bool:
    """Keep an answer."""
    return idempotency.keep(store.conn, held, answer, request_id=request_id, now=NOW, expires_at=later(DAY_S))


def rows(store: Store) -> list[Any]:
    """Return what is stored."""
    return list(store.conn.execute(select(idempotency_keys)).all())


def test_first_call_holds_the_key(store: Store) -> None:
    """A held key is refused to other calls, whatever the body; another name or client is another key."""
    key = key_of(store)
    first = take(store, key)

    assert isinstance(first, HeldKey)
    assert take(store, key) == UsedKey(fingerprint=b"body", in_progress=True, answer=None)
    assert take(store, key_of(store, body=b"other")) == UsedKey(
        fingerprint=b"body", in_progress=True, answer=None
    )
    assert isinstance(take(store, key_of(store, b"another")), HeldKey)


def test_of_many_at_once_one_holds(store: Store) -> None:
    """Of concurrent calls with one key, one gets it."""
    with ThreadPoolExecutor(12) as threads:
        taken = list(threads.map(lambda _: take(store, key_of(store)), range(60)))

    assert sum(isinstance(one, HeldKey) for one in taken) == 1
    assert len(rows(store)) == 1


def test_answer_stays(store: Store) -> None:
    """The response is returned byte for byte."""
    request = store.insert()
    key = key_of(store)

    assert keep(store, held(store, key), request.id)

    again = take(store, key, at_s=DAY_S - 1)
    assert isinstance(again, UsedKey)
    assert (again.in_progress, again.fingerprint) == (False, b"body")
    assert again.answer == StoredResponse(
        status=202, headers={"Location": "/x"}, body=ANSWER.body, replayed=True
    )


def test_taking_waits_for_no_twin(store: Store) -> None:
    """While the transaction that keeps a response is open, another call is refused at once."""
    request = store.insert()
    key = key_of(store)
    first = held(store, key)
    with store.engine.execution_options(isolation_level="READ COMMITTED").connect() as own, own.begin():
        assert idempotency.keep(own, first, ANSWER, request_id=request.id, now=NOW, expires_at=later(DAY_S))
        with connection(store.engine) as conn:
            conn.exec_driver_sql("SET lock_timeout = '100ms'")
            assert idempotency.take(conn, key, lease_s=20, now=NOW, expires_at=later(DAY_S)) == UsedKey(
                fingerprint=b"body", in_progress=True, answer=None
            )
            conn.exec_driver_sql("RESET lock_timeout")


def test_released_key_is_free(store: Store) -> None:
    """After a refusal the key may be used for anything."""
    idempotency.release(store.conn, held(store, key_of(store)))

    assert rows(store) == []
    assert isinstance(take(store, key_of(store, body=b"other")), HeldKey)


def test_lease_that_ran_out_is_taken_over_by_the_same_call(store: Store) -> None:
    """A killed process holds a key for its lease; then the same call may be repeated, but no other."""
    key = key_of(store)
    first = held(store, key, lease_s=RUN_OUT_S)

    other = take(store, key_of(store, body=b"other"))
    second = take(store, key)

    assert isinstance(other, UsedKey)
    assert isinstance(second, HeldKey)
    assert second.lease_until > first.lease_until
    assert isinstance(take(store, key), UsedKey)


def test_late_refusal_does_not_release_the_successors_key(store: Store) -> None:
    """A call that lost its key cannot release it."""
    key = key_of(store)
    first = held(store, key, lease_s=RUN_OUT_S)
    second = held(store, key)

    idempotency.release(store.conn, first)
    assert isinstance(take(store, key), UsedKey)
    idempotency.release(store.conn, second)
    assert rows(store) == []


def test_of_two_holders_one_keeps_its_answer(store: Store) -> None:
    """The first of a late call and its successor wins; the other one is refused."""
    one, two = store.insert_many(2)
    key = key_of(store)
    first, second = held(store, key, lease_s=RUN_OUT_S), held(store, key)

    assert keep(store, first, one.id)
    assert not keep(store, second, two.id)
    assert [row.request_id for row in rows(store)] == [one.id]


def test_late_answer_is_kept_when_the_successor_was_refused(store: Store) -> None:
    """An expired lease does not prevent it, unless another call has used the key."""
    one, two = store.insert_many(2)
    key = key_of(store)
    first = held(store, key, lease_s=RUN_OUT_S)
    idempotency.release(store.conn, held(store, key))

    assert keep(store, first, one.id)
    assert not keep(store, first, two.id)
    late = held(store, key_of(store, b"third"), lease_s=RUN_OUT_S)
    idempotency.release(store.conn, held(store, key_of(store, b"third")))
    held(store, key_of(store, b"third", b"other body"))
    assert not keep(store, late, two.id)


@pytest.mark.parametrize("at_s", [DAY_S, DAY_S + 1])
def test_key_is_free_after_its_time(store: Store, at_s: float) -> None:
    """After a day a key may be reused, and no data of its first use is left."""
    request = store.insert()
    keep(store, held(store, key_of(store)), request.id)

    taken = take(store, key_of(store, body=b"other"), at_s=at_s)

    assert isinstance(taken, HeldKey)
    (row,) = rows(store)
    assert (row.request_id, row.answer, row.fingerprint) == (None, None, b"other")
    assert row.expires_at == later(at_s + DAY_S)


def test_deleted_request_takes_its_answer_along(store: Store) -> None:
    """Any deletion of a request deletes its response, and its key stays used."""
    request = store.insert()
    keep(store, held(store, key_of(store)), request.id)

    store.conn.execute(delete(otp_requests).where(otp_requests.c.id == request.id))

    (row,) = rows(store)
    assert (row.request_id, row.answer) == (None, None)
    assert take(store, key_of(store)) == UsedKey(fingerprint=b"", in_progress=False, answer=None)


def test_answer_under_a_lease_is_impossible(store: Store) -> None:
    """A key is held or answered."""
    request = store.insert()
    keep(store, held(store, key_of(store)), request.id)

    with pytest.raises(IntegrityError):
        store.conn.execute(idempotency_keys.update().values(lease_until=NOW))
