"""The pumping guard: counts, reverts and refusals at acceptance, and counts after the claim."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import structlog
from sqlalchemy import RowMapping, insert, text

from otpqueue import clock
from otpqueue.domain import phone
from otpqueue.domain.audit import AuditFilters
from otpqueue.domain.errors import CodeIncorrect, DestinationPaused, InvalidRequest
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


class GuardedService:
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


MakeService = Callable[..., GuardedService]


@pytest.fixture
def make_service(make_parts: MakeParts, parts: Parts, client_id: UUID) -> MakeService:
    """Return a function that creates a guarded service with other settings."""
    return lambda mode="enforce", **differing: GuardedService(
        make_parts(OTPQUEUE_GUARD=mode, **differing), client_id
    )


def test_send_is_counted_and_verified(make_service: MakeService, provider: Provider, rows: Rows) -> None:
    """A probe counts for block, country and total. A right code reverts it, a wrong one does not."""
    service = make_service()
    request = service.ask()
    service.parts.pump.run()

    assert [service.counted(of) for of in (BLOCK, "GB", "*")] == [(1, 0, 0)] * 3
    code = provider.code("+447700900001")
    with pytest.raises(CodeIncorrect):
        service.verify(request, f"{(int(code) + 1) % 1_000_000:06}")
    assert service.counted() == (1, 0, 0)
    assert service.verify(request, code).status is Status.VERIFIED
    assert [service.counted(of) for of in (BLOCK, "GB", "*")] == [(1, 1, 0)] * 3
    assert rows.request(request.id)["guard_block"] is None


def test_second_number_of_a_new_block_is_refused(make_service: MakeService, rows: Rows) -> None:
    """A new block has one probe. The refusal is stored twice: for the alerts, and with its figures."""
    service = make_service()
    service.ask()

    with pytest.raises(DestinationPaused) as refused:
        service.ask("+447700900002")

    assert refused.value.retry_after_s == 3600
    assert [row["reason"] for row in rows.refusals()] == ["pumping_guard"]
    (decision,) = service.decisions()
    assert (decision["reason"], decision["block"], decision["mode"]) == ("chance_used", BLOCK, "enforce")
    assert (decision["tries"], decision["at_risk"], decision["budget"]) == (1, 1, 1)
    assert service.counted() == (1, 0, 1)


def test_block_is_known_once_verified(make_service: MakeService, provider: Provider) -> None:
    """After a right code others of the block are sent to."""
    service = make_service()
    request = service.ask()
    service.parts.pump.run()
    service.verify(request, provider.code("+447700900001"))

    for last in range(2, 5):
        service.ask(f"+44770090000{last}")

    assert service.counted("GB") == (1, 1, 0)


def test_verified_number_goes_on_while_its_block_is_refused(
    make_service: MakeService, provider: Provider
) -> None:
    """A verified number is sent to while other numbers of its block are refused."""
    service = make_service(OTPQUEUE_TUNING_GUARD_BLOCK_FLOOR="1", OTPQUEUE_GUARD_SHARE="0")
    request = service.ask()
    service.parts.pump.run()
    service.verify(request, provider.code("+447700900001"))
    service.ask("+447700900002")

    with pytest.raises(DestinationPaused):
        service.ask("+447700900003")
    assert service.ask("+447700900001").status is Status.QUEUED


def test_asking_again_is_not_refused(make_service: MakeService) -> None:
    """The number's own earlier sends do not count against a repeated request, three times."""
    service = make_service(**NO_LIMITS)
    for _ in range(3):
        service.ask()
        service.parts.pump.run()

    with pytest.raises(DestinationPaused):
        service.ask()


def test_shadow_costs_the_caller_nothing(
    make_service: MakeService, statements: list[str], rows: Rows
) -> None:
    """In shadow mode a request stores its block without a statement. The worker counts its send."""
    cost = {}
    for mode in ("off", "shadow"):
        service = make_service(mode)
        service.ask(service.spread(2)[mode == "off"])
        statements.clear()
        service.ask("+447700900001" if mode == "off" else "+447700900002")
        cost[mode] = len(statements)
    row = rows.requests()[-1]

    assert cost["shadow"] == cost["off"]
    assert (row["guard_block"], row["guard_as"], row["guard_counted"]) == (BLOCK, None, 0)
    assert service.counted() == service.counted("GB") == (0, 0, 0)

    service.parts.pump.run()
    assert service.counted() == (1, 0, 0)


def test_known_block_costs_one_statement_in_enforce_mode(
    make_service: MakeService, statements: list[str]
) -> None:
    """Facts and count of a known block take one round trip, those of a probe two."""
    service = make_service()
    service.learn(verified=10)
    take = service.parts.guard.take

    statements.clear()
    take(service.applicant("+447700900001"))
    assert len(statements) == 1
    statements.clear()
    take(service.applicant(service.spread(1)[0]))

    assert len(statements) == 2


def test_what_is_counted_at_acceptance_is_not_counted_after_the_claim(make_service: MakeService) -> None:
    """A worker in any mode skips what enforce mode has counted."""
    enforce, shadow = make_service(), make_service("shadow")
    enforce.ask()

    shadow.parts.pump.run()

    assert [enforce.counted(of) for of in (BLOCK, "GB", "*")] == [(1, 0, 0)] * 3


def test_worker_counts_what_shadow_mode_accepted(make_service: MakeService) -> None:
    """A worker in enforce mode counts and logs the sends that were accepted in shadow mode."""
    make_service("shadow").ask()
    service = make_service()

    service.parts.pump.run()

    assert service.counted() == (1, 0, 0)


def test_worker_that_is_off_counts_nothing(make_service: MakeService, rows: Rows) -> None:
    """A worker with the guard off never counts what was accepted in shadow mode."""
    make_service("shadow").ask()
    service = make_service("off")
    service.parts.pump.run()
    assert service.counted() == (0, 0, 0)

    service.parts.cancel(rows.requests()[0]["id"], client_id=service.client_id, now=clock.now())

    assert service.counted() == (0, 0, 0)
    assert rows.requests()[0]["guard_block"] is None


def test_test_numbers_are_not_counted(make_service: MakeService, rows: Rows) -> None:
    """Test numbers are not counted in either mode, because nothing is sent to them."""
    until = f"{clock.now() + timedelta(days=9):%Y-%m-%d}"
    fixed = '{"+447700900001": {"code": "571839", "until": "' + until + '"}}'
    for mode in ("shadow", "enforce"):
        service = make_service(mode, OTPQUEUE_TEST_NUMBERS=fixed)
        service.ask()
        service.parts.pump.run()

    assert [row["guard_block"] for row in rows.requests()] == [None, None]
    assert service.counted() == (0, 0, 0)


def test_retries_are_one_send(make_service: MakeService, provider: Provider, rows: Rows) -> None:
    """A send that succeeds at the second attempt is counted once, one that finally fails not at all."""
    service = make_service("shadow")
    provider.fault(status=503, times=1, match={"path": "/2fa/2/pin"})
    request = service.ask()
    service.parts.pump.run()
    assert len(rows.attempts(request.id)) == 2
    assert [service.counted(of) for of in (BLOCK, "GB", "*")] == [(1, 0, 0)] * 3

    provider.fault(status=400, match={"path": "/2fa/2/pin"})
    refused = service.ask("+447700900002")
    service.parts.pump.run()

    assert rows.request(refused.id)["status"] == "failed"
    assert service.counted() == (1, 0, 1)
    assert rows.request(refused.id)["guard_refused"] == 0


def test_shadowed_resend_is_counted(make_service: MakeService, provider: Provider, rows: Rows) -> None:
    """In shadow mode a resend is counted after its claim. A right code settles both sends."""
    service = make_service("shadow")
    request = service.ask()
    service.parts.pump.run()
    rows.change(request.id, resend_after=clock.now())
    service.parts.resend(request.id, client_id=service.client_id, channel=None, now=clock.now())
    assert service.counted() == (1, 0, 0)
    service.parts.pump.run()
    assert [service.counted(of) for of in (BLOCK, "GB", "*")] == [(2, 0, 0)] * 3

    service.verify(request, provider.code("+447700900001"))

    assert [service.counted(of) for of in (BLOCK, "GB", "*")] == [(2, 2, 0)] * 3


def test_guard_never_holds_up_a_send(make_service: MakeService, provider: Provider) -> None:
    """If counting fails, codes are still sent, and the failure is logged."""
    service = make_service("shadow")
    service.ask()
    with connection(service.parts.engine) as conn:
        conn.execute(text("ALTER TABLE guard_tallies RENAME TO away"))
    try:
        with structlog.testing.capture_logs() as logged:
            service.parts.pump.run()
    finally:
        with connection(service.parts.engine) as conn:
            conn.execute(text("ALTER TABLE away RENAME TO guard_tallies"))

    assert len(provider.messages("+447700900001")) == 1
    (crashed,) = [one for one in logged if one["event"] == "guard_crashed"]
    assert (crashed["claims"], crashed["log_level"]) == (1, "error")
    assert service.counted() == (0, 0, 0)


def test_missed_claims_are_counted_with_the_next(make_service: MakeService, provider: Provider) -> None:
    """Sends that could not be counted are counted once the database is available again."""
    service = make_service("shadow", OTPQUEUE_TUNING_GUARD_BLOCK_FLOOR="9")
    guard = service.parts.guard_claims
    away = make_engine("postgresql://unknown@127.0.0.1:1/none", pool_size=1)
    service.learn(verified=1)
    there, guard._engine = guard._engine, away
    with structlog.testing.capture_logs() as logged:
        for last in (1, 2):
            service.ask(f"+44770090000{last}")
            service.parts.pump.run()
    assert [one["claims"] for one in logged if one["event"] == "guard_not_counted"] == [1, 2]
    assert len(provider.messages()) == 2
    assert service.counted() == (0, 0, 0)

    guard._engine = there
    service.ask("+447700900003")
    service.parts.pump.run()

    assert service.counted() == (3, 0, 0)


def test_shadow_refuses_nothing(make_service: MakeService, provider: Provider) -> None:
    """Shadow mode makes the same decisions, sends everything, and counts the people who would be refused."""
    service = make_service("shadow")
    service.ask()
    second = service.ask("+447700900002")
    service.parts.pump.run()
    assert service.counted() == (1, 0, 1)
    assert [(one["mode"], one["reason"]) for one in service.decisions()] == [("shadow", "chance_used")]

    service.verify(second, provider.code("+447700900002"))

    report = service.parts.guard_admin.report(since=clock.now() - timedelta(hours=1), now=clock.now())
    (block,) = report.blocks
    assert (block.sent, block.verified, block.refused, block.refused_verified) == (2, 1, 1, 1)


def test_off_counts_nothing(make_service: MakeService, rows: Rows) -> None:
    """With the guard off nothing is counted or refused."""
    service = make_service("off")
    for last in range(3):
        service.ask(f"+44770090000{last}")

    assert service.counted() == (0, 0, 0)
    assert service.decisions() == []
    assert {row["guard_as"] for row in rows.requests()} == {None}


def test_code_that_never_left_is_given_back(make_service: MakeService, provider: Provider) -> None:
    """A send that the provider refuses, or that is replaced before it is sent, does not count."""
    service = make_service()
    service.ask()
    service.ask()
    assert service.counted() == (1, 0, 0)
    provider.fault(status=400, match={"path": "/2fa/2/pin"})

    service.parts.pump.run()

    assert [service.counted(of) for of in (BLOCK, "GB", "*")] == [(0, 0, 0)] * 3
    provider.clear_faults()
    service.ask("+447700900002")


def test_request_that_is_not_stored_is_given_back(make_service: MakeService, rows: Rows) -> None:
    """If the row cannot be stored the count is reverted."""
    service = make_service()
    with connection(service.parts.engine) as conn:
        conn.execute(text("ALTER TABLE otp_requests ADD CONSTRAINT no_more CHECK (false) NOT VALID"))
    try:
        with pytest.raises(Exception, match="no_more"):
            service.ask()
        service.learn("44740010", verified=1)
        with pytest.raises(Exception, match="no_more"):
            service.ask("+447400100001")
    finally:
        with connection(service.parts.engine) as conn:
            conn.execute(text("ALTER TABLE otp_requests DROP CONSTRAINT no_more"))

    assert [service.counted(of) for of in (BLOCK, "GB", "*", "44740010")] == [(0, 0, 0)] * 4


def test_resends_count_and_are_verified_together(
    make_service: MakeService, provider: Provider, rows: Rows
) -> None:
    """A resend is another send. A right code settles all sends of its request."""
    service = make_service()
    request = service.ask()
    service.parts.pump.run()
    rows.change(request.id, resend_after=clock.now())
    service.parts.resend(request.id, client_id=service.client_id, channel=Channel.SMS, now=clock.now())
    service.parts.pump.run()
    assert [service.counted(of) for of in (BLOCK, "GB", "*")] == [(2, 0, 0)] * 3

    service.verify(request, provider.code("+447700900001"))

    assert [service.counted(of) for of in (BLOCK, "GB", "*")] == [(2, 2, 0)] * 3


def test_resend_is_refused_too(make_service: MakeService, rows: Rows) -> None:
    """A code is not sent again without a budget, and it stays valid."""
    service = make_service(OTPQUEUE_TUNING_GUARD_COUNTRY_FLOOR_HOUR="1")
    request = service.ask()
    service.parts.pump.run()
    rows.change(request.id, resend_after=clock.now())

    with pytest.raises(DestinationPaused):
        service.parts.resend(request.id, client_id=service.client_id, channel=None, now=clock.now())

    row = rows.request(request.id)
    assert (row["status"], row["send_state"], row["sends"]) == ("sent", "idle", 1)


def test_address_of_vain_tries_gets_no_chance(make_service: MakeService) -> None:
    """After two failed new blocks an address is refused a third. Another address is not."""
    service = make_service()
    first, second, third = service.spread(3)
    for number in (first, second):
        service.ask(number, client_ip="203.0.113.7")

    with pytest.raises(DestinationPaused):
        service.ask(third, client_ip="203.0.113.7")

    assert [one["reason"] for one in service.decisions()] == ["address_budget"]


def test_refused_block_waits(make_service: MakeService) -> None:
    """A free send of a budget goes to the block that asks first, not to one that was refused before."""
    service = make_service(OTPQUEUE_TUNING_GUARD_COUNTRY_FLOOR_HOUR="1")
    first, second, third = service.spread(3)
    service.ask(first)
    with pytest.raises(DestinationPaused):
        service.ask(second)
    with connection(service.parts.engine) as conn:
        conn.execute(text("UPDATE guard_tallies SET sent = 0 WHERE subject IN ('GB', '*')"))

    with pytest.raises(DestinationPaused):
        service.ask(second)
    service.ask(third)

    assert {one["reason"] for one in service.decisions()} == {"country_hour", "refused_before"}


def test_exception_of_a_whole_number_is_refused(make_service: MakeService) -> None:
    """A number of ten or eleven digits is not stored as a prefix, nor does the audit trail get one."""
    parts = make_service().parts
    for number in ("+3545551234", "+12025550123"):
        with pytest.raises(InvalidRequest):
            parts.guard_admin.allow(number, lasting=timedelta(hours=1), now=clock.now())
        assert not parts.guard_admin.disallow(number)

    entries = parts.audit.list(AuditFilters(), cursor=None, limit=2).entries
    assert [(one.action, one.target) for one in entries] == [("guard_disallowed", None)] * 2


def test_operator_lets_through(make_service: MakeService) -> None:
    """An exception by an operator applies until it is ended."""
    service = make_service()
    desk = service.parts.guard_admin
    service.ask()
    desk.allow("+4477009", lasting=timedelta(hours=1), now=clock.now())
    service.ask("+447700900002")
    desk.allow("gb", lasting=timedelta(hours=1), now=clock.now())
    assert [one.subject for one in desk.exceptions(now=clock.now())] == ["4477009", "GB"]
    assert desk.disallow("4477009")
    service.ask("+447700900003")
    assert desk.disallow("GB")

    with pytest.raises(DestinationPaused):
        service.ask("+447700900004")


def test_flood_is_one_row_a_minute(make_service: MakeService) -> None:
    """Refusals of one minute and reason are one row with a count."""
    service = make_service()
    service.ask()
    for last in range(2, 12):
        with pytest.raises(DestinationPaused):
            service.ask(f"+4477009000{last:02}")

    found = service.decisions()
    assert sum(one["tries"] for one in found) == 10
    assert len(found) <= 2


@pytest.mark.parametrize("callers", [50])
def test_known_block_is_not_overrun(make_service: MakeService, callers: int) -> None:
    """Concurrent callers for one known block get exactly its budget: 3 + 0.5 * 10 = 8."""
    service = make_service()
    service.learn(verified=10)
    calls = [partial(service.ask, f"+4477009001{last:02}") for last in range(callers)]

    answers = at_once(calls)

    assert sum(isinstance(one, OtpRequest) for one in answers) == 8
    assert sum(isinstance(one, DestinationPaused) for one in answers) == callers - 8
    assert service.counted() == (8, 0, callers - 8)


def test_country_is_not_overrun(make_service: MakeService) -> None:
    """Concurrent callers for many new blocks get exactly the country's floor."""
    service = make_service()

    answers = at_once([partial(service.ask, number) for number in service.spread(50)])

    assert sum(isinstance(one, OtpRequest) for one in answers) == 5
    assert service.counted("GB") == service.counted("*") == (5, 0, 0)


def test_new_block_gets_one_chance_from_many_at_once(make_service: MakeService) -> None:
    """Of concurrent callers for one new block one gets a code."""
    service = make_service()

    answers = at_once([partial(service.ask, f"+4477009002{last:02}") for last in range(30)])

    assert sum(isinstance(one, OtpRequest) for one in answers) == 1
    assert service.counted()[0] == 1


def test_launch_grows(make_service: MakeService, provider: Provider) -> None:
    """Verified probes raise the budget, so a launch in a new country is not delayed."""
    service = make_service()
    sent = 0
    for number in service.spread(40):
        request = service.ask(number)
        service.parts.pump.run()
        service.verify(request, provider.code(number))
        sent += 1

    assert service.counted("GB") == (sent, sent, 0)


def test_old_rows_go(make_service: MakeService) -> None:
    """Old rows are deleted in batches. The history that the guard needs stays."""
    service = make_service()
    old = clock.now() - timedelta(days=40)
    for hours in range(5):
        service.learn(verified=1, at=old + timedelta(hours=hours))
    service.ask(client_ip="203.0.113.7")
    with pytest.raises(DestinationPaused):
        service.ask("+447700900002")
    ours = [one for one in purging.AGEING if one.table.name.startswith("guard_")]
    kept, now = timedelta(days=30), clock.now()

    with connection(service.parts.engine) as conn:
        deleted = [
            sum(purging.delete_batch(conn, one, retention=kept, now=now, limit=3).rows for one in ours)
            for _ in range(3)
        ]

    assert deleted == [3, 2, 0]
    assert service.counted() == (1, 0, 1)
    assert len(service.decisions()) == 1
