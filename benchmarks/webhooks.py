"""What webhooks cost those who have none, and how many a worker delivers.

    python -m benchmarks.webhooks [--requests 3000] [--deliveries 2000] [--rounds 3] [--answer-ms 50]

An embedded Postgres (durable, as in production), on Linux. First the statement that records what became of
64 sends, by turns without the trigger, and with it for clients that have no endpoint, or one: the time that
Postgres's process was on a processor, in microseconds a request, which the load of others changes little.
Then deliveries a second of one worker process to a receiver in a process of its own that answers after 50 ms,
to one client and to four, and the worker's processor time for each; beside the conventional shape: as many
threads, each of which takes one delivery, posts it and records it.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from uuid import UUID

from sqlalchemy import Engine, text

from benchmarks.moves import BATCH, VAULT, _taken, accept
from otpqueue import clock, logs
from otpqueue.domain import webhooks as domain
from otpqueue.domain.webhooks import Event
from otpqueue.embedded import EngineHome, Postgres
from otpqueue.operations.send_webhooks import SHARE, THREADS, SendWebhooks, SendWebhooksSettings, deliver
from otpqueue.outbound import Outbound
from otpqueue.store import attempts, claims, clients, migrate, webhook_deliveries, webhooks
from otpqueue.store.engine import connection, make_engine, transaction
from otpqueue.store.sessions import TimeLimits
from otpqueue.store.webhook_deliveries import Result

OTHERS = 200
ONE_BY_ONE = 64
"""Threads of the conventional shape, with a connection each."""

DISABLE_AFTER = timedelta(days=1)


def receive(port_to: Pipe, answer_s: float) -> None:
    """Answer 204 to every call after a while, until the process is ended."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                await asyncio.sleep(answer_s)
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
        port_to.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


def client(engine: Engine, name: str, url: str | None) -> UUID:
    """Make a client, with an endpoint if there is a URL."""
    with connection(engine) as conn:
        client_id = clients.ensure_client(conn, name, now=clock.now())
        if url:
            webhooks.add(
                conn,
                client_id=client_id,
                url=url,
                events=tuple(Event),
                secret=domain.new_secret(),
                vault=VAULT,
                now=clock.now(),
            )
    return client_id


def accept_many(engine: Engine, client_ids: list[UUID], count: int) -> None:
    """Accept requests, shared out among clients."""
    with ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                lambda number: accept(engine, client_ids[number % len(client_ids)], number), range(count)
            )
        )


def on_cpu_ns(pid: int) -> int:
    """Return for how long a process has been on a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0])


def record_us(engine: Engine, client_id: UUID, count: int) -> float:
    """Accept requests, claim them, and return what recording them as sent takes, in us of CPU a request."""
    accept_many(engine, [client_id], count)
    spent = 0
    with connection(engine) as conn:
        pid = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
        while taken := claims.claim(
            conn, slots=BATCH, lease_s=30, worker="benchmark", now=clock.now(), vault=VAULT
        ):
            results = [_taken(one) for one in taken]
            start = on_cpu_ns(pid)
            attempts.record(conn, results)
            spent += on_cpu_ns(pid) - start
        conn.execute(text("TRUNCATE otp_requests CASCADE"))
    return spent / count / 1000


def measure_trigger(engine: Engine, count: int) -> None:
    """Print what recording takes with the trigger and without it."""
    plain, listening = client(engine, "plain", None), client(engine, "listening", "https://shop.example/")
    for number in range(OTHERS):
        client(engine, f"other-{number}", "https://shop.example/")
    turns = {
        "no trigger": ("DISABLE", plain),
        "trigger, client without an endpoint": ("ENABLE", plain),
        "trigger, client with an endpoint": ("ENABLE", listening),
    }
    found: dict[str, list[float]] = {name: [] for name in turns}
    size = 4 * BATCH
    for _ in range(max(count // size, 3)):
        for name, (switch, client_id) in turns.items():
            with connection(engine) as conn:
                conn.execute(text(f"ALTER TABLE otp_requests {switch} TRIGGER otp_requests_webhooks"))
            found[name].append(record_us(engine, client_id, size))
    print(f"recording a send, us of Postgres's CPU ({OTHERS} other clients have endpoints)")
    for name, values in found.items():
        print(f"  {name:<40}{statistics.median(values):>8.1f}")
    with connection(engine) as conn:
        conn.execute(text("ALTER TABLE otp_requests ENABLE TRIGGER otp_requests_webhooks"))
        conn.execute(text("TRUNCATE webhook_endpoints"))


def fill(engine: Engine, client_ids: list[UUID], count: int) -> None:
    """Have so many deliveries wait, shared out among clients."""
    with connection(engine) as conn:
        conn.execute(text("TRUNCATE otp_requests CASCADE"))
    accept_many(engine, client_ids, count)
    with connection(engine) as conn:
        conn.execute(text("UPDATE otp_requests SET status = 'sent'"))
        conn.execute(text("ANALYZE webhook_deliveries"))


def pump(engine: Engine, outbound: Outbound) -> None:
    """Send all that waits, as a worker does."""
    settings = SendWebhooksSettings(lease_s=60, job_s=600, disable_after=DISABLE_AFTER)
    SendWebhooks(
        engine=engine, vault=VAULT, outbound=outbound, wake=lambda: True, clock=clock.now, settings=settings
    ).run()


def one_by_one(engine: Engine, outbound: Outbound, threads: int) -> None:
    """Send all that waits, each thread one at a time."""

    def work(_: int) -> None:
        while True:
            now = clock.now()
            with connection(engine) as conn:
                claimed = webhook_deliveries.claim(
                    conn, slots=1, share=threads, busy={}, lease_s=60, now=now, vault=VAULT
                )
            if not claimed:
                return
            (one,) = claimed
            body = domain.body(one.event, one.at, one.data)
            answer = deliver(
                outbound, one.url, secrets=one.secrets, webhook_id=str(one.id), text=body, now=now
            )
            results = [Result(delivery=one, answer=answer, tried_at=clock.now(), next_try_at=None)]
            record = partial(
                webhook_deliveries.record, results=results, disable_after=DISABLE_AFTER, now=clock.now()
            )
            transaction(engine, record)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))


def rate(engine: Engine, count: int, send: Callable[[], None]) -> tuple[float, float]:
    """Return how many deliveries a second are made, and the CPU for each, in ms."""
    start, cpu = time.perf_counter(), time.process_time()
    send()
    spent, cpu = time.perf_counter() - start, time.process_time() - cpu
    with connection(engine) as conn:
        left = conn.execute(
            text("SELECT count(*) FROM webhook_deliveries WHERE state <> 'delivered'")
        ).scalar_one()
    if left > THREADS:
        raise SystemExit(f"{left} were not delivered")
    return count / spent, cpu / count * 1000


def measure_deliveries(engine: Engine, url: str, count: int, rounds: int, answer_ms: float) -> None:
    """Print deliveries a second."""
    outbound = Outbound(allow_private=True, timeout_s=10)
    ids = [client(engine, f"shop-{number}", url) for number in range(4)]
    print(f"deliveries a second, one process, receiver at {answer_ms:g} ms")
    for name, told, threads in (("one client", ids[:1], SHARE), ("four clients", ids, ONE_BY_ONE)):
        found: dict[str, list[tuple[float, float]]] = {"pump": [], "one by one": []}
        for _ in range(rounds):
            fill(engine, told, count)
            found["pump"].append(rate(engine, count, partial(pump, engine, outbound)))
            fill(engine, told, count)
            found["one by one"].append(rate(engine, count, partial(one_by_one, engine, outbound, threads)))
        for shape, values in found.items():
            label = f"{name}, {'a worker' if shape == 'pump' else f'{threads} threads, one by one'}"
            per_s, cpu_ms = (statistics.median(one) for one in zip(*values, strict=True))
            print(f"  {label:<40}{per_s:>8.0f}   {cpu_ms:.2f} ms CPU each")
    outbound.close()


def main() -> None:
    """Start Postgres and a receiver, measure, stop them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000, help="requests in each measure")
    parser.add_argument("--deliveries", type=int, default=2000, help="deliveries in each measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--answer-ms", type=float, default=50)
    given = parser.parse_args()
    logs.configure(process="benchmark", style="readable", level="WARNING")
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.Process(target=receive, args=(theirs, given.answer_ms / 1000), daemon=True)
    receiver.start()
    with (
        tempfile.TemporaryDirectory() as folder,
        EngineHome(Path(folder)) as home,
        Postgres(home.path / "postgres") as postgres,
    ):
        engine = make_engine(postgres.url, pool_size=ONE_BY_ONE, limits=TimeLimits(wait_s=30))
        migrate.upgrade(engine)
        measure_trigger(engine, given.requests)
        url = f"http://127.0.0.1:{ours.recv()}/"
        measure_deliveries(engine, url, given.deliveries, given.rounds, given.answer_ms)
        engine.dispose()
    receiver.terminate()


if __name__ == "__main__":
    main()
