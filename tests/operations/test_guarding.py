"""The pumping guard: counts, reverts and refusals at acceptance, and counts after the claim."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import pytest
import structlog
from sqlalchemy import RowMapping, insert, text

from otpqueue import clock
from otpqueue.domain import phone
from otpqueue.domain.errors import CodeIncorrect, DestinationPaused
from otpqueue.domain.guard import truncate_to_hour
from otpqueue.domain.request import Channel, OtpRequest, Status
from otpqueue.operations.admission.admit import Applicant
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.store.engine import connection, make_engine
from otpqueue.store.privacy import purging
from otpqueue.store.schema import guard_tallies
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, MakeParts, Provider
from tests.operations.looking import Rows, at_once

BLOCK = "44770090"
LONG_AGO = timedelta(days=3)


class Door:
    """A service with a guard, and its counts."""

    def __init__(self, parts: Parts, client_id: UUID) -> None:
        self.parts, self.client_id = parts, client_id

    def ask(self, number: str = "+447700900001", **wanted: Any) -> OtpRequest:
        """Request a code."""
        return self.parts.request(
            RequestedCode(phone_number=number, **wanted), client_id=self.client_id, now=clock.now()
        )

    def applicant(self, number: str) -> Applicant:
        """Return an applicant with a number."""
        return Applicant(
            client_id=self.client_id,
            number=phone.parse_number(number, allow_documentation=True),
            number_hashes=self.parts.vault.number_hashes(number),
            client_ip_hashes=None,
            language=None,
            resend=False,
            is_test=False,
            now=clock.now(),
        )

    def verify(self, request: OtpRequest, code: str) -> OtpRequest:
        """Verify a code."""
        return self.parts.verify(request.id, TypedCode(code=code), client_id=self.client_id, now=clock.now())

    def counted(self, subject: str = BLOCK) -> tuple[int, int, int]:
        """Return the sent, verified and refused counts of a subject."""
        with connection(self.parts.engine) as conn:
            row = conn.execute(
                text(
                    "SELECT coalesce(sum(sent), 0), coalesce(sum(verified), 0), coalesce(sum(refused), 0) "
                    "FROM guard_tallies WHERE subject = :subject AND hour > :since"
                ),
                {"subject": subject, "since": clock.now() - timedelta(hours=2)},
            ).one()
            return (row[0], row[1], row[2])

    def learn(self, subject: str = BLOCK, *, verified: int, at: datetime | None = None) -> None:
        """Record this many verified codes some days ago."""
        at = truncate_to_hour(at or clock.now() - LONG_AGO)
        row = {"subject": subject, "hour": at, "country": "GB", "sent": verified, "verified": verified}
        with connection(self.parts.engine) as conn:
            conn.execute(insert(guard_tallies).values(row))

    def decisions(self) -> list[RowMapping]:
        """Return the stored refusals."""
        with connection(self.parts.engine) as conn:
            return list(conn.execute(text("SELECT * FROM guard_decisions ORDER BY reason")).mappings())

    def spread(self, count: int) -> list[str]:
        """Return valid numbers, each of another block."""
        return [f"+4474{i:04}0001"[:13] for i in range(1000, 1000 + count)]


MakeDoor = Callable[..., Door]


@pytest.fixture
def make_door(make_parts: MakeParts, parts: Parts, client_id: UUID) -> MakeDoor:
    """Return a function that creates a guarded service with other settings."""
    return lambda mode="enforce", **differing: Door(make_parts(OTPQUEUE_GUARD=mode, **differing), client_id)


def test_send_is_counted_and_verified(make_door: MakeDoor, provider: Provider, rows: Rows) -> None:
    """A probe counts for block, country and total. A right code reverts it, a wrong one does not."""
    door = make_door()
    request = door.ask()
    door.parts.pump.run()

    assert [door.counted(of) for of in (BLOCK, "GB", "*")] == [(1, 0, 0)] * 3
    code = provider.code("+447700900001")
    with pytest.raises(CodeIncorrect):
        door.verify(request, f"{(int(code) + 1) % 1_000_000:06}")
    assert door.counted() == (1, 0, 0)
    assert door.verify(request, code).status is Status.VERIFIED
    assert [door.counted(of) for of in (BLOCK, "GB", "*")] == [(1, 1, 0)] * 3
    assert rows.request(request.id)["guard_block"] is None


def test_second_number_of_a_new_block_is_refused(make_door: MakeDoor, rows: Rows) -> None:
    """A new block has one probe. The refusal is stored twice: for the alerts, and with its figures."""
    door = make_door()
    door.ask()

    with pytest.raises(DestinationPaused) as refused:
        door.ask("+447700900002")

    assert refused.value.retry_after_s == 3600
    assert [row["reason"] for row in rows.refusals()] == ["pumping_guard"]
    (decision,) = door.decisions()
    assert (decision["reason"], decision["block"], decision["mode"]) == ("chance_used", BLOCK, "enforce")
    assert (decision["tries"], decision["at_risk"], decision["budget"]) == (1, 1, 1)
    assert door.counted() == (1, 0, 1)


def test_block_is_known_once_verified(make_door: MakeDoor, provider: Provider) -> None:
    """After a right code others of the block are sent to."""
    door = make_door()
    request = door.ask()
    door.parts.pump.run()
    door.verify(request, provider.code("+447700900001"))

    for last in range(2, 5):
        door.ask(f"+44770090000{last}")

    assert door.counted("GB") == (1, 1, 0)


def test_verified_number_goes_on_while_its_block_is_refused(make_door: MakeDoor, provider: Provider) -> None:
    """A verified number is sent to while other numbers of its block are refused."""
    door = make_door(OTPQUEUE_TUNING_GUARD_BLOCK_FLOOR="1", OTPQUEUE_GUARD_SHARE="0")
    request = door.ask()
    door.parts.pump.run()
    door.verify(request, provider.code("+447700900001"))
    door.ask("+447700900002")

    with pytest.raises(DestinationPaused):
        door.ask("+447700900003")
    assert door.ask("+447700900001").status is Status.QUEUED


def test_asking_again_is_not_refused(make_door: MakeDoor) -> None:
    """The number's own earlier sends do not count against a repeated request, three times."""
    door = make_door(**NO_LIMITS)
    for _ in range(3):
        door.ask()
        door.parts.pump.run()

    with pytest.raises(DestinationPaused):
        door.ask()


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the statements that are executed from now on."""
    executed: list[str] = []
    execute = psycopg.Cursor.execute

    def noted(cursor: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        executed.append(str(query))
        return execute(cursor, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.Cursor, "execute", noted)
    return executed


def test_shadow_costs_the_caller_nothing(make_door: MakeDoor, statements: list[str], rows: Rows) -> None:
    """In shadow mode a request stores its block without a statement. The worker counts its send."""
    cost = {}
    for mode in ("off", "shadow"):
        door = make_door(mode)
        door.ask(door.spread(2)[mode == "off"])
        statements.clear()
        door.ask("+447700900001" if mode == "off" else "+447700900002")
        cost[mode] = len(statements)
    row = rows.requests()[-1]

    assert cost["shadow"] == cost["off"]
    assert (row["guard_block"], row["guard_as"], row["guard_counted"]) == (BLOCK, None, 0)
    assert door.counted() == door.counted("GB") == (0, 0, 0)

    door.parts.pump.run()
    assert door.counted() == (1, 0, 0)


def test_known_block_costs_one_statement_in_enforce_mode(make_door: MakeDoor, statements: list[str]) -> None:
    """Facts and count of a known block take one round trip, those of a probe two."""
    door = make_door()
    door.learn(verified=10)
    take = door.parts.guard.take

    statements.clear()
    take(door.applicant("+447700900001"))
    assert len(statements) == 1
    statements.clear()
    take(door.applicant(door.spread(1)[0]))

    assert len(statements) == 2


def test_what_is_counted_at_acceptance_is_not_counted_after_the_claim(make_door: MakeDoor) -> None:
    """A worker in any mode skips what enforce mode has counted."""
    enforce, shadow = make_door(), make_door("shadow")
    enforce.ask()

    shadow.parts.pump.run()

    assert [enforce.counted(of) for of in (BLOCK, "GB", "*")] == [(1, 0, 0)] * 3


def test_worker_counts_what_shadow_mode_accepted(make_door: MakeDoor) -> None:
    """A worker in enforce mode counts and logs the sends that were accepted in shadow mode."""
    make_door("shadow").ask()
    door = make_door()

    door.parts.pump.run()

    assert door.counted() == (1, 0, 0)


def test_worker_that_is_off_counts_nothing(make_door: MakeDoor, rows: Rows) -> None:
    """A worker with the guard off never counts what was accepted in shadow mode."""
    make_door("shadow").ask()
    door = make_door("off")
    door.parts.pump.run()
    assert door.counted() == (0, 0, 0)

    door.parts.cancel(rows.requests()[0]["id"], client_id=door.client_id, now=clock.now())

    assert door.counted() == (0, 0, 0)
    assert rows.requests()[0]["guard_block"] is None


def test_test_numbers_are_not_counted(make_door: MakeDoor, rows: Rows) -> None:
    """Test numbers are not counted in either mode, because nothing is sent to them."""
    until = f"{clock.now() + timedelta(days=9):%Y-%m-%d}"
    fixed = '{"+447700900001": {"code": "571839", "until": "' + until + '"}}'
    for mode in ("shadow", "enforce"):
        door = make_door(mode, OTPQUEUE_TEST_NUMBERS=fixed)
        door.ask()
        door.parts.pump.run()

    assert [row["guard_block"] for row in rows.requests()] == [None, None]
    assert door.counted() == (0, 0, 0)


def test_retries_are_one_send(make_door: MakeDoor, provider: Provider, rows: Rows) -> None:
    """A send that succeeds at the second attempt is counted once, one that finally fails not at all."""
    door = make_door("shadow")
    provider.fault(status=503, times=1, match={"path": "/2fa/2/pin"})
    request = door.ask()
    door.parts.pump.run()
    assert len(rows.attempts(request.id)) == 2
    assert [door.counted(of) for of in (BLOCK, "GB", "*")] == [(1, 0, 0)] * 3

    provider.fault(status=400, match={"path": "/2fa/2/pin"})
    refused = door.ask("+447700900002")
    door.parts.pump.run()

    assert rows.request(refused.id)["status"] == "failed"
    assert door.counted() == (1, 0, 1)
    assert rows.request(refused.id)["guard_refused"] == 0


def test_shadowed_resend_is_counted(make_door: MakeDoor, provider: Provider, rows: Rows) -> None:
    """In shadow mode a resend is counted after its claim. A right code settles both sends."""
    door = make_door("shadow")
    request = door.ask()
    door.parts.pump.run()
    rows.change(request.id, resend_after=clock.now())
    door.parts.resend(request.id, client_id=door.client_id, channel=None, now=clock.now())
    assert door.counted() == (1, 0, 0)
    door.parts.pump.run()
    assert [door.counted(of) for of in (BLOCK, "GB", "*")] == [(2, 0, 0)] * 3

    door.verify(request, provider.code("+447700900001"))

    assert [door.counted(of) for of in (BLOCK, "GB", "*")] == [(2, 2, 0)] * 3


def test_guard_never_holds_up_a_send(make_door: MakeDoor, provider: Provider) -> None:
    """If counting fails, codes are still sent, and the failure is logged."""
    door = make_door("shadow")
    door.ask()
    with connection(door.parts.engine) as conn:
        conn.execute(text("ALTER TABLE guard_tallies RENAME TO away"))
    try:
        with structlog.testing.capture_logs() as logged:
            door.parts.pump.run()
    finally:
        with connection(door.parts.engine) as conn:
            conn.execute(text("ALTER TABLE away RENAME TO guard_tallies"))

    assert len(provider.messages("+447700900001")) == 1
    (crashed,) = [one for one in logged if one["event"] == "guard_crashed"]
    assert (crashed["claims"], crashed["log_level"]) == (1, "error")
    assert door.counted() == (0, 0, 0)


def test_missed_claims_are_counted_with_the_next(make_door: MakeDoor, provider: Provider) -> None:
    """Sends that could not be counted are counted once the database is available again."""
    door = make_door("shadow", OTPQUEUE_TUNING_GUARD_BLOCK_FLOOR="9")
    guard = door.parts.guard_claims
    away = make_engine("postgresql://nobody@127.0.0.1:1/none", pool_size=1)
    door.learn(verified=1)
    there, guard._engine = guard._engine, away
    with structlog.testing.capture_logs() as logged:
        for last in (1, 2):
            door.ask(f"+44770090000{last}")
            door.parts.pump.run()
    assert [one["claims"] for one in logged if one["event"] == "guard_not_counted"] == [1, 2]
    assert len(provider.messages()) == 2
    assert door.counted() == (0, 0, 0)

    guard._engine = there
    door.ask("+447700900003")
    door.parts.pump.run()

    assert door.counted() == (3, 0, 0)


def test_shadow_refuses_nothing(make_door: MakeDoor, provider: Provider) -> None:
    """Shadow mode makes the same decisions, sends everything, and counts the people who would be refused."""
    door = make_door("shadow")
    door.ask()
    second = door.ask("+447700900002")
    door.parts.pump.run()
    assert door.counted() == (1, 0, 1)
    assert [(one["mode"], one["reason"]) for one in door.decisions()] == [("shadow", "chance_used")]

    door.verify(second, provider.code("+447700900002"))

    report = door.parts.guard_admin.report(since=clock.now() - timedelta(hours=1), now=clock.now())
    (block,) = report.blocks
    assert (block.sent, block.verified, block.refused, block.refused_verified) == (2, 1, 1, 1)


def test_off_counts_nothing(make_door: MakeDoor, rows: Rows) -> None:
    """With the guard off nothing is counted or refused."""
    door = make_door("off")
    for last in range(3):
        door.ask(f"+44770090000{last}")

    assert door.counted() == (0, 0, 0)
    assert door.decisions() == []
    assert {row["guard_as"] for row in rows.requests()} == {None}


def test_code_that_never_left_is_given_back(make_door: MakeDoor, provider: Provider) -> None:
    """A send that the provider refuses, or that is replaced before it is sent, does not count."""
    door = make_door()
    door.ask()
    door.ask()
    assert door.counted() == (1, 0, 0)
    provider.fault(status=400, match={"path": "/2fa/2/pin"})

    door.parts.pump.run()

    assert [door.counted(of) for of in (BLOCK, "GB", "*")] == [(0, 0, 0)] * 3
    provider.clear_faults()
    door.ask("+447700900002")


def test_request_that_is_not_stored_is_given_back(make_door: MakeDoor, rows: Rows) -> None:
    """If the row cannot be stored the count is reverted."""
    door = make_door()
    with connection(door.parts.engine) as conn:
        conn.execute(text("ALTER TABLE otp_requests ADD CONSTRAINT no_more CHECK (false) NOT VALID"))
    try:
        with pytest.raises(Exception, match="no_more"):
            door.ask()
        door.learn("44740010", verified=1)
        with pytest.raises(Exception, match="no_more"):
            door.ask("+447400100001")
    finally:
        with connection(door.parts.engine) as conn:
            conn.execute(text("ALTER TABLE otp_requests DROP CONSTRAINT no_more"))

    assert [door.counted(of) for of in (BLOCK, "GB", "*", "44740010")] == [(0, 0, 0)] * 4


def test_resends_count_and_are_verified_together(make_door: MakeDoor, provider: Provider, rows: Rows) -> None:
    """A resend is another send. A right code settles all sends of its request."""
    door = make_door()
    request = door.ask()
    door.parts.pump.run()
    rows.change(request.id, resend_after=clock.now())
    door.parts.resend(request.id, client_id=door.client_id, channel=Channel.SMS, now=clock.now())
    door.parts.pump.run()
    assert [door.counted(of) for of in (BLOCK, "GB", "*")] == [(2, 0, 0)] * 3

    door.verify(request, provider.code("+447700900001"))

    assert [door.counted(of) for of in (BLOCK, "GB", "*")] == [(2, 2, 0)] * 3


def test_resend_is_refused_too(make_door: MakeDoor, rows: Rows) -> None:
    """A code is not sent again without a budget, and it stays valid."""
    door = make_door(OTPQUEUE_TUNING_GUARD_COUNTRY_FLOOR_HOUR="1")
    request = door.ask()
    door.parts.pump.run()
    rows.change(request.id, resend_after=clock.now())

    with pytest.raises(DestinationPaused):
        door.parts.resend(request.id, client_id=door.client_id, channel=None, now=clock.now())

    row = rows.request(request.id)
    assert (row["status"], row["send_state"], row["sends"]) == ("sent", "idle", 1)


def test_address_of_vain_tries_gets_no_chance(make_door: MakeDoor) -> None:
    """After two failed new blocks an address is refused a third. Another address is not."""
    door = make_door()
    first, second, third = door.spread(3)
    for number in (first, second):
        door.ask(number, client_ip="203.0.113.7")

    with pytest.raises(DestinationPaused):
        door.ask(third, client_ip="203.0.113.7")

    assert [one["reason"] for one in door.decisions()] == ["address_budget"]


def test_refused_block_waits(make_door: MakeDoor) -> None:
    """A free send of a budget goes to the block that asks first, not to one that was refused before."""
    door = make_door(OTPQUEUE_TUNING_GUARD_COUNTRY_FLOOR_HOUR="1")
    first, second, third = door.spread(3)
    door.ask(first)
    with pytest.raises(DestinationPaused):
        door.ask(second)
    with connection(door.parts.engine) as conn:
        conn.execute(text("UPDATE guard_tallies SET sent = 0 WHERE subject IN ('GB', '*')"))

    with pytest.raises(DestinationPaused):
        door.ask(second)
    door.ask(third)

    assert {one["reason"] for one in door.decisions()} == {"country_hour", "refused_before"}


def test_operator_lets_through(make_door: MakeDoor) -> None:
    """An exception by an operator applies until it is ended."""
    door = make_door()
    desk = door.parts.guard_admin
    door.ask()
    desk.allow("+4477009", lasting=timedelta(hours=1), now=clock.now())
    door.ask("+447700900002")
    desk.allow("gb", lasting=timedelta(hours=1), now=clock.now())
    assert [one.subject for one in desk.exceptions(now=clock.now())] == ["4477009", "GB"]
    assert desk.disallow("4477009")
    door.ask("+447700900003")
    assert desk.disallow("GB")

    with pytest.raises(DestinationPaused):
        door.ask("+447700900004")


def test_flood_is_one_row_a_minute(make_door: MakeDoor) -> None:
    """Refusals of one minute and reason are one row with a count."""
    door = make_door()
    door.ask()
    for last in range(2, 12):
        with pytest.raises(DestinationPaused):
            door.ask(f"+4477009000{last:02}")

    found = door.decisions()
    assert sum(one["tries"] for one in found) == 10
    assert len(found) <= 2


@pytest.mark.parametrize("callers", [50])
def test_known_block_is_not_overrun(make_door: MakeDoor, callers: int) -> None:
    """Concurrent callers for one known block get exactly its budget: 3 + 0.5 * 10 = 8."""
    door = make_door()
    door.learn(verified=10)
    calls = [partial(door.ask, f"+4477009001{last:02}") for last in range(callers)]

    answers = at_once(calls)

    assert sum(isinstance(one, OtpRequest) for one in answers) == 8
    assert sum(isinstance(one, DestinationPaused) for one in answers) == callers - 8
    assert door.counted() == (8, 0, callers - 8)


def test_country_is_not_overrun(make_door: MakeDoor) -> None:
    """Concurrent callers for many new blocks get exactly the country's floor."""
    door = make_door()

    answers = at_once([partial(door.ask, number) for number in door.spread(50)])

    assert sum(isinstance(one, OtpRequest) for one in answers) == 5
    assert door.counted("GB") == door.counted("*") == (5, 0, 0)


def test_new_block_gets_one_chance_from_many_at_once(make_door: MakeDoor) -> None:
    """Of concurrent callers for one new block one gets a code."""
    door = make_door()

    answers = at_once([partial(door.ask, f"+4477009002{last:02}") for last in range(30)])

    assert sum(isinstance(one, OtpRequest) for one in answers) == 1
    assert door.counted()[0] == 1


def test_launch_grows(make_door: MakeDoor, provider: Provider) -> None:
    """Verified probes raise the budget, so a launch in a new country is not delayed."""
    door = make_door()
    sent = 0
    for number in door.spread(40):
        request = door.ask(number)
        door.parts.pump.run()
        door.verify(request, provider.code(number))
        sent += 1

    assert door.counted("GB") == (sent, sent, 0)


def test_old_rows_go(make_door: MakeDoor) -> None:
    """Old rows are deleted in batches. The history that the guard needs stays."""
    door = make_door()
    old = clock.now() - timedelta(days=40)
    for hours in range(5):
        door.learn(verified=1, at=old + timedelta(hours=hours))
    door.ask(client_ip="203.0.113.7")
    with pytest.raises(DestinationPaused):
        door.ask("+447700900002")
    ours = [one for one in purging.AGEING if one.table.name.startswith("guard_")]
    kept, now = timedelta(days=30), clock.now()

    with connection(door.parts.engine) as conn:
        deleted = [
            sum(purging.delete_batch(conn, one, retention=kept, now=now, limit=3).rows for one in ours)
            for _ in range(3)
        ]

    assert deleted == [3, 2, 0]
    assert door.counted() == (1, 0, 1)
    assert len(door.decisions()) == 1
