"""PgBouncer in transaction mode with two shared sessions: no code may rely on a session."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import structlog
import trustme
from sqlalchemy import Connection, Engine, text

from otpqueue import clock
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.receipts import DeliveryState, Receipt
from otpqueue.domain.request import OtpRequest, Resend, Status
from otpqueue.embedded import EngineHome
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.store import migrate
from otpqueue.store.engine import connection, run, transaction
from otpqueue.wiring import Parts
from tests.conftest import Engines, MakeParts, Provider
from tests.operations.looking import Rows, until
from tests.store.conftest import MakeEngine
from tests.store.pgbouncer import PgBouncer, program

LIVES = 12
THREADS = 6
MakeBouncer = Callable[..., PgBouncer]


@pytest.fixture
def make_bouncer(engines: Engines, tmp_path: Path) -> Iterator[MakeBouncer]:
    """Yield a function that starts a PgBouncer in front of the run's Postgres."""
    found = program()
    if found is None:
        pytest.skip(
            "PGBOUNCER IS NOT HERE: that the store works behind it was NOT TESTED (apt-get install it)"
        )
    made: list[PgBouncer] = []
    with EngineHome(tmp_path / "engines") as home:

        def make(**settings: object) -> PgBouncer:
            made.append(PgBouncer(found, home, postgres_url=engines.postgres.url, **settings))
            made[-1].start()
            return made[-1]

        yield make
        for each in made:
            each.stop()


@pytest.fixture
def empty_database(engines: Engines, other_engine: MakeEngine) -> Iterator[str]:
    """Yield the name of a database without tables, in an unusual time zone."""
    name = f"test_{uuid4().hex}"
    direct = other_engine(engines.postgres.create_database(name))
    with connection(direct) as conn:
        conn.execute(text(f"ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu'"))
        conn.execute(text(f"ALTER DATABASE {name} SET statement_timeout = '5s'"))
    direct.dispose()
    yield name
    engines.postgres.drop_database(name)


class Lives:
    """Complete histories of requests, from many threads."""

    def __init__(self, parts: Parts, provider: Provider) -> None:
        self.parts, self.provider, self.rows = parts, provider, Rows(parts.engine)
        self.client_id = parts.keys.client_id("shop", now=clock.now())

    def ask(self, number: str) -> OtpRequest:
        """Request a code."""
        return self.parts.request(
            RequestedCode(phone_number=number), client_id=self.client_id, now=clock.now()
        )

    def read(self, request_id: UUID) -> OtpRequest:
        """Return a request."""
        return self.parts.status(request_id, client_id=self.client_id)

    def sent(self, number: str) -> UUID:
        """Request a code and wait until the pump, in a thread of its own, has sent it."""
        request_id = self.ask(number).id
        until(lambda: self.read(request_id).status is Status.SENT)
        return request_id

    def verified(self, number: str) -> UUID:
        """Live through all that may happen to a code before it is the right one."""
        request_id = self.sent(number)
        self.rows.change(request_id, resend_after=clock.now())
        self.parts.resend(request_id, client_id=self.client_id, channel=None, now=clock.now())
        until(lambda: self.read(request_id).resend is Resend.SENT)
        self.parts.receipts([self._report(request_id)], now=clock.now())
        assert self.read(request_id).status is Status.DELIVERED
        attempted = TypedCode(code=self.provider.code(number))
        self.parts.verify(request_id, attempted, client_id=self.client_id, now=clock.now())
        return request_id

    def replaced_and_cancelled(self, number: str) -> tuple[UUID, UUID]:
        """Ask twice for one number, and cancel the second."""
        first, second = self.ask(number).id, self.ask(number).id
        self.parts.cancel(second, client_id=self.client_id, now=clock.now())
        return first, second

    def _report(self, request_id: UUID) -> Receipt:
        return Receipt(
            message_id=self.rows.attempts(request_id)[-1]["external_message_id"],
            delivery=DeliveryState.DELIVERED,
            status="DELIVERED_TO_HANDSET",
            error=None,
            done_at=clock.now(),
            price=Decimal("0.01"),
            currency="EUR",
        )


def test_whole_lives_over_two_sessions(
    make_bouncer: MakeBouncer,
    make_parts: MakeParts,
    other_engine: MakeEngine,
    engines: Engines,
    empty_database: str,
    provider: Provider,
) -> None:
    """From no tables to the last request's end, from many threads, and nothing fails or is tried again."""
    bouncer = make_bouncer()
    parts = make_parts(DATABASE_URL=bouncer.url(empty_database), OTPQUEUE_DATABASE_PGBOUNCER="true")
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            parts.pump.run()
            parts.sweep(now=clock.now())
            parts.expire(now=clock.now())

    with structlog.testing.capture_logs() as logs, ThreadPoolExecutor(THREADS + 2) as threads:
        for done in [threads.submit(migrate.upgrade, parts.engine) for _ in range(3)]:
            done.result(60)
        parts.provision(parts.transport, now=clock.now())
        lives = Lives(parts, provider)
        workers = [threads.submit(work) for _ in range(2)]
        try:
            verified = [threads.submit(lives.verified, f"+4477009001{i:02}") for i in range(LIVES)]
            ended = [threads.submit(lives.replaced_and_cancelled, f"+4477009002{i:02}") for i in range(LIVES)]
            left = [threads.submit(lives.sent, f"+4477009003{i:02}") for i in range(LIVES)]
            done = [future.result(90) for future in (*verified, *left)]
            pairs = [future.result(90) for future in ended]
        finally:
            over.set()
        for worker in workers:
            worker.result(60)
        health = parts.health(now=clock.now())
        parts.expire(now=clock.now() + timedelta(minutes=6))

    statuses = [lives.read(request_id).status for request_id in done]
    assert statuses == [Status.VERIFIED] * LIVES + [Status.EXPIRED] * LIVES
    assert [lives.read(one).reason for pair in pairs for one in pair] == [
        "replaced",
        "cancelled_by_client",
    ] * LIVES
    assert health.serves
    assert health.infobip
    assert [one["event"] for one in logs if one["log_level"] in {"warning", "error"}] == []
    assert {lives.read(one).created_at.utcoffset() for one in done} == {timedelta(0)}
    with connection(other_engine(engines.postgres.url)) as conn:
        count = text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name")
        assert conn.execute(count, {"name": empty_database}).scalar_one() <= 2


def test_without_the_setting_pgbouncer_refuses_us(
    make_bouncer: MakeBouncer, other_engine: MakeEngine
) -> None:
    """What the setting leaves out is what PgBouncer does not take."""
    url = make_bouncer().url("postgres")

    with pytest.raises(DatabaseUnavailable):
        run(other_engine(url), lambda conn: conn.execute(text("SELECT 1")))

    assert run(other_engine(url, pgbouncer=True), _one) == 1


def test_alembics_own_command(
    make_bouncer: MakeBouncer, other_engine: MakeEngine, empty_database: str, project: Path
) -> None:
    """A migration may be run with `alembic` through PgBouncer, too."""
    url = make_bouncer().url(empty_database)
    env = {**os.environ, "DATABASE_URL": url, "OTPQUEUE_DATABASE_PGBOUNCER": "true"}

    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    count = text("SELECT count(*) FROM otp_requests")
    assert run(other_engine(url, pgbouncer=True), lambda conn: conn.execute(count).scalar_one()) == 0


def test_restart_of_pgbouncer_costs_no_call_that_comes_after_it(
    make_bouncer: MakeBouncer, other_engine: MakeEngine
) -> None:
    """Its clients' connections are dead then, and replaced before anything is sent on them."""
    bouncer = make_bouncer()
    engine = other_engine(bouncer.url("postgres"), pool_size=4, pgbouncer=True)
    meet = threading.Barrier(4)

    def fill(_: int) -> int:
        with connection(engine) as conn:
            meet.wait(10)
            return _one(conn)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(fill, range(4))) == [1] * 4
        bouncer.stop()
        bouncer.start()
        assert list(threads.map(fill, range(4))) == [1] * 4
        bouncer.stop()
        with pytest.raises(DatabaseUnavailable):
            run(engine, _one)
        bouncer.start()
        assert list(threads.map(fill, range(4))) == [1] * 4


def test_certificate_of_the_database_is_verified(
    make_bouncer: MakeBouncer, other_engine: MakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/deployment.md describes for a managed Postgres: its certificate must be of a known authority.

    PgBouncer stands in for it, because the Postgres of the tests has no TLS.
    """
    authority, other = trustme.CA(), trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    for name, ca in (("known", authority), ("other", other)):
        ca.cert_pem.write_to_path(str(tmp_path / name))
    url = make_bouncer(
        files={
            "server.crt": server.cert_chain_pems[0].bytes(),
            "server.key": server.private_key_pem.bytes(),
        },
        client_tls_sslmode="require",
        client_tls_cert_file="server.crt",
        client_tls_key_file="server.key",
    ).url("postgres")

    verified = f"{url}?sslmode=verify-full&sslrootcert={tmp_path}"
    assert run(other_engine(f"{verified}/known", pgbouncer=True), _one) == 1
    for refused in (f"{verified}/other", f"{url}?sslmode=disable"):
        with pytest.raises(DatabaseUnavailable):
            run(other_engine(refused, pgbouncer=True), _one)
    # psycopg's wheel does not find the authorities of the system without help.
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "known"))
    system = f"{url}?sslmode=verify-full&sslrootcert=system"
    assert run(other_engine(system, pgbouncer=True), _one) == 1


def test_wait_for_a_session_is_bounded(make_bouncer: MakeBouncer, other_engine: MakeEngine) -> None:
    """`query_wait_timeout` is an outage for a caller, and passes when the sessions are free."""
    url = make_bouncer(query_wait_timeout=1).url("postgres")
    engine = other_engine(url, pool_size=3, pgbouncer=True)

    def hold_one(_: Connection) -> None:
        transaction(engine, hold_another)

    def hold_another(conn: Connection) -> None:
        _one(conn)
        with pytest.raises(DatabaseUnavailable):
            run(engine, _one)

    def first(conn: Connection) -> None:
        _one(conn)
        hold_one(conn)

    run(engine, _one)
    transaction(engine, first)

    assert run(engine, _one) == 1


def test_full_pgbouncer_is_unavailable(make_bouncer: MakeBouncer, other_engine: MakeEngine) -> None:
    """`no more connections allowed` is an outage for a caller."""
    url = make_bouncer(max_client_conn=1).url("postgres")
    one, other = (other_engine(url, pool_size=1, pgbouncer=True) for _ in range(2))
    assert run(one, _one) == 1

    with pytest.raises(DatabaseUnavailable):
        run(other, _one)
    one.dispose()

    until(lambda: _answers(other))


def _one(conn: Connection) -> int:
    found: int = conn.execute(text("SELECT 1")).scalar_one()
    return found


def _answers(engine: Engine) -> bool:
    try:
        return run(engine, _one) == 1
    except DatabaseUnavailable:
        return False
