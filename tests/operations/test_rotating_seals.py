"""Rotation of seal keys: beside the traffic, in batches, and no key is removable while it is needed."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import text

from otpqueue import clock
from otpqueue.domain.request import Status
from otpqueue.operations.privacy.rotate_seal import refusal_to_start
from otpqueue.operations.verify import TypedCode
from otpqueue.store.engine import connection
from otpqueue.store.privacy.resealing import build_key_query
from otpqueue.store.schema import otp_requests
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, Ask, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, numbers

K1 = "k1:" + base64.b64encode(b"s" * 32).decode()
K2 = "k2:" + base64.b64encode(b"t" * 32).decode()
IMPOSTOR = "k1:" + base64.b64encode(b"u" * 32).decode()


def silent(_key: str, _done: int, _of: int) -> None:
    """Ignore progress."""


@pytest.fixture
def rotated(parts: Parts, make_parts: MakeParts) -> Parts:
    """Return parts that seal with a new key and open what the old one sealed."""
    return make_parts(OTPQUEUE_SEAL_KEYS=f"{K2},{K1}")


def test_numbers_are_sealed_again_in_steps(ask: Ask, rotated: Parts, rows: Rows) -> None:
    """Every row is sealed with the primary key and otherwise unchanged, and the old key is removable."""
    for number in numbers(25):
        ask(number)
    before = rows.requests()
    steps: list[tuple[str, int, int]] = []

    sealed = rotated.rotate_seal(progress=lambda *step: steps.append(step), batch=10)
    again = rotated.rotate_seal(progress=lambda *step: steps.append(step), batch=10)

    assert steps == [("k1", 10, 25), ("k1", 20, 25), ("k1", 25, 25)]
    assert (sealed.counts, sealed.unopened, sealed.removable) == ({"k2": 25}, {}, ("k1",))
    assert again == sealed
    changed = {"number_sealed", "seal_key_id"}
    for old, new in zip(before, rows.requests(), strict=True):
        assert {name for name in old if old[name] != new[name]} == changed
        number = rotated.vault.unseal(new["number_sealed"], key_id="k2", row_id=new["id"])
        assert rotated.vault.number_hash(number) == old["number_hash"]


def test_looking_changes_nothing(ask: Ask, rotated: Parts, rows: Rows) -> None:
    """A dry run reports how numbers are sealed."""
    ask()
    before = rows.requests()

    sealed = rotated.rotate_seal.report()

    assert (sealed.counts, sealed.removable) == ({"k1": 1}, ())
    assert rows.requests() == before


def test_interrupted_and_run_again(ask: Ask, rotated: Parts) -> None:
    """Batches before an interruption are kept. The next run does the rest."""
    for number in numbers(20):
        ask(number)

    def interrupt(_key: str, _done: int, _of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotated.rotate_seal(progress=interrupt, batch=5)
    half = rotated.rotate_seal.report()
    whole = rotated.rotate_seal(progress=silent, batch=5)

    assert half.counts == {"k1": 15, "k2": 5}
    assert whole.counts == {"k2": 20}


def test_traffic_goes_on_beside_it(
    parts: Parts,
    make_parts: MakeParts,
    ask: Ask,
    rotated: Parts,
    provider: Provider,
    rows: Rows,
    background: ThreadPoolExecutor,
) -> None:
    """Requests are accepted, sent and verified while their rows are sealed again."""
    many, prepared = numbers(60), make_parts(OTPQUEUE_SEAL_KEYS=f"{K1},{K2}")
    for number in many[:40]:
        ask(number)

    sealing = [background.submit(rotated.rotate_seal, progress=silent, batch=3) for _ in range(2)]
    sending = [background.submit(one.pump.run) for one in (prepared, rotated)]
    asking = [background.submit(ask, number) for number in many[40:]]
    for future in [*asking, *sending, *sealing]:
        future.result()
    rotated.pump.run()
    last = rotated.rotate_seal(progress=silent)

    assert last.counts == {"k2": 60}
    assert {row["status"] for row in rows.requests()} == {"sent"}
    assert {len(provider.messages(number)) for number in many} == {1}
    request = rows.requests()[0]
    number = rotated.vault.unseal(request["number_sealed"], key_id="k2", row_id=request["id"])
    verified = rotated.verify(
        request["id"],
        TypedCode(code=provider.code(number)),
        client_id=request["client_id"],
        now=clock.now(),
    )
    assert verified.status is Status.VERIFIED


def test_locked_row_is_sealed_later(
    parts: Parts, ask: Ask, rotated: Parts, background: ThreadPoolExecutor
) -> None:
    """A locked row is skipped, and sealed in the next pass."""
    held, _other = ask(), ask("+447700900124")
    steps: list[tuple[str, int, int]] = []

    with parts.engine.connect().execution_options(isolation_level="READ COMMITTED") as conn, conn.begin():
        conn.execute(text("SELECT 1 FROM otp_requests WHERE id = :id FOR UPDATE"), {"id": held.id})
        sealing = background.submit(rotated.rotate_seal, progress=lambda *step: steps.append(step))
        while not steps:
            assert not sealing.done()
    sealed = sealing.result()

    assert steps == [("k1", 1, 2), ("k1", 2, 2)]
    assert sealed.counts == {"k2": 2}


def test_key_of_the_same_name_is_not_taken_for_the_right_one(
    ask: Ask, make_parts: MakeParts, rows: Rows
) -> None:
    """Numbers that a key does not open are unchanged and reported, and the key stays needed."""
    ask()
    before = rows.requests()

    sealed = make_parts(OTPQUEUE_SEAL_KEYS=f"{K2},{IMPOSTOR}").rotate_seal(progress=silent)

    assert (sealed.counts, sealed.unopened, sealed.removable) == ({"k1": 1}, {"k1": 1}, ())
    assert rows.requests() == before


def test_start_is_refused_while_a_key_is_missing(ask: Ask, rotated: Parts, make_parts: MakeParts) -> None:
    """The error names the missing key and its count."""
    for number in numbers(3):
        ask(number)
    bereft = make_parts(OTPQUEUE_SEAL_KEYS=K2)

    why = refusal_to_start(bereft.rotate_seal)

    assert why is not None
    assert "k1 (3 numbers)" in why
    assert refusal_to_start(rotated.rotate_seal) is None
    rotated.rotate_seal(progress=silent)
    assert refusal_to_start(bereft.rotate_seal) is None
    missing = make_parts(OTPQUEUE_SEAL_KEYS=K1).rotate_seal.missing()
    assert missing == {"k2": 3}


def test_start_without_postgres(make_parts: MakeParts, closed_port: int) -> None:
    """An unavailable Postgres does not prevent a start."""
    away = make_parts(DATABASE_URL=f"postgresql://x@127.0.0.1:{closed_port}/x")

    assert refusal_to_start(away.rotate_seal) is None


def test_numbers_of_a_lost_key_are_dropped(
    ask_sent: AskSent, make_parts: MakeParts, rows: Rows, client_id: UUID
) -> None:
    """Only unreadable numbers can be deleted."""
    ask_sent()
    bereft = make_parts(OTPQUEUE_SEAL_KEYS=K2)
    bereft.provision(bereft.transport, now=clock.now())
    with connection(bereft.engine) as conn:
        conn.execute(text("UPDATE otp_requests SET status = 'expired', send_state = 'idle'"))

    with pytest.raises(ValueError, match="k2 is in OTPQUEUE_SEAL_KEYS"):
        bereft.rotate_seal.drop("k2")
    dropped = bereft.rotate_seal.drop("k1")

    assert dropped == 1
    assert rows.requests() == rows.attempts() == []
    assert refusal_to_start(bereft.rotate_seal) is None


def test_keys_are_found_without_reading_the_table(parts: Parts, client_id: UUID) -> None:
    """Finding the keys in use takes one index look-up per key, for any number of rows."""
    fill = """
    INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, channel, status,
                              send_state, checks_allowed, created_at, updated_at, send_by, finished_at)
    SELECT gen_random_uuid(), :client_id, '\\x00', 'old' || n % 3, decode(md5(n::text), 'hex'), 'sms',
           'expired', 'idle', 5, now(), now(), now(), now()
    FROM generate_series(1, 20000) AS n
    """
    with connection(parts.engine) as conn:
        conn.execute(text(fill), {"client_id": client_id})
        conn.execute(text("VACUUM ANALYZE otp_requests"))
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) {build_key_query(otp_requests).text}"
        plan = "\n".join(conn.execute(text(explain)).scalars())
        missing = parts.rotate_seal.missing()

    assert "Seq Scan on otp_requests" not in plan
    assert "otp_requests_sealed_with" in plan
    assert sorted(missing) == ["old0", "old1", "old2"]
    assert sum(missing.values()) == 20_000
    assert NUMBER not in plan
