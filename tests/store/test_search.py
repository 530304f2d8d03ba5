"""Lists of requests: order, pages, and what a page may cost."""

from __future__ import annotations

import re
from itertools import chain, product
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import event, text

from otpqueue.domain.search import SearchPosition
from otpqueue.store import clients, search
from otpqueue.store.search import SearchTerms
from tests.store.conftest import NOW, NUMBER, Store, later

MANY = 30_000

# Two requests each second, as many at the same moment; each hundredth failed.
FILL = text(
    """
    INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, channel, status, reason,
                              send_state, checks_allowed, created_at, updated_at, send_by, finished_at)
    SELECT gen_random_uuid(), :client_id, '\\x00', 'gone', decode(md5((n % 5000)::text), 'hex'), 'sms',
           CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'expired' END, 'code_lifetime', 'idle', 5,
           CAST(:now AS timestamptz) - make_interval(secs => n / 2), :now, :now, :now
    FROM generate_series(1, :many) AS n
    """
)


def sought(**given: Any) -> SearchTerms:
    """Return what is looked for: everything but for what is given."""
    anything: dict[str, Any] = dict.fromkeys(
        ("number_hashes", "status", "created_after", "created_before", "client_id")
    )
    return SearchTerms(**(anything | given))


def page(
    store: Store, *, after: SearchPosition | None = None, limit: int = 20, window: int = 10_000, **given: Any
) -> tuple[list[UUID], SearchPosition | None]:
    """Return the ids on a page, and where to go on."""
    found, last = search.list_newest(
        store.conn, sought(**given), after=after, limit=limit, window=window, vault=store.vault
    )
    return [one.request.id for one in found], last


def all_pages(store: Store, **given: Any) -> list[list[UUID]]:
    """Return the ids on all pages."""
    pages, after = [], None
    while True:
        ids, after = page(store, after=after, **given)
        pages.append(ids)
        if after is None:
            return pages
        assert len(pages) < 1000


def test_newest_first(store: Store) -> None:
    """In the order of their times and, for equal times, of their ids; each with its client."""
    requests = [store.insert(f"+4477009001{n:02}", created_at=later(n // 3)) for n in range(10)]
    expected = [one.id for one in sorted(requests, key=lambda one: (one.created_at, one.id), reverse=True)]

    found, last = search.list_newest(
        store.conn, sought(), after=None, limit=100, window=1000, vault=store.vault
    )

    assert [one.request.id for one in found] == expected
    assert {one.client for one in found} == {"shop"}
    assert last is None
    assert all_pages(store, limit=4) == [expected[:4], expected[4:8], expected[8:]]
    assert all_pages(store, limit=5) == [expected[:5], expected[5:]]
    assert list(chain(*all_pages(store, limit=1))) == expected


def test_new_requests_do_not_shift_pages(store: Store) -> None:
    """Requests added while a reader pages are not on the later pages, and hide none."""
    old = store.insert_many(6)
    first, after = page(store, limit=3)
    store.insert("+447700900999", created_at=later(5))

    second, last = page(store, after=after, limit=3)

    assert first + second == [one.id for one in reversed(old)]
    assert last is None


def test_filters(store: Store) -> None:
    """Status as it is shown, time, client and number let through what they say, alone and together."""
    other_client = clients.ensure_client(store.conn, "bank", now=NOW)
    queued = store.insert(created_at=later(1))
    failed = store.insert(NUMBER, session_id="b", created_at=later(2))
    store.change(failed.id, status="failed", send_state="idle", next_attempt_at=None)
    foreign = store.insert("+447700900200", client_id=other_client, created_at=later(3))
    claimed = store.insert("+447700900201", created_at=later(4))
    store.change(claimed.id, send_state="claimed", next_attempt_at=None, lease_until=later(60))
    number_hash = store.vault.number_hash(NUMBER)

    def ids(**given: Any) -> list[UUID]:
        return page(store, **given)[0]

    assert ids() == [claimed.id, foreign.id, failed.id, queued.id]
    assert ids(status="queued") == [foreign.id, queued.id]
    assert ids(status="sending") == [claimed.id]
    assert ids(status="failed") == [failed.id]
    assert ids(status="verified") == []
    assert ids(client_id=other_client) == [foreign.id]
    assert ids(client_id=uuid4()) == []
    assert ids(created_after=later(2)) == [claimed.id, foreign.id, failed.id]
    assert ids(created_before=later(2)) == [queued.id]
    assert ids(created_after=later(2), created_before=later(4)) == [foreign.id, failed.id]
    assert ids(number_hashes=[number_hash]) == [failed.id, queued.id]
    assert ids(number_hashes=[number_hash], status="failed", client_id=store.client_id) == [failed.id]
    assert ids(number_hashes=[b"unknown"]) == []


def test_window(store: Store) -> None:
    """However little is looked at for a page, all that is sought is on the pages, once, in order."""
    requests = store.insert_many(10)
    wanted = [one.id for one in reversed(requests)][::3]
    for one in wanted:
        store.change(one, status="failed", send_state="idle", next_attempt_at=None)

    for window, limit in product([1, 3, 7, 10, 11], [1, 2, 10]):
        pages = all_pages(store, status="failed", window=window, limit=limit)
        assert list(chain(*pages)) == wanted, (window, limit)


def test_number_that_cannot_be_opened(store: Store) -> None:
    """A row with a missing key is listed without its number."""
    request = store.insert()
    store.change(request.id, seal_key_id="gone")

    found, _ = search.list_newest(store.conn, sought(), after=None, limit=1, window=10, vault=store.vault)

    assert found[0].request.phone_number is None


DEEP = SearchPosition(later(-1000), uuid4())


def test_cost_of_a_page(store: Store) -> None:
    """Whatever is sought, no statement reads more rows than the window has."""
    number = [b"x" * 16]
    store.conn.execute(FILL, {"client_id": store.client_id, "now": NOW, "many": MANY})
    store.conn.execute(text("ANALYZE otp_requests"))

    check_cost(store, "otp_requests_created")
    check_cost(store, "otp_requests_created", after=DEEP)
    check_cost(store, "otp_requests_created", after=DEEP, status="failed")
    check_cost(store, "otp_requests_created", status="locked")
    check_cost(store, "otp_requests_created", after=DEEP, client_id=UUID(int=1))
    locked = {"status": "locked", "client_id": UUID(int=1), "created_before": NOW}
    check_cost(store, "otp_requests_created", after=DEEP, **locked)
    check_cost(store, "otp_requests_number", number_hashes=number)
    check_cost(store, "otp_requests_number", after=DEEP, number_hashes=number, status="locked")


def check_cost(store: Store, index: str, *, after: SearchPosition | None = None, **given: Any) -> None:
    """Check that a page is found by an index, and reads no more rows than the window has."""
    window = 500
    plans: list[str] = []

    def explain(_conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "otp_requests" in statement:
            cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF) {statement}", parameters)
            plans.append("\n".join(line for (line,) in cursor.fetchall()))

    event.listen(store.engine, "before_cursor_execute", explain)
    try:
        page(store, after=after, window=window, **given)
    finally:
        event.remove(store.engine, "before_cursor_execute", explain)

    assert plans
    for plan in plans:
        assert "Seq Scan on otp_requests" not in plan, plan
        assert index in plan, plan
        read = [int(float(rows)) for rows in re.findall(r"actual rows=([\d.]+)", plan)]
        removed = [int(rows) for rows in re.findall(r"Rows Removed by Filter: (\d+)", plan)]
        assert max(read + removed) <= window, plan
