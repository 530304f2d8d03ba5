"""The commands of docs/backup.md restore a database that works, and what it restores harms no caller."""

from __future__ import annotations

import base64
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import redis

from otpqueue import clock
from otpqueue.domain.errors import CodeExpired, LimitExceeded, RequestNotFound, Unauthenticated
from otpqueue.domain.request import Status
from otpqueue.embedded.binaries import find_postgres_bin
from otpqueue.operations.privacy.rotate_seal import refusal_to_start
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, Engines, MakeParts, Provider

LATER = timedelta(minutes=15)
"""How long after a backup docs/backup.md starts the processes on it."""


def block(page: str, program: str) -> str:
    """Return the shell commands of a page that use a program."""
    found = [
        one for one in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if one.strip().startswith(program)
    ]
    (commands,) = found
    return str(commands)


class Backup:
    """A dump of a database, and restored copies of it."""

    def __init__(self, page: str, folder: Path, engines: Engines) -> None:
        self._page, self._folder, self._postgres = page, folder, engines.postgres
        self._restored: list[str] = []

    def dump(self, url: str) -> None:
        """Run the documented dump."""
        self._run(block(self._page, "pg_dump"), DATABASE_URL=url)

    def restore(self) -> str:
        """Run the documented restore into a new database, and return its URL."""
        self._restored.append(f"restored_{uuid4().hex}")
        url = self._postgres.create_database(self._restored[-1])
        self._run(block(self._page, "pg_restore"), RESTORED_URL=url)
        return url

    def drop(self) -> None:
        """Drop the restored databases."""
        for name in self._restored:
            self._postgres.drop_database(name)

    def _run(self, commands: str, **urls: str) -> None:
        plain = {name: url.replace("+psycopg", "") for name, url in urls.items()}
        env = {**os.environ, **plain, "PATH": f"{find_postgres_bin()}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["/bin/sh", "-ec", commands],
            cwd=self._folder,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def backup(project: Path, tmp_path: Path, engines: Engines) -> Iterator[Backup]:
    """Yield the documented commands."""
    page = (project / "docs" / "backup.md").read_text(encoding="utf-8")
    # Blocks of a list are indented.
    made = Backup(re.sub(r"^   ", "", page, flags=re.MULTILINE), tmp_path, engines)
    yield made
    made.drop()


def ask(parts: Parts, client_id: UUID, number: str) -> UUID:
    """Request a code."""
    return parts.request(RequestedCode(phone_number=number), client_id=client_id, now=clock.now()).id


def test_restored_database_works(
    backup: Backup, parts: Parts, client_id: UUID, make_parts: MakeParts, provider: Provider
) -> None:
    """After the wait, restored requests end without a send; keys, blocks and new codes work."""
    key = parts.keys.create(client="test", scopes=frozenset({"send"}), now=clock.now())
    sent = ask(parts, client_id, NUMBER)
    parts.pump.run()
    parts.blocklist.block("+447700900199", reason="asked", until=None, now=clock.now())
    queued = ask(parts, client_id, "+447700900124")
    backup.dump(parts.settings.require("database_url"))
    # Lost with the database: a check, a send and a new request.
    code = provider.code()
    parts.verify(sent, TypedCode(code=code), client_id=client_id, now=clock.now())
    parts.pump.run()
    lost = ask(parts, client_id, "+447700900125")
    before = len(provider.messages())

    restored = make_parts(DATABASE_URL=backup.restore())
    restored.sweep(now=clock.now() + LATER)
    restored.expire(now=clock.now() + LATER)
    restored.pump.run()

    states = [restored.status(one, client_id=client_id).status for one in (sent, queued)]
    assert states == [Status.EXPIRED, Status.EXPIRED]
    assert len(provider.messages()) == before
    with pytest.raises(RequestNotFound):
        restored.status(lost, client_id=client_id)
    assert restored.keys.authenticate(key, now=clock.now()).scopes == {"send"}
    assert len(restored.blocklist.list(now=clock.now())) == 1
    again = ask(restored, client_id, NUMBER)
    restored.pump.run()
    checked = restored.verify(again, TypedCode(code=provider.code()), client_id=client_id, now=clock.now())
    assert checked.status is Status.VERIFIED


def test_restore_without_the_wait_accepts_a_code_once_more(
    backup: Backup, parts: Parts, client_id: UUID, make_parts: MakeParts, provider: Provider
) -> None:
    """As docs/backup.md warns: the check of a code is lost with the database, and the code is still valid."""
    sent = ask(parts, client_id, NUMBER)
    parts.pump.run()
    backup.dump(parts.settings.require("database_url"))
    code = TypedCode(code=provider.code())
    parts.verify(sent, code, client_id=client_id, now=clock.now())

    restored = make_parts(DATABASE_URL=backup.restore())

    again = restored.verify(sent, code, client_id=client_id, now=clock.now())
    assert again.status is Status.VERIFIED
    late = make_parts(DATABASE_URL=backup.restore())
    with pytest.raises(CodeExpired):
        late.verify(sent, code, client_id=client_id, now=clock.now() + LATER)


def test_keys_are_needed_for_a_restored_database(
    backup: Backup, parts: Parts, client_id: UUID, make_parts: MakeParts
) -> None:
    """With another sealing key nothing starts; with another look-up key no API key is recognised."""
    key = parts.keys.create(client="test", scopes=frozenset({"send"}), now=clock.now())
    ask(parts, client_id, NUMBER)
    backup.dump(parts.settings.require("database_url"))
    url = backup.restore()
    other = base64.b64encode(b"o" * 32).decode()

    sealed = make_parts(DATABASE_URL=url, OTPQUEUE_SEAL_KEYS=f"k9:{other}")
    hashed = make_parts(DATABASE_URL=url, OTPQUEUE_HASH_KEY=other)

    assert "k1" in (refusal_to_start(sealed.rotate_seal) or "")
    with pytest.raises(Unauthenticated):
        hashed.keys.authenticate(key, now=clock.now())


def test_loss_of_redis_loses_no_code(
    parts: Parts, client_id: UUID, make_parts: MakeParts, provider: Provider, redis_url: str
) -> None:
    """With an empty Redis, a sent code is checked, a queued one is sent, and limits start again."""
    limited = make_parts(OTPQUEUE_LIMIT_NUMBER_15M="1/15m")
    sent = ask(limited, client_id, NUMBER)
    limited.pump.run()
    queued = ask(limited, client_id, "+447700900124")
    with pytest.raises(LimitExceeded):
        ask(limited, client_id, NUMBER)

    with redis.Redis.from_url(redis_url) as client:
        client.flushall()

    code = TypedCode(code=provider.code())
    assert limited.verify(sent, code, client_id=client_id, now=clock.now()).status is Status.VERIFIED
    limited.sweep(now=clock.now())
    limited.pump.run()
    assert limited.status(queued, client_id=client_id).status is Status.SENT
    assert ask(limited, client_id, NUMBER)
