"""An empty database for each test, and rows to start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, RowMapping, select, update

from otpqueue.domain import phone
from otpqueue.domain.caps import Caps
from otpqueue.domain.checking import CheckVerdict, Judgement
from otpqueue.domain.guard import CountedSend
from otpqueue.domain.limits import GuessPolicy, WrongShare
from otpqueue.domain.request import Channel, OtpRequest, Status
from otpqueue.domain.sending import Outcome, OutcomeKind, SendDecision
from otpqueue.store import attempts, checks, claims, clients, requests
from otpqueue.store.accepting import AcceptResult, NewRequest, NumberLookup, accept
from otpqueue.store.attempts import AttemptResult, ExpiredLease
from otpqueue.store.checks import OpenCheck
from otpqueue.store.claims import Claim
from otpqueue.store.engine import connection, make_engine
from otpqueue.store.schema import checks as check_rows
from otpqueue.store.schema import otp_requests, send_attempts
from otpqueue.store.vault import Vault
from tests.conftest import TEMPLATE, Engines
from tests.emptying import empty_tables

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NUMBER = "+447700900123"

NO_GUESSES = GuessPolicy(
    number=None,
    client_ip=None,
    in_a_row=100,
    max_checks=5,
    share=WrongShare(ceiling=1, window_s=60, min_checks=1),
)
"""A policy without windows for wrong codes."""

RUN_OUT_S = 0.0
"""A lease that has expired when it is taken."""


def later(seconds: float) -> datetime:
    """Return the time that many seconds after NOW."""
    return NOW + timedelta(seconds=seconds)


def accepted(pin_id: str = "pin-1") -> Outcome:
    """Return the outcome of an accepted send."""
    return Outcome(kind=OutcomeKind.ACCEPTED, code="MESSAGE_SENT", http_status=200, pin_id=pin_id)


REFUSED = Outcome(kind=OutcomeKind.REFUSED, code="SERVICE_UNAVAILABLE", http_status=503, retryable=True)
SENT = SendDecision(status=Status.SENT)


def again(after_s: float = 0) -> SendDecision:
    """Return a decision to retry."""
    return SendDecision(status=Status.QUEUED, next_attempt_at=later(after_s))


@pytest.fixture(scope="session")
def store_url(engines: Engines) -> Iterator[str]:
    """Yield the database that these tests share."""
    yield engines.postgres.create_database("store", template=TEMPLATE)
    engines.postgres.drop_database("store")


@pytest.fixture(scope="session")
def shared_engine(store_url: str) -> Iterator[Engine]:
    """Yield connections to it."""
    engine = make_engine(store_url, pool_size=12)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(shared_engine: Engine) -> Engine:
    """Return connections to a database with empty tables."""
    with connection(shared_engine) as conn:
        empty_tables(conn)
    return shared_engine


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in autocommit."""
    with connection(engine) as conn:
        yield conn


@pytest.fixture
def vault() -> Vault:
    """Return a vault."""
    return Vault(sealing_keys={"k1": b"s" * 32}, hashing_key=b"h" * 32)


@pytest.fixture
def client_id(conn: Connection) -> UUID:
    """Return a client."""
    return clients.ensure_client(conn, "shop", now=NOW)


@dataclass(frozen=True)
class Store:
    """The store under test, with shortcuts for the steps before the test's own."""

    engine: Engine
    conn: Connection
    vault: Vault
    client_id: UUID

    def new(self, number: str = NUMBER, **fields: Any) -> NewRequest:
        """Return a request to store, with `fields` replaced."""
        values: dict[str, Any] = {
            "id": uuid4(),
            "client_id": self.client_id,
            "phone": phone.parse_number(number, allow_documentation=True),
            "session_id": None,
            "client_ip": None,
            "client_reference": None,
            "channel": Channel.SMS,
            "language": None,
            "checks_allowed": 5,
            "created_at": NOW,
            "send_by": later(90),
        }
        return NewRequest(**(values | fields))

    def insert(self, number: str = NUMBER, **fields: Any) -> OtpRequest:
        """Store a request that is due."""
        guard: CountedSend | None = fields.pop("guard", None)
        new = self.new(number, guard_block=guard.block if guard else None, **fields)
        assert self.accept(new).accepted
        if guard and guard.counted_as:
            # As if it had been counted at acceptance.
            values = {
                "guard_as": guard.counted_as.value,
                "guard_counted": 1,
                f"guard_{guard.counted_as.value}": 1,
            }
            self.conn.execute(update(otp_requests).where(otp_requests.c.id == new.id).values(values))
        return new.as_accepted()

    def accept(self, new: NewRequest, *, vault: Vault | None = None, **more: Any) -> AcceptResult:
        """Accept a request of a number without wrong codes."""
        vault = vault or self.vault
        lookup = NumberLookup(
            client_id=new.client_id,
            number_hashes=vault.number_hashes(new.phone.e164),
            client_ip_hashes=vault.address_hashes(new.client_ip),
            guesses=NO_GUESSES,
            now=new.created_at,
        )
        return accept(self.engine, new, lookup, most_wrong_in_a_row=95, vault=vault, **more)

    def insert_many(self, count: int, **fields: Any) -> list[OtpRequest]:
        """Store requests for as many numbers, each created a second after the one before."""
        return [
            self.insert(f"+447700900{i:03}", **({"created_at": later(i - count)} | fields))
            for i in range(count)
        ]

    def claim(
        self,
        slots: int = 100,
        *,
        lease_s: float = 30,
        now: datetime = NOW,
        conn: Connection | None = None,
        caps: Caps | None = None,
    ) -> list[Claim]:
        """Claim what is due."""
        return claims.claim(
            conn or self.conn,
            slots=slots,
            lease_s=lease_s,
            worker="w",
            now=now,
            vault=self.vault,
            caps=caps,
        )

    def record(
        self,
        claim: Claim | ExpiredLease,
        outcome: Outcome,
        decision: SendDecision,
        *,
        now: datetime = NOW,
        expires_at: datetime | None = None,
    ) -> bool:
        """Record the outcome of a claim; return whether its request moved."""
        result = a_result(claim, outcome, decision, now=now, expires_at=expires_at)
        return attempts.record(self.conn, [result]) == {(claim.request_id, claim.attempt)}

    def insert_sent(self, number: str = NUMBER, *, pin_id: str = "pin-1", **fields: Any) -> OtpRequest:
        """Store a request and send its code, good for 300 s."""
        request = self.insert(number, **fields)
        (claim,) = self.claim()
        assert self.record(claim, accepted(pin_id), SENT, expires_at=later(300))
        return self.find(request.id)

    def find(self, request_id: UUID) -> OtpRequest:
        """Return a request as the caller sees it."""
        found = requests.find(self.conn, request_id, client_id=self.client_id, vault=self.vault)
        assert found
        return found

    def row(self, request_id: UUID) -> RowMapping:
        """Return a request's row."""
        return self.conn.execute(select(otp_requests).where(otp_requests.c.id == request_id)).mappings().one()

    def change(self, request_id: UUID, **columns: Any) -> None:
        """Set columns of a request's row directly."""
        self.conn.execute(update(otp_requests).where(otp_requests.c.id == request_id).values(columns))

    def attempts(self, request_id: UUID) -> list[RowMapping]:
        """Return a request's attempts, first to last."""
        rows = select(send_attempts).where(send_attempts.c.request_id == request_id)
        return list(self.conn.execute(rows.order_by(send_attempts.c.number)).mappings())

    def checks(self, request_id: UUID) -> list[RowMapping]:
        """Return a request's checks, first to last."""
        rows = select(check_rows).where(check_rows.c.request_id == request_id)
        return list(self.conn.execute(rows.order_by(check_rows.c.number)).mappings())

    def begin(self, request: OtpRequest, *, now: datetime = NOW, **differing: Any) -> OpenCheck | None:
        """Begin a check."""
        values: dict[str, Any] = {
            "request_id": request.id,
            "client_id": self.client_id,
            "session_hashes": None,
            "number_hashes": None,
            "client_ip_hash": None,
            "lease_s": 20,
        }
        begun = checks.begin(self.engine, now=now, vault=self.vault, **(values | differing))
        return begun if isinstance(begun, OpenCheck) else None

    def judge(self, check: OpenCheck, verdict: CheckVerdict, *, now: datetime = NOW) -> Status | None:
        """Record a judgement."""
        judgement = Judgement(verdict=verdict, code=verdict.upper(), http_status=200)
        recorded = checks.record(self.engine, check, judgement, latency_ms=12, now=now, vault=self.vault)
        return recorded.moved_to if recorded else None

    def check(self, request: OtpRequest, verdict: CheckVerdict) -> Status | None:
        """Check a code from beginning to end."""
        check = self.begin(request)
        assert check
        return self.judge(check, verdict)


def a_result(
    claim: Claim | ExpiredLease,
    outcome: Outcome,
    decision: SendDecision,
    *,
    now: datetime = NOW,
    expires_at: datetime | None = None,
) -> AttemptResult:
    """Return the result of a claim."""
    return AttemptResult(
        request_id=claim.request_id,
        attempt=claim.attempt,
        outcome=outcome,
        decision=decision,
        started_at=NOW,
        finished_at=now,
        latency_ms=34,
        first=claim.progress.first,
        expires_at=expires_at or (later(300) if outcome.kind is OutcomeKind.ACCEPTED else None),
    )


@pytest.fixture
def store(engine: Engine, conn: Connection, vault: Vault, client_id: UUID) -> Store:
    """Return the store."""
    return Store(engine, conn, vault, client_id)


MakeEngine = Callable[..., Engine]


@pytest.fixture
def other_engine() -> Iterator[MakeEngine]:
    """Yield a function that makes engines, which are disposed at the end."""
    made: list[Engine] = []

    def make(url: str, *, pool_size: int = 2, **others: Any) -> Engine:
        made.append(make_engine(url, pool_size=pool_size, **others))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()
