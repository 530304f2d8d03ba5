"""Limits on guessing: what they refuse, what they never refuse, and what an operator can reset."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import select, update

from otpqueue import clock
from otpqueue.domain.errors import (
    CodeIncorrect,
    InvalidRequest,
    NumberLocked,
    ProviderUnavailable,
    RequestLocked,
    TooManyWrongCodes,
)
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.store import checks as check_queries
from otpqueue.store.engine import connection
from otpqueue.store.schema import check_counts, checks, number_guesses
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, NUMBER, MakeParts, Provider
from tests.operations.looking import Rows, at_once, numbers

WRONG_UNTIL_LOCKED = 96
"""With the five checks of one more request there could be more than a hundred."""


class GuessedService:
    """A service without rate limits, its clients, and their users."""

    def __init__(self, parts: Parts, provider: Provider) -> None:
        self.parts, self.provider = parts, provider
        self.client_id = self.client("test")

    def client(self, name: str) -> UUID:
        """Return the id of the client with this name."""
        return self.parts.keys.client_id(name, now=clock.now())

    def ask(self, number: str = NUMBER, *, by: UUID | None = None, **wanted: str | None) -> OtpRequest:
        """Request a code."""
        wish = RequestedCode(phone_number=number, **wanted)  # type: ignore[arg-type]
        return self.parts.request(wish, client_id=by or self.client_id, now=clock.now())

    def sent(self, number: str = NUMBER, *, by: UUID | None = None, **wanted: str | None) -> OtpRequest:
        """Request a code and have it sent."""
        request = self.ask(number, by=by, **wanted)
        self.parts.pump.run()
        return request

    def verify(self, request: OtpRequest, code: str, **says: str | None) -> OtpRequest:
        """Verify a code."""
        attempted = TypedCode(code=code, **says)  # type: ignore[arg-type]
        return self.parts.verify(request.id, attempted, client_id=request.client_id, now=clock.now())

    def right(self, number: str = NUMBER) -> str:
        """Return the code that was sent last."""
        return self.provider.code(number)

    def guess(self, request: OtpRequest, times: int = 1, *, number: str = NUMBER, **says: str | None) -> None:
        """Verify with wrong codes."""
        wrong = f"{(int(self.right(number)) + 1) % 1_000_000:06d}"
        for _ in range(times):
            with pytest.raises(CodeIncorrect):
                self.verify(request, wrong, **says)

    def guess_times(self, times: int, number: str = NUMBER, **wanted: str | None) -> None:
        """Verify with this many wrong codes, over several requests if needed."""
        while times > 0:
            self.guess(self.sent(number, **wanted), min(5, times), number=number)
            times -= 5

    def in_a_row(self, client_id: UUID | None = None) -> int:
        """Return the consecutive wrong codes of NUMBER."""
        with connection(self.parts.engine) as conn:
            found = conn.execute(
                select(number_guesses.c.wrong_in_a_row).where(
                    number_guesses.c.client_id == (client_id or self.client_id),
                    number_guesses.c.number_hash == self.parts.vault.number_hash(NUMBER),
                )
            ).scalar_one_or_none()
        return found or 0

    def set_in_a_row(self, count: int) -> None:
        """Set the number's count of consecutive wrong codes, from long ago."""
        with connection(self.parts.engine) as conn:
            conn.execute(update(number_guesses).values(wrong_in_a_row=count))
        self.pass_time(hours=2)

    def pass_time(self, **by: float) -> None:
        """Move all checks into the past by this time."""
        with connection(self.parts.engine) as conn:
            earlier = checks.c.started_at - timedelta(**by)
            conn.execute(update(checks).values(started_at=earlier))

    def forget_an_hour(self) -> None:
        """Move all per-minute counts of checks more than an hour into the past."""
        with connection(self.parts.engine) as conn:
            earlier = check_counts.c.minute - timedelta(minutes=61)
            conn.execute(update(check_counts).values(minute=earlier))


@pytest.fixture
def make_service(make_parts: MakeParts, provider: Provider) -> Callable[..., GuessedService]:
    """Return a function that creates a service with other settings."""

    def make(**differing: str) -> GuessedService:
        # So that the provider's own limit does not apply first.
        parts = make_parts(**NO_LIMITS, OTPQUEUE_TUNING_PROVIDER_VERIFY_LIMIT="1000/1s", **differing)
        parts.provision(parts.transport, now=clock.now())
        return GuessedService(parts, provider)

    return make


@pytest.fixture
def service(make_service: Callable[..., GuessedService]) -> GuessedService:
    """Return a service with the default limits."""
    return make_service()


def refusal(ask: Callable[[], object]) -> TooManyWrongCodes:
    """Return the refusal of a request."""
    with pytest.raises(TooManyWrongCodes) as refused:
        ask()
    return refused.value


def test_ten_wrong_codes_in_an_hour(service: GuessedService, rows: Rows) -> None:
    """After ten wrong codes new requests for a number are refused until the tenth newest is an hour old."""
    service.guess_times(5)
    service.pass_time(minutes=20)
    service.guess_times(5)

    refused = refusal(service.ask)

    assert refused.reason == "wrong_codes_number"
    assert refused.retry_after_s is not None
    assert 2300 < refused.retry_after_s <= 2400
    assert "Codes that were already sent remain valid" in refused.detail
    assert [row["reason"] for row in rows.refusals()] == ["wrong_codes_number"]
    service.pass_time(seconds=refused.retry_after_s)
    service.ask()


def test_asking_again_or_resending_resets_nothing(service: GuessedService, rows: Rows) -> None:
    """Neither a new request, a resend, another session nor a cancellation resets the count."""
    first = service.sent()
    service.guess(first, 2)
    rows.change(first.id, resend_after=clock.now())
    service.parts.resend(first.id, client_id=first.client_id, channel=None, now=clock.now())
    service.parts.pump.run()
    service.guess(first, 2)
    service.parts.cancel(first.id, client_id=first.client_id, now=clock.now())
    service.guess(service.sent(session_id="a"), 4, session_id="a")
    service.guess(service.sent(session_id="b"), 2, session_id="b")

    refusal(partial(service.ask, session_id="c"))
    assert service.in_a_row() == 10


def test_the_code_in_hand_stays_good(service: GuessedService, rows: Rows) -> None:
    """Wrong codes in one session take no checks, resends or right code from another."""
    owners = service.sent(session_id="owner")
    code = service.right()
    for session in ("x", "y"):
        service.guess(service.sent(session_id=session), 5, session_id=session)
    refusal(partial(service.ask, session_id="owner"))

    rows.change(owners.id, resend_after=clock.now())
    resent = service.parts.resend(owners.id, client_id=owners.client_id, channel=None, now=clock.now())
    assert resent.checks_left == 5
    assert service.verify(owners, code, session_id="owner").status is Status.VERIFIED


def test_a_number_is_not_locked_at_other_clients(service: GuessedService) -> None:
    """Wrong codes with one client do not lock the number for another."""
    service.guess_times(10)
    service.set_in_a_row(100)
    with pytest.raises(NumberLocked):
        service.ask()

    other = service.client("other")
    assert service.verify(service.sent(by=other), service.right()).status is Status.VERIFIED


def test_twenty_wrong_codes_from_an_address(service: GuessedService) -> None:
    """An address with many wrong codes is refused.

    Other addresses, and its numbers from elsewhere, are not.
    """
    for number in numbers(5)[1:]:
        service.guess_times(5, number, client_ip="192.0.2.1")

    refused = refusal(partial(service.ask, numbers(1)[0], client_ip="192.0.2.1"))
    assert refused.reason == "wrong_codes_client_ip"
    service.ask(numbers(1)[0], client_ip="192.0.2.2")
    service.ask(numbers(1)[0])
    service.ask(numbers(1)[0], by=service.client("other"), client_ip="192.0.2.1")


def test_the_address_that_types_the_code_counts(service: GuessedService) -> None:
    """If the check has an address, the wrong codes count for that one."""
    for number in numbers(5)[1:]:
        request = service.sent(number, client_ip="192.0.2.1")
        service.guess(request, 5, number=number, client_ip="2001:db8::1")

    service.ask(client_ip="192.0.2.1")
    refusal(partial(service.ask, client_ip="2001:db8::ffff"))


def test_a_hundred_in_a_row_lock(service: GuessedService) -> None:
    """A hundred consecutive wrong codes, over any time, lock a number until it is unlocked."""
    total = 0
    for _ in range(30):
        try:
            request = service.sent()
        except NumberLocked:
            break
        service.guess(request, 5)
        total += 5
        service.pass_time(hours=1)

    assert total == 100
    assert service.in_a_row() == 100
    service.pass_time(days=400)
    with pytest.raises(NumberLocked) as refused:
        service.ask()
    assert (refused.value.reason, refused.value.retry_after_s) == ("number_locked", None)
    assert service.parts.numbers.unlock(NUMBER, client=None, now=clock.now()) == ["test"]
    assert service.verify(service.sent(), service.right()).status is Status.VERIFIED


@pytest.mark.parametrize(("count", "locked"), [(WRONG_UNTIL_LOCKED - 1, False), (WRONG_UNTIL_LOCKED, True)])
def test_no_request_may_bring_more_than_a_hundred(service: GuessedService, count: int, locked: bool) -> None:
    """A request is refused unless all its checks fit under the hundred."""
    service.guess_times(1)
    service.set_in_a_row(count)

    if locked:
        with pytest.raises(NumberLocked):
            service.ask()
    else:
        service.ask()


def test_a_right_code_ends_the_row(service: GuessedService) -> None:
    """An accepted code resets the count. A right code that is not accepted does not."""
    first = service.sent(session_id="a")
    service.guess(first, 4, session_id="a")
    with pytest.raises(CodeIncorrect):
        service.verify(first, service.right(), session_id="another")
    assert service.in_a_row() == 4

    service.verify(first, service.right(), session_id="a")

    assert service.in_a_row() == 0


def test_wrong_sessions_are_no_guesses(service: GuessedService) -> None:
    """Codes that were not sent to the provider never count."""
    request = service.sent(session_id="mine")
    for _ in range(30):
        with pytest.raises(CodeIncorrect):
            service.verify(request, "000000", session_id="yours")

    assert service.in_a_row() == 0
    service.ask(session_id="more")


def test_what_the_provider_did_not_judge_is_no_guess(service: GuessedService, provider: Provider) -> None:
    """A check that was not judged does not count here either."""
    request = service.sent()
    provider.fault(match={"path": "/verify"}, times=2, status=503)
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            service.verify(request, "000000")

    assert service.in_a_row() == 0


def test_a_guess_counts_before_it_is_compared(service: GuessedService, provider: Provider) -> None:
    """A check by a killed process counts as a wrong code."""
    request = service.sent()
    with connection(service.parts.engine) as conn:
        assert check_queries.begin(
            conn,
            request_id=request.id,
            client_id=request.client_id,
            session_hashes=None,
            number_hashes=None,
            client_ip_hash=None,
            lease_s=20,
            now=clock.now(),
            vault=service.parts.vault,
        )

    assert service.in_a_row() == 1


def test_guesses_at_once_are_all_counted(service: GuessedService) -> None:
    """Concurrent wrong codes in many sessions of one number are all counted."""
    sessions = [f"s{number}" for number in range(8)]
    requests = [service.ask(session_id=session) for session in sessions]
    service.parts.pump.run()
    codes = {str(message["pin"]) for message in service.provider.messages(NUMBER)}
    wrong = next(code for code in (f"{n:06d}" for n in range(100)) if code not in codes)

    answers = at_once(
        [
            partial(service.verify, request, wrong, session_id=session)
            for request, session in zip(requests, sessions, strict=True)
            for _ in range(5)
        ]
    )

    guessed = sum(isinstance(one, CodeIncorrect) for one in answers)
    assert service.in_a_row() == guessed > 8
    refusal(partial(service.ask, session_id="one more"))


def test_unlock_forgives_one_client_alone(service: GuessedService) -> None:
    """Unlocking can be limited to one client, resets the last hour too, and returns the clients' names."""
    other = service.client("other")
    service.guess_times(10)
    for _ in range(2):
        service.guess(service.sent(by=other), 5)
    standings = {one.client: one for one in service.parts.numbers.status(NUMBER, now=clock.now())}
    assert {name: one.in_a_row for name, one in standings.items()} == {"other": 10, "test": 10}
    until = standings["test"].refused_until
    assert isinstance(until, datetime)
    assert timedelta(minutes=59) < until - clock.now() <= timedelta(hours=1)

    assert service.parts.numbers.unlock(NUMBER, client="test", now=clock.now()) == ["test"]

    assert service.verify(service.sent(), service.right()).status is Status.VERIFIED
    service.ask()
    refusal(partial(service.ask, by=other))


def test_unlock_after_a_right_code(service: GuessedService) -> None:
    """A right code resets the consecutive count. An operator can reset that of the last hour."""
    for wrong in (4, 4, 2):
        request = service.sent()
        service.guess(request, wrong)
        service.verify(request, service.right())
    with pytest.raises(TooManyWrongCodes):
        service.ask()

    (standing,) = service.parts.numbers.status(NUMBER, now=clock.now())
    assert (standing.client, standing.in_a_row, standing.locked) == ("test", 0, False)
    assert standing.refused_until is not None
    assert service.parts.numbers.unlock(NUMBER, client=None, now=clock.now()) == ["test"]
    service.ask()
    (standing,) = service.parts.numbers.status(NUMBER, now=clock.now())
    assert standing.refused_until is None


def test_unlock_without_wrong_codes(service: GuessedService) -> None:
    """A number without wrong codes cannot be unlocked."""
    with pytest.raises(InvalidRequest, match="not valid"):
        service.parts.numbers.unlock(NUMBER, client=None, now=clock.now())
    assert service.parts.numbers.status(NUMBER, now=clock.now()) == []


def test_rules_that_are_off(make_service: Callable[..., GuessedService]) -> None:
    """The hourly limits can be off. The hundred in a row cannot."""
    service = make_service(OTPQUEUE_WRONG_CODES_NUMBER="off", OTPQUEUE_WRONG_CODES_CLIENT_IP="off")
    service.guess_times(30, client_ip="192.0.2.1")

    service.ask(client_ip="192.0.2.1")
    service.set_in_a_row(100)
    with pytest.raises(NumberLocked):
        service.ask()


def share_of(service: GuessedService, *, wrong: int, right: int) -> None:
    """Verify wrong and right codes for a client, each for another number."""
    for number in numbers(wrong + right)[:wrong]:
        service.guess(service.sent(number), 1, number=number)
    for number in numbers(wrong + right)[wrong:]:
        service.verify(service.sent(number), service.right(number))


@pytest.mark.parametrize(("wrong", "right", "refuses"), [(4, 4, False), (5, 3, True), (5, 2, False)])
def test_share_of_wrong_codes(
    make_service: Callable[..., GuessedService], wrong: int, right: int, refuses: bool
) -> None:
    """A client above the configured share is refused, once it has the minimum sample."""
    service = make_service(OTPQUEUE_WRONG_SHARE_REFUSES="true", OTPQUEUE_TUNING_WRONG_SHARE_MIN_CHECKS="8")
    share_of(service, wrong=wrong, right=right)

    if not refuses:
        service.ask()
        return
    assert refusal(service.ask).reason == "wrong_codes_share"
    service.ask(by=service.client("other"))
    service.forget_an_hour()
    service.ask()


def test_share_refuses_only_if_set(make_service: Callable[..., GuessedService]) -> None:
    """By default the share is only counted."""
    service = make_service(OTPQUEUE_TUNING_WRONG_SHARE_MIN_CHECKS="1")
    share_of(service, wrong=5, right=0)

    service.ask()


def test_locked_request_and_locked_number_are_two_things(service: GuessedService) -> None:
    """A request without checks left has ended, but its number is not locked."""
    request = service.sent()
    service.guess(request, 5)

    with pytest.raises(RequestLocked):
        service.verify(request, service.right())
    assert service.verify(service.sent(), service.right()).status is Status.VERIFIED
