"""The audit trail: append-only, written with each action, and without what identifies an erased number."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from otpqueue import clock
from otpqueue.domain.audit import (
    AuditActor,
    AuditEntry,
    AuditFilters,
    AuditOutcome,
    AuditSurface,
    OperatorAction,
    acting_as,
)
from otpqueue.domain.errors import InvalidRequest, RequestNotFound
from otpqueue.domain.request import Status
from otpqueue.store import stops
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, Ask, MakeParts

ANNA = AuditActor(surface=AuditSurface.CLI, name="anna@ops", peer="203.0.113.0/24", call_id="call-7")
DAY = timedelta(days=1)
MASKED = "+44********23"


@pytest.fixture
def parts(make_parts: MakeParts) -> Parts:
    """Return parts of an empty database: provisioning would be an entry of its own."""
    return make_parts()


def trail(parts: Parts, **filters: Any) -> tuple[AuditEntry, ...]:
    """Return the newest entries."""
    return parts.audit.list(AuditFilters(**filters), cursor=None, limit=50).entries


def age(parts: Parts, days: int) -> None:
    """Make every entry older, as only a superuser can: replicas fire no triggers."""
    with connection(parts.engine) as conn, conn.execution_options(isolation_level="READ COMMITTED").begin():
        conn.execute(text("SET LOCAL session_replication_role = replica"))
        for table in ("audit_entries", "audit_subjects"):
            conn.execute(text(f"UPDATE {table} SET at = at - make_interval(days => {days})"))


def test_entry_says_who_did_what_to_whom_from_where_and_why(parts: Parts) -> None:
    """An entry has actor, surface, peer, call, target, country, masked number, reason and outcome."""
    with acting_as(ANNA):
        parts.blocklist.block(NUMBER, reason="asked us to", until=None, now=clock.now())
        parts.blocklist.unblock(NUMBER, reason="a mistake")
        parts.blocklist.unblock(NUMBER)
    parts.keys.create(client="shop", scopes=frozenset({"send"}), now=clock.now())

    key, again, unblocked, blocked = trail(parts)

    assert (blocked.action, blocked.outcome, blocked.reason) == (
        OperatorAction.NUMBER_BLOCKED,
        AuditOutcome.DONE,
        "asked us to",
    )
    assert (blocked.actor, blocked.country) == (ANNA, "GB")
    # Without a request of the number only its tag is known.
    assert blocked.phone_number is not None
    assert blocked.phone_number.startswith("#")
    assert (unblocked.outcome, again.outcome) == (AuditOutcome.DONE, AuditOutcome.UNCHANGED)
    assert (key.client, key.details["scopes"]) == ("shop", ["send"])
    assert key.target is not None
    assert key.target.startswith("oq_")
    # Outside `acting_as` no operator is named.
    assert key.actor.surface is AuditSurface.PROCESS


def test_filters_and_pages(parts: Parts) -> None:
    """Every filter narrows the list; pages have no gap and no overlap; a cursor fits only its filters."""
    with acting_as(ANNA):
        for number in (NUMBER, "+447700900124"):
            parts.blocklist.block(number, reason=None, until=None, now=clock.now())
    for name in ("shop", "bank"):
        parts.clients.create(name, now=clock.now())
    everything = trail(parts)

    assert len(everything) == 4
    assert [one.client for one in trail(parts, client="bank")] == ["bank"]
    assert len(trail(parts, actor="anna@")) == len(trail(parts, surface=AuditSurface.CLI)) == 2
    assert len(trail(parts, action=OperatorAction.CLIENT_CREATED)) == 2
    assert trail(parts, phone_number=NUMBER) == (everything[3],)
    assert trail(parts, since=everything[1].at) == everything[:2]
    assert trail(parts, until=everything[1].at) == everything[2:]
    pages, cursor = [], None
    while not pages or cursor:
        page = parts.audit.list(AuditFilters(), cursor=cursor, limit=3)
        pages.append(page.entries)
        cursor = page.next_cursor
    assert [len(page) for page in pages] == [3, 1]
    assert sum(pages, ()) == everything
    first = parts.audit.list(AuditFilters(), cursor=None, limit=1).next_cursor
    for wrong in (AuditFilters(actor="anna"), AuditFilters(client="shop")):
        with pytest.raises(InvalidRequest):
            parts.audit.list(wrong, cursor=first, limit=1)
    with pytest.raises(InvalidRequest):
        trail(parts, client="unknown")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET reason = 'nothing happened'",
        "DELETE FROM audit_entries",
        "TRUNCATE audit_entries",
        # Even with the purge's mark an entry of the last 30 days stays.
        "SELECT set_config('otpqueue.purging', 'on', false); DELETE FROM audit_entries",
    ],
)
def test_entries_cannot_be_changed(parts: Parts, statement: str) -> None:
    """Postgres refuses every change of an entry."""
    parts.clients.create("shop", now=clock.now())
    before = trail(parts)

    with pytest.raises((DBAPIError, ProgrammingError), match="append-only"), connection(parts.engine) as conn:
        conn.exec_driver_sql(statement)

    assert trail(parts) == before


def test_old_entries_cannot_be_deleted_either(parts: Parts) -> None:
    """Only the purge deletes, whatever the age of an entry."""
    parts.clients.create("shop", now=clock.now())
    age(parts, 5000)

    with pytest.raises((DBAPIError, ProgrammingError), match="append-only"), connection(parts.engine) as conn:
        conn.execute(text("DELETE FROM audit_entries"))

    assert len(trail(parts)) == 1


def test_purge_deletes_after_the_retention_and_says_so(parts: Parts) -> None:
    """Entries go after their own retention, links to numbers with requests; the purge is recorded."""
    parts.blocklist.block(NUMBER, reason=None, until=None, now=clock.now())
    parts.purge(now=clock.now())
    assert trail(parts)[0].phone_number is not None

    age(parts, 31)
    parts.purge(now=clock.now())
    (blocked,) = trail(parts)
    assert blocked.phone_number is None
    assert trail(parts, phone_number=NUMBER) == ()

    age(parts, 1070)
    with acting_as(AuditActor(surface=AuditSurface.BEAT, name="purge")):
        parts.purge(now=clock.now())
    (purged,) = trail(parts)
    assert (purged.action, purged.actor.surface) == (OperatorAction.PURGED, AuditSurface.BEAT)
    assert purged.details["rows"]["audit_entries"] == 1


def test_action_that_is_undone_leaves_no_entry(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry and action are one transaction: a failure of either undoes both."""
    begin = stops.stop

    def fail_after(*given: Any) -> bool:
        begin(*given)
        raise RuntimeError("the process was killed here")

    monkeypatch.setattr(stops, "stop", fail_after)
    with pytest.raises(RuntimeError):
        parts.switch.stop(country=None, client=None, reason=None, by="anna", now=clock.now())
    monkeypatch.undo()
    monkeypatch.setattr("otpqueue.store.audit.uuid7", lambda: "not an id")
    with pytest.raises(DBAPIError):
        parts.switch.stop(country=None, client=None, reason=None, by="anna", now=clock.now())

    assert parts.switch.stops() == ()
    assert trail(parts) == ()


def test_erasure_takes_the_number_out_of_the_trail(parts: Parts, ask: Ask) -> None:
    """Entries stay; neither number, tag nor request id do. The erasure itself is proven without them."""
    request = ask()
    parts.blocklist.block(NUMBER, reason="asked us to", until=None, now=clock.now())
    assert parts.cancel.by_operator(request.id, reason="a test", now=clock.now())
    cancelled = trail(parts)[0]
    assert cancelled.phone_number is not None
    assert cancelled.phone_number.startswith(MASKED)
    assert (cancelled.request_id, cancelled.client) == (request.id, "test")

    with acting_as(ANNA):
        counts = parts.erase(NUMBER, country=None, client_id=None, now=clock.now(), reason="art. 17")

    assert counts["audit_subjects"] == 2
    erased, *others = trail(parts)
    assert [one.action for one in others] == ["request_cancelled", "number_blocked"]
    assert all((one.phone_number, one.request_id) == (None, None) for one in (erased, *others))
    assert trail(parts, phone_number=NUMBER) == ()
    (proof,) = parts.audit.erasures()
    assert (str(proof.id), proof.by, proof.surface) == (erased.target, "anna@ops", AuditSurface.CLI)
    assert (proof.reason, proof.counts) == ("art. 17", counts)


def test_cancelling_for_an_operator(parts: Parts, ask: Ask, client_id: UUID) -> None:
    """A live request of any client ends; an ended one does not change, which is recorded as such."""
    request = ask()

    assert parts.cancel.by_operator(request.id, reason="a test", now=clock.now())
    assert not parts.cancel.by_operator(request.id, reason="again", now=clock.now())

    found = parts.status(request.id, client_id=client_id)
    assert (found.status, found.reason) == (Status.CANCELLED, "cancelled_by_operator")
    assert [one.outcome for one in trail(parts)] == [AuditOutcome.UNCHANGED, AuditOutcome.DONE]
    with pytest.raises(RequestNotFound):
        parts.cancel.by_operator(uuid4(), reason="a test", now=clock.now())


def test_long_action_is_recorded_before_it_begins(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rotation has an entry when it begins and one when it ends, also if it fails."""
    parts.rotate_seal(progress=lambda *_: None)
    monkeypatch.setattr(type(parts.rotate_seal), "report", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        parts.rotate_seal(progress=lambda *_: None)

    assert [(one.action, one.outcome.value) for one in trail(parts)] == [
        ("seal_key_rotated", "failed"),
        ("seal_key_rotated", "started"),
        ("seal_key_rotated", "done"),
        ("seal_key_rotated", "started"),
    ]


def test_no_secret_of_a_webhook_is_recorded(parts: Parts, client_id: UUID) -> None:
    """The URL may hold a secret, so only its host is recorded; of secrets, only that they were replaced."""
    assert client_id
    url = "https://shop.example/hooks/very-secret?token=hidden"
    secret = parts.webhooks.set("test", url, events=(), now=clock.now())
    parts.webhooks.rotate_secret("test", overlap=timedelta(), now=clock.now())

    rotated, given = trail(parts)

    assert (rotated.action, given.action) == ("webhook_secret_rotated", "webhook_set")
    assert given.target == "shop.example"
    with connection(parts.engine) as conn:
        written = str(conn.execute(text("SELECT * FROM audit_entries")).all())
    assert "secret?" not in written
    assert "hidden" not in written
    assert secret not in written
