"""Numbers that the current numbering plans no longer allow can still be found and erased."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import insert

from otpqueue import clock
from otpqueue.domain import phone
from otpqueue.domain.errors import InvalidPhoneNumber
from otpqueue.domain.phone import PhoneNumber
from otpqueue.domain.search import SearchFilters
from otpqueue.store import accepting, do_not_send
from otpqueue.store.accepting import NumberLookup
from otpqueue.store.engine import connection, transaction
from otpqueue.store.schema import number_guesses
from otpqueue.wiring import Parts
from tests.operations.looking import new_request

FORMER = "+22961234567"
"""A mobile number of Benin until the end of 2024. The current plan has 01 after the country code."""

TYPED = ["+22961234567", "+229 61 23-45 67", "tel:+229-61234567"]


@pytest.fixture
def request_id(parts: Parts, client_id: UUID) -> UUID:
    """Return a request for the number, accepted under the older plan. It is also blocked and locked."""
    now = clock.now()
    new = new_request(client_id, PhoneNumber(FORMER, "BJ", "mobile"), now=now)
    lookup = NumberLookup(
        client_id=client_id,
        number_hashes=parts.vault.number_hashes(FORMER),
        client_ip_hashes=None,
        guesses=parts.guess_policy,
        now=now,
    )
    accepted = accepting.accept(parts.engine, new, lookup, most_wrong_in_a_row=95, vault=parts.vault)
    assert accepted.accepted

    def block(conn: object) -> None:
        do_not_send.block(conn, FORMER, reason=None, until=None, now=now, vault=parts.vault)  # type: ignore[arg-type]

    transaction(parts.engine, block)
    guesses = {"wrong_in_a_row": 99, "updated_at": now, "number_hash": parts.vault.number_hash(FORMER)}
    with connection(parts.engine) as conn:
        conn.execute(insert(number_guesses).values(client_id=client_id, **guesses))
    return new.id


def test_plan_has_changed() -> None:
    """The number may no longer be sent to."""
    with pytest.raises(InvalidPhoneNumber):
        phone.parse_number(FORMER)


@pytest.mark.parametrize("typed", TYPED)
def test_its_requests_are_found(parts: Parts, client_id: UUID, request_id: UUID, typed: str) -> None:
    """A search by number finds them."""
    page = parts.search(SearchFilters(phone_number=typed), reader=client_id, cursor=None, limit=10)

    assert [one.request.id for one in page.found] == [request_id]
    assert page.found[0].request.phone_number == "+229******67"


@pytest.mark.parametrize("typed", TYPED)
def test_it_is_unlocked(parts: Parts, request_id: UUID, typed: str) -> None:
    """An operator sees its wrong codes and resets them."""
    (before,) = parts.numbers.status(typed, now=clock.now())
    unlocked = parts.numbers.unlock(typed, client=None, now=clock.now())
    (after,) = parts.numbers.status(typed, now=clock.now())

    assert (before.in_a_row, before.locked) == (99, True)
    assert unlocked == ["test"]
    assert (after.in_a_row, after.locked) == (0, False)
    assert request_id


@pytest.mark.parametrize("typed", TYPED)
def test_it_is_unblocked(parts: Parts, request_id: UUID, typed: str) -> None:
    """It can be removed from the do-not-send list, and is shown masked."""
    assert parts.blocklist.unblock(typed) == ("+229******67", True)
    assert parts.blocklist.unblock(typed) == ("+229******67", False)
    assert request_id


@pytest.mark.parametrize("typed", TYPED)
def test_it_is_erased(parts: Parts, request_id: UUID, typed: str) -> None:
    """It can be erased under any numbering plan."""
    counts = parts.erase(typed, country=None, client_id=None, now=clock.now())

    assert counts["requests"] == 1
    assert (
        parts.search(SearchFilters(phone_number=typed), reader=request_id, cursor=None, limit=10).found == ()
    )


@pytest.mark.parametrize("typed", ["", "nonsense", "+229", "+44770090012x"])
def test_what_never_was_a_number_is_refused(parts: Parts, client_id: UUID, typed: str) -> None:
    """An invalid number raises an error instead of an empty result."""
    now = clock.now()
    calls = (
        lambda: parts.search(SearchFilters(phone_number=typed), reader=client_id, cursor=None, limit=10),
        lambda: parts.numbers.status(typed, now=now),
        lambda: parts.numbers.unlock(typed, client=None, now=now),
        lambda: parts.blocklist.unblock(typed),
        lambda: parts.erase(typed, country=None, client_id=None, now=now),
    )
    for call in calls:
        with pytest.raises(InvalidPhoneNumber):
            call()
