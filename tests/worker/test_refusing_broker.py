"""A broker that rejects commands: workers and beat keep running, and health reports the failure."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from uuid import UUID

import pytest
import redis

from otpqueue import clock
from otpqueue.domain.heartbeats import Liveness
from otpqueue.embedded import Valkey
from otpqueue.operations.request import RequestedCode
from otpqueue.wiring import Parts
from tests.conftest import Ask, Provider
from tests.operations.looking import Rows, numbers, until
from tests.worker.conftest import Start
from tests.worker.test_workers import BEAT, OFTEN, PERIODIC, SEND, until_served

Command = tuple[str, ...]

REFUSALS: dict[str, tuple[Command, Command]] = {
    "turned into a replica by a failover": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    "an ACL without write": (
        ("ACL", "SETUSER", "default", "-@write"),
        ("ACL", "SETUSER", "default", "+@all"),
    ),
    "an ACL without anything": (
        ("ACL", "SETUSER", "default", "-@all", "+acl"),
        ("ACL", "SETUSER", "default", "+@all"),
    ),
    "out of memory": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "too few replicas": (
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "0"),
    ),
}
"""Commands that make Redis reject, and commands that undo it."""
_OTHER_ENDS = ("OSError(24, 'no files left')", "SystemExit(0)")
SMALL = {"turned into a replica by a failover", "out of memory"}
"""One that reads and does not write, and one that reads what a worker waits for."""


@pytest.mark.parametrize(
    "refusal",
    [one if one in SMALL else pytest.param(one, marks=pytest.mark.full) for one in REFUSALS],
)
def test_redis_that_refuses(
    start: Start,
    parts_of: Callable[[Valkey], Parts],
    own_valkey: Valkey,
    client_id: UUID,
    rows: Rows,
    provider: Provider,
    logged: Callable[[], str],
    refusal: str,
) -> None:
    """No process ends, health names the failing part, and codes are sent soon after the repair."""
    parts = parts_of(own_valkey)
    own = {"REDIS_URL": own_valkey.url} | OFTEN
    processes = [start(*SEND, **own), start(*PERIODIC, **own), start(*BEAT, **own)]
    until_served(parts, "send", "periodic")
    left = iter(numbers(10))

    def ask() -> UUID:
        wanted = RequestedCode(phone_number=next(left))
        return parts.request(wanted, client_id=client_id, now=clock.now()).id

    def broken() -> bool:
        health = parts.health(now=clock.now())
        # Without memory Redis hands out what it has: workers do hear it.
        hears = Liveness.RUNNING in (health.queues or {}).values() and refusal != "out of memory"
        return health.redis_refuses and health.beat is Liveness.CUT_OFF and not hears

    begin, end = REFUSALS[refusal]
    with redis.Redis.from_url(own_valkey.url) as admin:
        admin.execute_command(*begin)
        try:
            meanwhile = ask()
            processes.append(start(*SEND, **own))
            # A process that cannot write has no contact.
            until(broken, within_s=40)
            time.sleep(3)
            assert broken()
            assert [process.running for process in processes] == [True] * 4
            assert rows.request(meanwhile)["status"] == "queued"
        finally:
            admin.execute_command(*end)
    until(lambda: rows.request(meanwhile)["status"] == "sent", within_s=10)
    until(lambda: parts.health(now=clock.now()).redis)
    until_served(parts, "send", "periodic")
    until(lambda: parts.health(now=clock.now()).beat is Liveness.RUNNING, within_s=20)
    after = ask()
    until(lambda: rows.request(after)["status"] == "sent", within_s=5)

    assert [process.running for process in processes] == [True] * 4
    assert len(provider.messages()) == len(rows.attempts()) == 2
    assert "Unrecoverable" not in logged()


def test_invalid_message(start: Start, parts: Parts, ask: Ask, rows: Rows, logged: Callable[[], str]) -> None:
    """An invalid message in a queue is dropped and ends no worker."""
    worker = start(*SEND)
    until_served(parts, "send")

    for junk in (b"junk", b"{}", b'{"body": 1}', b"[]", b"\xff"):
        parts.redis.lpush("send", junk)
    until(lambda: parts.redis.llen("send") == 0, within_s=60)
    until(lambda: "consumer_failed" in logged())
    request = ask()

    until(lambda: rows.request(request.id)["status"] == "sent", within_s=30)
    assert worker.running


@pytest.mark.parametrize(
    "how",
    ["raise Odd", *(pytest.param(f"raise {one}", marks=pytest.mark.full) for one in _OTHER_ENDS)],
)
def test_worker_that_ends_unasked(environment: dict[str, str], how: str) -> None:
    """After an unexpected end the exit code makes a supervisor restart the worker."""
    program = f"""
from otpqueue.worker import main
from otpqueue.cli import main as otpqueue
class Odd(BaseException): pass
def loop(self, *_): {how}
main.Consumer._consume = loop
otpqueue(["worker", "--queues=send"])
"""

    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1


def test_redis_lost_with_a_message_unacknowledged(environment: dict[str, str], own_valkey: Valkey) -> None:
    """A worker that loses an acknowledgement to Redis reconnects and does not end."""
    program = """
import os, signal, socket, sys
from kombu import Consumer, Queue
from redis.exceptions import ConnectionError
from otpqueue.worker.main import app
consumer = app.WorkController(queues="send", pool="threads", concurrency=1).consumer
consumer.connection = connection = app.connection_for_read()
received = []
connection.SimpleQueue("lost").put("wake-up")
Consumer(connection, [Queue("lost")], callbacks=[lambda _, message: received.append(message)]).consume()
# A worker has a second channel, for remote control.
Consumer(connection.channel(), [Queue("other")], callbacks=[print]).consume()
while not received:
    connection.drain_events(timeout=5)
try:
    connection.drain_events(timeout=0.1)
except socket.timeout:
    pass  # The next message is asked for, the first one is not acknowledged.
os.kill(int(sys.argv[1]), signal.SIGKILL)
consumer.on_connection_error_after_connected(ConnectionError("lost"))
print("goes on", consumer.connection)
"""

    done = subprocess.run(
        [sys.executable, "-c", program, str(own_valkey.pid)],
        env=os.environ | environment | {"REDIS_URL": own_valkey.url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout.splitlines()[-1:] == ["goes on None"], done.stderr
