"""The admission rules and the SQL that stores a request agree for any state of a number."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, text

from otpqueue import clock
from otpqueue.domain.admission import AdmissionFacts, AdmissionRules, StoredFacts
from otpqueue.domain.caps import Caps, CapScope
from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import LimitExceeded
from otpqueue.domain.limits import GuessPolicy, Quota, WrongShare
from otpqueue.domain.number_policy import NumberPolicy
from otpqueue.domain.phone import PhoneNumber
from otpqueue.store.accepting import NumberLookup, accept, read_facts
from otpqueue.store.engine import connection
from otpqueue.store.schema import checks, do_not_send, number_guesses, otp_requests
from otpqueue.wiring import Parts
from tests.operations.looking import new_request

NUMBER = PhoneNumber("+447700900123", "GB", "documentation")
ADDRESS = "192.0.2.1"
CLIENT = uuid4()


def rules(guesses: GuessPolicy, **differing: object) -> AdmissionRules:
    """Return rules that only refuse for wrong codes, with `differing` changed."""
    values = {"numbers": NumberPolicy(), "guesses": guesses, "share_refuses": False, "caps": Caps()}
    return AdmissionRules(**(values | differing))  # type: ignore[arg-type]


def policy(number: Quota | None, client_ip: Quota | None, in_a_row: int) -> GuessPolicy:
    """Return a policy for wrong codes."""
    share = WrongShare(ceiling=0.5, window_s=3600, min_checks=1)
    return GuessPolicy(number=number, client_ip=client_ip, in_a_row=in_a_row, max_checks=5, share=share)


NO_WINDOWS = policy(None, None, 100)


def facts(now: datetime, **differing: object) -> AdmissionFacts:
    """Return facts that no rule refuses, with `differing` changed."""
    values: dict[str, object] = {
        "now": now,
        "client_id": CLIENT,
        "settings": ClientSettings(),
        "number": NUMBER,
        "language": None,
        "is_test": False,
        "is_resend": False,
        "stopped": False,
        "taken": {},
    }
    return AdmissionFacts(**(values | differing))  # type: ignore[arg-type]


quotas = st.one_of(st.none(), st.builds(Quota, st.integers(1, 4), st.sampled_from([60, 3600])))


@dataclass(frozen=True)
class Case:
    """The state of a number in Postgres, and the policy."""

    number: Quota | None
    client_ip: Quota | None
    in_a_row: int
    counted: int
    wrong: list[tuple[int, bool, bool]]
    """Wrong codes: how many seconds ago, whether for the number, whether from the address."""
    unlocked_ago: int | None
    blocked_for: int | None
    with_address: bool
    is_test: bool


CASES = st.builds(
    Case,
    number=quotas,
    client_ip=quotas,
    in_a_row=st.integers(15, 30),
    counted=st.integers(0, 30),
    wrong=st.lists(st.tuples(st.integers(0, 5000), st.booleans(), st.booleans()), max_size=8),
    unlocked_ago=st.one_of(st.none(), st.integers(0, 5000)),
    blocked_for=st.one_of(st.none(), st.integers(-100, 100)),
    with_address=st.booleans(),
    is_test=st.booleans(),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=CASES)
def test_sql_stores_exactly_what_the_rules_do_not_refuse(parts: Parts, client_id: UUID, case: Case) -> None:
    """With random wrong codes, locks and blocks a request is stored if and only if no rule refuses it."""
    now, vault = clock.now(), parts.vault
    hashes, address = vault.number_hashes(NUMBER.e164), vault.address_hashes(ADDRESS)
    assert address
    with connection(parts.engine) as conn:
        conn.execute(text("DELETE FROM do_not_send"))
        conn.execute(text("DELETE FROM number_guesses"))
        conn.execute(text("DELETE FROM otp_requests"))
        if case.blocked_for is not None:
            key_id, sealed = vault.seal(NUMBER.e164, row_id=(row := uuid4()))
            until = now + timedelta(seconds=case.blocked_for)
            values = {"id": row, "number_sealed": sealed, "seal_key_id": key_id, "number_hash": hashes[0]}
            conn.execute(insert(do_not_send).values(**values, until=until, created_at=now))
        unlocked = None if case.unlocked_ago is None else now - timedelta(seconds=case.unlocked_ago)
        conn.execute(
            insert(number_guesses).values(
                client_id=client_id,
                number_hash=hashes[0],
                wrong_in_a_row=case.counted,
                unlocked_at=unlocked,
                updated_at=now,
            )
        )
    for age_s, of_number, from_address in case.wrong:
        _wrong_code(parts, client_id, now - timedelta(seconds=age_s), of_number, from_address)
    guesses = policy(case.number, case.client_ip, case.in_a_row)
    lookup = NumberLookup(
        client_id=client_id,
        number_hashes=hashes,
        client_ip_hashes=address if case.with_address else None,
        guesses=guesses,
        now=now,
    )
    new = new_request(client_id, NUMBER, now=now, is_test=case.is_test)
    judge = rules(guesses)

    before = read_facts(parts.engine, lookup)
    result = accept(parts.engine, new, lookup, most_wrong_in_a_row=judge.most_wrong_in_a_row, vault=vault)

    assert result.facts == before
    refusal = judge.find_refusal(facts(now, stored=result.facts, is_test=case.is_test))
    assert result.accepted == (refusal is None), (result.facts, refusal)


def _wrong_code(parts: Parts, client_id: UUID, at: datetime, of_number: bool, from_address: bool) -> None:
    request_id, vault = uuid4(), parts.vault
    e164 = NUMBER.e164 if of_number else "+447700900999"
    address_hash = vault.address_hash(ADDRESS if from_address else "198.51.100.7")
    with connection(parts.engine) as conn:
        conn.execute(
            insert(otp_requests).values(
                id=request_id,
                client_id=client_id,
                number_sealed=b"",
                seal_key_id="k1",
                number_hash=vault.number_hash(e164),
                channel="sms",
                status="expired",
                send_state="idle",
                checks_allowed=5,
                created_at=at,
                updated_at=at,
                send_by=at,
                finished_at=at,
            )
        )
        conn.execute(
            insert(checks).values(
                request_id=request_id,
                number=1,
                started_at=at,
                verdict="wrong",
                client_ip_hash=address_hash,
            )
        )


LIMIT = LimitExceeded("number_15m", "Too often.", retry_after_s=1)
REFUSING: dict[str, dict[str, object]] = {
    "sending_stopped": {"stopped": True},
    "country_not_allowed": {"settings": ClientSettings(countries_blocked=("GB",))},
    "invalid_request": {"language": "fr", "settings": ClientSettings(languages=("de",))},
    "number_not_allowed": {"stored": StoredFacts(blocked=True)},
    "number_locked": {"stored": StoredFacts(wrong_in_a_row=96)},
    "too_many_wrong_codes": {"judged": (10, 9)},
    "daily_cap_reached": {"taken": {(CapScope.ALL, ""): 5}},
    "limit_exceeded": {"limit": LIMIT},
}


def test_rules_refuse_in_order() -> None:
    """Each rule takes precedence over those after it. Without any, the request is accepted."""
    judge = rules(NO_WINDOWS, caps=Caps(overall=5), share_refuses=True)
    codes = list(REFUSING)

    for nth, code in enumerate(codes):
        refusal = judge.find_refusal(facts(clock.now(), **joined(codes[nth:])))
        assert refusal is not None
        assert refusal.code == code
    assert judge.find_refusal(facts(clock.now())) is None


def joined(codes: list[str]) -> dict[str, object]:
    """Return facts that the rules with these codes refuse."""
    every: dict[str, object] = {}
    for code in codes:
        every |= REFUSING[code]
    # Two rules each read these.
    every["settings"] = ClientSettings(
        countries_blocked=("GB",) if "country_not_allowed" in codes else None,
        languages=("de",) if "invalid_request" in codes else None,
    )
    every["stored"] = StoredFacts(
        blocked="number_not_allowed" in codes, wrong_in_a_row=96 if "number_locked" in codes else 0
    )
    return every


@pytest.mark.parametrize("name", REFUSING)
def test_test_numbers_are_refused_by_the_stop_alone(name: str) -> None:
    """Only a stop applies to a test number, because nothing is sent to it."""
    judge = rules(NO_WINDOWS, caps=Caps(overall=5), share_refuses=True)

    refusal = judge.find_refusal(facts(clock.now(), is_test=True, **REFUSING[name]))

    assert (refusal is not None) == (name == "sending_stopped")
