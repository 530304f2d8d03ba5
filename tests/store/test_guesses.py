"""Wrong codes in Postgres: counted with their checks, read by index, refusals a row a minute."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import RowMapping, select, text

from otpqueue.domain.admission import StoredFacts
from otpqueue.domain.checking import CheckVerdict, Judgement
from otpqueue.domain.limits import Quota
from otpqueue.domain.request import Status
from otpqueue.operations.access.clients import Clients
from otpqueue.store import accepting, checks, clients, guesses, refusals
from otpqueue.store.accepting import NumberLookup, read_facts
from otpqueue.store.access import read_current
from otpqueue.store.checks import OpenCheck
from otpqueue.store.engine import connection, fetch
from otpqueue.store.schema import number_guesses
from otpqueue.store.schema import refusals as refusal_rows
from tests.store.conftest import NO_GUESSES, NOW, NUMBER, RUN_OUT_S, SENT, Store, accepted, later

HOUR = timedelta(hours=1)


def in_a_row(store: Store, number: str = NUMBER) -> int | None:
    """Return the wrong codes in a row for a number, None where nothing is kept."""
    found: int | None = store.conn.execute(
        select(number_guesses.c.wrong_in_a_row).where(
            number_guesses.c.client_id == store.client_id,
            number_guesses.c.number_hash == store.vault.number_hash(number),
        )
    ).scalar_one_or_none()
    return found


def judged(store: Store) -> tuple[int, int]:
    """Return the checks that were judged in the last hour, and the wrong ones."""
    read = read_current(store.engine, day=NOW.date(), judged_since=NOW - HOUR)
    return read.judged.get(store.client_id, (0, 0))


def recent(store: Store, *, number: int = 1, address: int = 1, ip: bytes | None = None) -> StoredFacts:
    """Return what a new request an hour after NOW would meet."""
    lookup = NumberLookup(
        client_id=store.client_id,
        number_hashes=store.vault.number_hashes(NUMBER),
        client_ip_hashes=ip and [ip],
        guesses=replace(NO_GUESSES, number=Quota(number, 3600), client_ip=Quota(address, 3600)),
        now=NOW,
    )
    return read_facts(store.engine, lookup)


@pytest.mark.parametrize(
    ("verdict", "row", "counts"),
    [
        (CheckVerdict.WRONG, 1, (1, 1)),
        (CheckVerdict.UNKNOWN, 1, (1, 1)),
        (CheckVerdict.CORRECT, None, (1, 0)),
        (CheckVerdict.UNJUDGED, 0, (0, 0)),
        (CheckVerdict.EXPIRED, 0, (0, 0)),
        (CheckVerdict.EXHAUSTED, 0, (0, 0)),
    ],
)
def test_what_each_verdict_counts(
    store: Store, verdict: CheckVerdict, row: int | None, counts: tuple[int, int]
) -> None:
    """A check counts as a wrong code from its beginning, until its verdict says otherwise."""
    request = store.insert_sent()
    check = store.begin(request)
    assert check
    assert (in_a_row(store), judged(store)) == (1, (0, 0))

    store.judge(check, verdict)

    assert (in_a_row(store), judged(store)) == (row, counts)


def test_a_lost_check_stays_a_wrong_code(store: Store) -> None:
    """A process that dies while it checks has spent its guess, unless a late answer says that it has not."""
    request = store.insert_sent()
    lost = store.begin(request, lease_s=RUN_OUT_S)
    assert lost
    checks.sweep(store.conn, now=NOW, limit=10)
    assert in_a_row(store) == 1

    store.judge(lost, CheckVerdict.UNJUDGED)

    assert in_a_row(store) == 0


def test_a_right_code_of_a_request_that_has_ended_resets_nothing(store: Store) -> None:
    """Only a code that was accepted ends the row."""
    request = store.insert_sent()
    check = store.begin(request)
    assert check
    store.change(request.id, status=Status.CANCELLED, finished_at=NOW)

    assert store.judge(check, CheckVerdict.CORRECT) is None
    assert in_a_row(store) == 1


def test_a_right_code_keeps_what_was_forgiven(store: Store) -> None:
    """The hour before an unlock stays forgiven when a right code has come since."""
    for _ in range(3):
        store.check(store.insert_sent(session_id=None), CheckVerdict.WRONG)
    number_hash = store.vault.number_hash(NUMBER)
    guesses.unlock(store.conn, client_id=store.client_id, number_hashes=[number_hash], now=later(1))
    assert recent(store) == StoredFacts()

    store.check(store.insert_sent(), CheckVerdict.CORRECT)

    assert recent(store).number_nth is None
    assert in_a_row(store) == 0


def test_checks_at_once_are_all_counted(store: Store) -> None:
    """Concurrent checks of many requests for one number are all counted, without a deadlock."""
    requests = [store.insert(session_id=f"s{index}") for index in range(12)]
    for claim in store.claim(slots=12):
        assert store.record(claim, accepted(f"pin-{claim.request_id}"), SENT, expires_at=later(300))

    def guess(index: int) -> None:
        sessions = store.vault.session_hashes(f"s{index}")
        for _ in range(4):
            check = store.begin(requests[index], session_hashes=sessions)
            assert check
            wrong = Judgement(verdict=CheckVerdict.WRONG, code="WRONG", http_status=200)
            checks.record(store.engine, check, wrong, latency_ms=1, now=NOW, vault=store.vault)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(guess, range(12)))

    assert (in_a_row(store), judged(store)) == (48, (48, 48))
    assert recent(store, number=48).number_nth == NOW
    assert recent(store, number=49).number_nth is None


def test_the_nth_newest_wrong_code(store: Store) -> None:
    """The time of the n-th newest wrong code is returned; unjudged and old ones are skipped."""
    for seconds, verdict in (
        (-4000, CheckVerdict.WRONG),
        (-50, CheckVerdict.WRONG),
        (-40, CheckVerdict.UNKNOWN),
    ):
        # A claim skips requests that are older than the longest `OTPQUEUE_SEND_WITHIN_S`.
        request = store.insert_sent(created_at=later(max(seconds - 10, -500)))
        check = store.begin(request, now=later(seconds), client_ip_hash=b"ip")
        assert check
        store.judge(check, verdict, now=later(seconds))
    request = store.insert_sent(created_at=later(-20))
    for verdict in (CheckVerdict.UNJUDGED, CheckVerdict.WRONG):
        check = store.begin(request, now=later(-10), client_ip_hash=b"ip")
        assert check
        store.judge(check, verdict, now=later(-9))

    ages = [recent(store, number=n, address=n, ip=b"ip") for n in (1, 2, 3, 4)]

    assert [one.number_nth for one in ages] == [later(-10), later(-40), later(-50), None]
    assert [one.address_nth for one in ages] == [later(-10), later(-40), later(-50), None]
    assert recent(store, ip=b"another").address_nth is None


def test_other_clients_are_passed_over(store: Store) -> None:
    """Wrong codes at another client are not this one's, of neither number nor address."""
    other = clients.ensure_client(store.conn, "other", now=NOW)
    request = store.insert(client_id=other)
    (claim,) = store.claim()
    assert store.record(claim, accepted(), SENT, expires_at=later(300))
    check = checks.begin(
        store.conn,
        request_id=request.id,
        client_id=other,
        session_hashes=None,
        number_hashes=None,
        client_ip_hash=b"ip",
        lease_s=20,
        now=NOW,
        vault=store.vault,
    )
    assert isinstance(check, OpenCheck)
    store.judge(check, CheckVerdict.WRONG)

    assert recent(store, ip=b"ip") == StoredFacts()
    (one,) = guesses.list_wrong_codes(store.conn, store.vault.number_hashes(NUMBER), since=NOW)
    assert (one.client, one.in_a_row, one.unlocked_at) == ("other", 1, None)


FILL = """
    WITH made AS (
        INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, client_ip_hash,
                                  channel, status, send_state, checks_allowed, created_at, updated_at,
                                  send_by)
        SELECT gen_random_uuid(), :client_id, '\\x00', 'k1', sha256(i::text::bytea),
               sha256((i % 100)::text::bytea), 'sms', 'locked', 'idle', 5, at, at, at
        FROM (SELECT i, CAST(:now AS timestamptz) - interval '5 hours' * i / 30000 AS at
              FROM generate_series(1, 30000) AS s (i)) AS old
        RETURNING id, client_ip_hash, created_at
    )
    INSERT INTO checks (request_id, number, client_ip_hash, started_at, verdict)
    SELECT id, 1, client_ip_hash, created_at, 'wrong' FROM made
"""


def test_no_table_is_read_as_a_whole(store: Store) -> None:
    """Among many wrong codes those of one number and address are found by indexes."""
    store.conn.execute(text(FILL), {"client_id": store.client_id, "now": NOW})
    store.conn.execute(text("ANALYZE otp_requests, checks, number_guesses"))
    lookup = NumberLookup(
        client_id=store.client_id,
        number_hashes=[b"7"],
        client_ip_hashes=[b"7"],
        guesses=replace(NO_GUESSES, number=Quota(10, 3600), client_ip=Quota(20, 3600)),
        now=NOW,
    )

    lines = fetch(store.engine, f"EXPLAIN {accepting._FACTS}", lookup.parameters())
    plan = "\n".join(line[0] for line in lines)

    assert "checks_wrong_of_address" in plan
    assert "otp_requests_number" in plan
    assert "Seq Scan on otp_requests" not in plan
    assert "Seq Scan on checks" not in plan


def refuse(store: Store, seconds: float = 0, **differing: object) -> None:
    """Note a refusal."""
    values = {"reason": "limit_number_15m", "number_hash": b"n", "client_ip_hash": None} | differing
    with connection(store.engine) as conn:
        refusals.add(conn, client_id=store.client_id, now=later(seconds), **values)  # type: ignore[arg-type]


def refused(store: Store) -> list[RowMapping]:
    """Return the rows, oldest first."""
    return list(store.conn.execute(select(refusal_rows).order_by(refusal_rows.c.created_at)).mappings())


def test_refusals_of_a_minute_are_one_row(store: Store) -> None:
    """A flood is one row for each minute, number, client and reason, with their count."""
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(lambda index: refuse(store, index % 50), range(200)))
    refuse(store, 61)
    refuse(store, 61, reason="limit_number_day")
    refuse(store, 61, number_hash=b"m")

    rows = refused(store)

    assert [row["count"] for row in rows] == [200, 1, 1, 1]
    assert rows[0]["minute"] == NOW
    assert sum(row["count"] for row in rows if row["number_hash"] == b"n") == 202


def test_refusals_without_a_number(store: Store) -> None:
    """What no number is known of is counted, too, in one row."""
    refuse(store, number_hash=None)
    refuse(store, number_hash=None)

    assert [row["count"] for row in refused(store)] == [2]


def test_operators_at_once_lose_no_setting(store: Store) -> None:
    """A client's settings are changed one after the other."""
    manage = Clients(engine=store.engine)
    names = ("number_15m", "number_day", "client_ip_15m", "key_rate")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: manage.set("shop", f"limits.{name}", "5/h"), names))

    assert manage.show("shop").settings == {"limits": dict.fromkeys(names, "5/h")}
