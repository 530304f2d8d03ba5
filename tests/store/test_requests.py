"""Requests as the caller sees them: made, replaced, read, cancelled, expired."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from otpqueue.domain.checking import CheckVerdict
from otpqueue.domain.request import FINAL, LIVE, Channel, OtpRequest, Reason, SendState, Status
from otpqueue.store import checks, clients, expiring, refusals, requests
from otpqueue.store.checks import NotBegun
from otpqueue.store.schema import otp_requests
from otpqueue.store.schema import refusals as refusal_rows
from tests.store.conftest import NOW, NUMBER, RUN_OUT_S, SENT, Store, accepted, later


def test_request_is_stored_as_due(store: Store) -> None:
    """What is accepted is there with all the caller gave, due at once, and reads back as it was returned."""
    made = store.insert(client_reference="order 7", channel=Channel.VOICE, language="en", checks_allowed=4)

    assert store.find(made.id) == made
    assert (made.status, made.send_state, made.shown_status) == (Status.QUEUED, SendState.DUE, "queued")
    assert (made.phone_number, made.client_reference) == ("+44********23", "order 7")
    assert made.channel is Channel.VOICE
    assert (made.sends, made.resend, made.resend_channel, made.resend_reason) == (1, None, None, None)
    assert made.resend_after is None
    assert (made.created_at, made.send_by, made.updated_at) == (NOW, later(90), NOW)
    assert (made.checks_allowed, made.checks_used, made.checks_left) == (4, 0, 4)
    assert made.expires_at is made.sent_at is made.reason is made.verified_at is None
    assert store.row(made.id)["next_attempt_at"] == NOW


def test_nothing_of_a_person_is_stored_readable(store: Store) -> None:
    """Number, session and address stand in the row sealed or hashed, never as they are."""
    made = store.insert(session_id="session-7", client_ip="203.0.113.7")

    row = store.row(made.id)
    everything = b" ".join(
        value if isinstance(value, bytes) else str(value).encode() for value in row.values()
    )
    for secret in (NUMBER, NUMBER[1:], "900123", "session-7", "203.0.113.7"):
        assert secret.encode() not in everything
    assert row["country"] == "GB"
    assert row["number_hash"] == store.vault.number_hash(NUMBER)
    assert row["session_hash"] == store.vault.session_hash("session-7")
    assert row["client_ip_hash"] == store.vault.address_hash("203.0.113.7")


@pytest.mark.parametrize("session", [None, "one"])
def test_newest_replaces_the_live_one(store: Store, session: str | None) -> None:
    """A new request for the same client, number and session ends the older one in the same step."""
    old = store.insert(session_id=session)

    new = store.insert(session_id=session, created_at=later(10))

    ended = store.find(old.id)
    assert (ended.status, ended.reason, ended.updated_at) == (Status.CANCELLED, Reason.REPLACED, later(10))
    assert ended.send_state is SendState.IDLE
    assert new.status is Status.QUEUED
    assert [claim.request_id for claim in store.claim(now=later(10))] == [new.id]


def test_sent_code_is_replaced_too(store: Store) -> None:
    """The older code stops being good when the newer request is accepted."""
    old = store.insert_sent()

    store.insert()

    assert store.find(old.id).reason is Reason.REPLACED
    assert store.begin(old) is None


def test_ended_request_is_not_replaced(store: Store) -> None:
    """How a request ended stays, whatever comes after."""
    old = store.insert_sent()
    store.check(old, CheckVerdict.CORRECT)

    store.insert()

    assert store.find(old.id).status is Status.VERIFIED


def test_requests_of_others_are_not_replaced(store: Store) -> None:
    """Another client, number or session is another person's business."""
    other_client = clients.ensure_client(store.conn, "other", now=NOW)
    others = [
        store.insert(session_id="one"),
        store.insert(session_id="two"),
        store.insert("+447700900124"),
        store.insert(client_id=other_client),
    ]

    mine = store.insert()

    rows = [store.row(one.id)["status"] for one in [*others, mine]]
    assert rows == ["queued"] * 5


def test_of_requests_at_once_one_stays_live(store: Store) -> None:
    """Sessions that race for one number all succeed, and one request remains."""
    start = Barrier(8)

    def work(_: int) -> OtpRequest:
        start.wait()
        return store.insert()

    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(work, range(8)))

    found = [store.find(one.id) for one in made]
    assert sorted(one.status for one in found) == ["cancelled"] * 7 + ["queued"]
    assert {one.reason for one in found if one.status is Status.CANCELLED} == {Reason.REPLACED}


def test_request_of_another_client_is_not_found(store: Store) -> None:
    """An id is worth nothing to another client."""
    made = store.insert()

    found = requests.find(store.conn, made.id, client_id=uuid4(), vault=store.vault)

    assert found is None
    assert requests.find(store.conn, uuid4(), client_id=store.client_id, vault=store.vault) is None


def test_newest_for_prefers_the_live_one(store: Store) -> None:
    """The guide's clients name a number, not an id: they mean the live request, else the newest."""
    hashes = store.vault.number_hashes(NUMBER)

    def newest() -> UUID | None:
        return requests.find_newest(
            store.conn, client_id=store.client_id, number_hashes=hashes, session_hashes=None
        )

    none = newest()
    old = store.insert()
    only = newest()
    new = store.insert(created_at=later(10))
    replaced = newest()
    store.change(old.id, created_at=later(20))
    live_though_older = newest()
    store.change(new.id, status="expired")
    none_live = newest()

    assert [none, only, replaced, live_though_older, none_live] == [None, old.id, new.id, new.id, old.id]


def test_newest_for_prefers_the_session(store: Store) -> None:
    """The session's own request comes first, also if it has ended, then a live one of another session."""
    foreign = store.insert(session_id="one", created_at=later(10))
    own = store.insert(session_id="two")
    number_hashes = store.vault.number_hashes(NUMBER)

    def newest(session: str | None) -> UUID | None:
        return requests.find_newest(
            store.conn,
            client_id=store.client_id,
            number_hashes=number_hashes,
            session_hashes=store.vault.session_hashes(session),
        )

    assert newest("two") == own.id
    store.change(own.id, status="expired", send_state="idle", next_attempt_at=None)
    assert newest("two") == own.id
    assert newest("three") == newest(None) == foreign.id
    store.change(foreign.id, status="expired", send_state="idle", next_attempt_at=None)
    assert newest("three") is None


def test_newest_for_keeps_clients_apart(store: Store) -> None:
    """Only this client's requests are meant."""
    one = store.insert(session_id="one")
    number_hashes = store.vault.number_hashes(NUMBER)

    found = [
        requests.find_newest(
            store.conn,
            client_id=client_id,
            number_hashes=number_hashes,
            session_hashes=store.vault.session_hashes(session),
        )
        for client_id, session in ((store.client_id, "one"), (uuid4(), "one"), (uuid4(), None))
    ]

    assert found == [one.id, None, None]


@pytest.mark.parametrize(
    ("number", "session", "expected"),
    [
        (None, "one", True),
        (NUMBER, "one", True),
        ("+447700900124", "one", False),
        (NUMBER, "two", False),
        (NUMBER, None, False),
        (None, None, False),
    ],
)
def test_match_is_of_session_and_of_a_number_if_given(
    store: Store,
    number: str | None,
    session: str | None,
    expected: bool,
) -> None:
    """A request belongs to its session; the number counts only where the caller names one."""
    made = store.insert(session_id="one")

    begun = checks.begin(
        store.engine,
        request_id=made.id,
        client_id=store.client_id,
        session_hashes=store.vault.session_hashes(session),
        number_hashes=store.vault.number_hashes(number) if number else None,
        client_ip_hash=None,
        lease_s=20,
        now=NOW,
        vault=store.vault,
    )

    assert isinstance(begun, NotBegun)
    assert begun.belongs == expected


def test_statuses_are_read_together(store: Store) -> None:
    """One statement answers for all that wait; ids that do not exist are left out."""
    first, second = store.insert(), store.insert("+447700900124")
    requests.cancel(store.conn, second.id, client_id=store.client_id, now=NOW)

    found = requests.read_statuses(store.conn, [first.id, second.id, uuid4()])

    assert found == {first.id: Status.QUEUED, second.id: Status.CANCELLED}
    assert requests.read_statuses(store.conn, []) == {}


@pytest.mark.parametrize("status", list(Status))
def test_live_request_can_be_cancelled(store: Store, status: Status) -> None:
    """A live request ends at its client's wish; an ended one stays as it ended."""
    request = store.insert()
    store.change(request.id, status=status.value)

    cancelled = requests.cancel(store.conn, request.id, client_id=store.client_id, now=later(1))

    found = store.find(request.id)
    assert cancelled == (status in LIVE)
    assert found.status is (Status.CANCELLED if status in LIVE else status)
    assert found.reason is (Reason.CANCELLED_BY_CLIENT if status in LIVE else None)


def test_cancelled_request_is_not_sent(store: Store) -> None:
    """Nothing is due for it any more; cancelling again changes nothing; strangers cannot."""
    request = store.insert()

    assert not requests.cancel(store.conn, request.id, client_id=uuid4(), now=NOW)
    assert requests.cancel(store.conn, request.id, client_id=store.client_id, now=later(1))
    assert not requests.cancel(store.conn, request.id, client_id=store.client_id, now=later(2))

    assert store.claim(now=later(2)) == []
    assert store.row(request.id)["finished_at"] == later(1)


@pytest.mark.parametrize(("at_s", "ended"), [(89.9, 0), (90, 1), (600, 1)])
def test_unsent_request_expires_at_its_deadline(store: Store, at_s: float, ended: int) -> None:
    """A code that could not leave by `send_by` is given up then, with its reason."""
    request = store.insert()

    assert len(expiring.expire_unsent(store.conn, now=later(at_s), limit=10)) == ended

    found = store.find(request.id)
    assert found.reason is (Reason.SEND_DEADLINE if ended else None)
    assert found.status is (Status.EXPIRED if ended else Status.QUEUED)
    assert found.send_state is (SendState.IDLE if ended else SendState.DUE)


def test_request_in_a_workers_hand_does_not_expire_unsent(store: Store) -> None:
    """While a worker holds it the code may just be leaving: its outcome decides."""
    request = store.insert()
    (claim,) = store.claim(lease_s=RUN_OUT_S)

    assert len(expiring.expire_unsent(store.conn, now=later(600), limit=10)) == 0
    assert store.record(claim, accepted(), SENT)
    assert store.find(request.id).status is Status.SENT


def test_sent_request_does_not_expire_unsent(store: Store) -> None:
    """`send_by` does not apply to a code that was sent."""
    store.insert_sent()

    assert len(expiring.expire_unsent(store.conn, now=later(600), limit=10)) == 0


@pytest.mark.parametrize(("at_s", "ended"), [(299.9, 0), (300, 1), (86_400, 1)])
def test_code_expires_at_the_end_of_its_life(store: Store, at_s: float, ended: int) -> None:
    """A code that was not entered expires at `expires_at`, with its reason."""
    request = store.insert_sent()

    assert len(expiring.expire_codes(store.conn, now=later(at_s), limit=10)) == ended

    found = store.find(request.id)
    assert found.reason is (Reason.CODE_LIFETIME if ended else None)
    assert store.row(request.id)["finished_at"] == (later(at_s) if ended else None)


@pytest.mark.parametrize("status", sorted(FINAL | {Status.QUEUED}))
def test_only_codes_that_are_out_expire(store: Store, status: Status) -> None:
    """Neither what has ended nor what was never sent ends again."""
    request = store.insert_sent()
    store.change(request.id, status=status.value)

    assert len(expiring.expire_codes(store.conn, now=later(600), limit=10)) == 0
    assert store.find(request.id).status is status


def test_code_that_is_being_checked_does_not_expire(store: Store) -> None:
    """It was typed in time: the check in flight decides, also past `expires_at`; then it expires."""
    request, other = store.insert_sent(), store.insert_sent("+447700900124")
    check = store.begin(request, now=later(299))
    store.begin(other, now=later(299), lease_s=RUN_OUT_S)
    assert check

    assert len(expiring.expire_codes(store.conn, now=later(301), limit=10)) == 1
    assert store.find(other.id).status is Status.EXPIRED
    assert store.judge(check, CheckVerdict.WRONG, now=later(302)) is Status.SENT
    assert len(expiring.expire_codes(store.conn, now=later(303), limit=10)) == 1
    assert store.find(request.id).status is Status.EXPIRED


def test_code_typed_in_time_verifies_after_its_life(store: Store) -> None:
    """A correct answer that arrives after `expires_at` to a check that began before it counts."""
    request = store.insert_sent()
    check = store.begin(request, now=later(299))
    assert check
    expiring.expire_codes(store.conn, now=later(301), limit=10)

    assert store.judge(check, CheckVerdict.CORRECT, now=later(302)) is Status.VERIFIED


def test_expiry_is_bounded_and_passes_over_locked_rows(store: Store) -> None:
    """A batch has a size, and a row that another session works on waits for the next batch."""
    made = store.insert_many(4, send_by=later(1))

    with store.engine.connect().execution_options(isolation_level="READ COMMITTED") as other:
        other.execute(select(otp_requests.c.id).where(otp_requests.c.id == made[0].id).with_for_update())
        batches = [len(expiring.expire_unsent(store.conn, now=later(2), limit=2)) for _ in range(3)]
        other.rollback()

    assert batches == [2, 1, 0]
    assert store.find(made[0].id).status is Status.QUEUED
    assert len(expiring.expire_unsent(store.conn, now=later(2), limit=2)) == 1


def test_refusal_leaves_a_small_row(store: Store) -> None:
    """Refused requests are counted too: reason, hashes and time, nothing else."""
    refusals.add(
        store.conn,
        client_id=store.client_id,
        reason="premium_rate_number",
        number_hash=b"n",
        client_ip_hash=None,
        now=NOW,
    )

    (row,) = store.conn.execute(select(refusal_rows)).mappings()
    assert (row["client_id"], row["reason"], row["created_at"]) == (
        store.client_id,
        "premium_rate_number",
        NOW,
    )
    assert (row["number_hash"], row["client_ip_hash"]) == (b"n", None)
