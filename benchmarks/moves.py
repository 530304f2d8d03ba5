"""What it costs that Postgres writes every move of a request down.

    python -m benchmarks.moves [--requests 5000] [--slice 250]

One session, an embedded Postgres (durable, as in production), no provider: requests are accepted, sent in
batches of 64, and verified, in slices with the trigger and without it by turns, so that what else the machine
does hits both. Prints microseconds a request, the median of the slices.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine, text
from uuid_utils.compat import uuid7

from otpqueue import clock
from otpqueue.domain.checking import Judgement, Verdict
from otpqueue.domain.phone import PhoneNumber
from otpqueue.domain.request import Channel, Status
from otpqueue.domain.sending import Decision, Outcome, OutcomeKind
from otpqueue.embedded import EngineHome, Postgres
from otpqueue.store import attempts, checks, claims, clients, migrate, requests
from otpqueue.store.attempts import Result
from otpqueue.store.claims import Claim
from otpqueue.store.engine import connection, make_engine, transaction
from otpqueue.store.requests import NewRequest
from otpqueue.store.vault import Vault

BATCH = 64
VAULT = Vault(sealing_keys={"k1": b"s" * 32}, hashing_key=b"h" * 32)
RIGHT = Judgement(verdict=Verdict.CORRECT, code="VERIFIED", http_status=200)


def accept(engine: Engine, client_id: UUID, number: int) -> UUID:
    """Accept one request."""
    now = clock.now()
    new = NewRequest(
        id=uuid7(),
        client_id=client_id,
        phone=PhoneNumber(f"+447400{number:06}", "GB", "mobile"),
        session_id=None,
        client_ip=None,
        client_reference=None,
        channel=Channel.SMS,
        language=None,
        checks_allowed=5,
        created_at=now,
        send_by=now + timedelta(seconds=90),
    )
    transaction(engine, lambda conn: requests.insert_newest(conn, new, vault=VAULT))
    return new.id


def send_all(engine: Engine) -> None:
    """Send what is due."""
    with connection(engine) as conn:
        while taken := claims.claim(
            conn, slots=BATCH, lease_s=30, worker="benchmark", now=clock.now(), vault=VAULT
        ):
            attempts.record(conn, [_taken(claim) for claim in taken])


def _taken(claim: Claim) -> Result:
    now = clock.now()
    return Result(
        request_id=claim.request_id,
        attempt=claim.attempt,
        outcome=Outcome(kind=OutcomeKind.ACCEPTED, code="MESSAGE_SENT", http_status=200, pin_id="P"),
        decision=Decision(status=Status.SENT),
        started_at=now,
        finished_at=now,
        latency_ms=100,
        first=True,
        expires_at=now + timedelta(seconds=300),
    )


def verify(engine: Engine, client_id: UUID, request_id: UUID) -> None:
    """Check one code, which is right."""
    with connection(engine) as conn:
        check = checks.begin(
            conn,
            request_id=request_id,
            client_id=client_id,
            session_hashes=None,
            number_hashes=None,
            client_ip_hash=None,
            lease_s=20,
            now=clock.now(),
        )
        if check is None:
            raise SystemExit("a code that was sent could not be checked")
        checks.record(conn, check, RIGHT, latency_ms=100, now=clock.now())


def run(engine: Engine, *, count: int, size: int) -> None:
    """Measure slices by turns and print their medians."""
    with connection(engine) as conn:
        client_id = clients.ensure_client(conn, "benchmark", now=clock.now())
    found: dict[str, dict[str, list[float]]] = {"with": {}, "without": {}}
    for turn in range(2 * count // size):
        trigger = "with" if turn % 2 else "without"
        with connection(engine) as conn:
            switch = "ENABLE" if trigger == "with" else "DISABLE"
            conn.execute(text(f"ALTER TABLE otp_requests {switch} TRIGGER otp_requests_moves"))
        ids: list[UUID] = []

        def accept_slice(first: int = turn * size, ids: list[UUID] = ids) -> None:
            ids.extend(accept(engine, client_id, number) for number in range(first, first + size))

        def verify_slice(ids: list[UUID] = ids) -> None:
            for one in ids:
                verify(engine, client_id, one)

        measures: dict[str, Callable[[], None]] = {
            "accept": accept_slice,
            "send": lambda: send_all(engine),
            "verify": verify_slice,
        }
        for name, measure in measures.items():
            start = time.perf_counter()
            measure()
            found[trigger].setdefault(name, []).append((time.perf_counter() - start) / size * 1e6)
    print(f"{'us a request':<14}{'without':>10}{'with':>10}")
    for name in ("accept", "send", "verify"):
        medians = [statistics.median(found[trigger][name]) for trigger in ("without", "with")]
        print(f"{name:<14}{medians[0]:>10.0f}{medians[1]:>10.0f}")


def main() -> None:
    """Start Postgres, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000, help="requests with the trigger, and without")
    parser.add_argument("--slice", type=int, default=250, help="requests between two turns")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        EngineHome(Path(folder)) as home,
        Postgres(home.path / "postgres") as postgres,
    ):
        engine = make_engine(postgres.url, pool_size=2)
        migrate.upgrade(engine)
        run(engine, count=given.requests, size=given.slice)
        engine.dispose()


if __name__ == "__main__":
    main()
