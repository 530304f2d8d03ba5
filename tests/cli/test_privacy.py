"""`otpqueue erase`, `purge`, `keys rotate-seal | rotate-hash | drop-sealed`, and starts without a key."""

from __future__ import annotations

import base64
import re
from datetime import timedelta

import pytest
from click.testing import CliRunner

from otpqueue import clock
from otpqueue.cli import main
from otpqueue.cli.exits import ExitCode
from otpqueue.operations.access.keys import prefix_of
from otpqueue.store.privacy.erasing import COUNTED
from otpqueue.store.privacy.purging import AGEING
from otpqueue.wiring import Parts
from tests.cli.conftest import Shell
from tests.conftest import NUMBER, Ask
from tests.operations.looking import Rows

K1 = "k1:" + base64.b64encode(b"s" * 32).decode()
K2 = "k2:" + base64.b64encode(b"t" * 32).decode()
OLD = base64.b64encode(b"h" * 32).decode()
NEW = base64.b64encode(b"i" * 32).decode()


@pytest.fixture
def rows(parts: Parts) -> Rows:
    """Return the tables."""
    return Rows(parts.engine)


@pytest.mark.parametrize(("typed", "options"), [(f"{NUMBER}\n", ()), ("07700 900123", ("--country", "gb"))])
def test_erase(shell: Shell, ask: Ask, rows: Rows, typed: str, options: tuple[str, ...]) -> None:
    """The number is read from stdin and not printed. What was erased is counted; the proof is named."""
    ask()

    result = CliRunner().invoke(main, ["erase", "--yes", *options], input=typed, env=shell.environment)

    assert result.exit_code == 0, result.output
    rows_erased = {"requests": 1, "moves": 1}
    assert result.stdout.splitlines() == [f"{name}: {rows_erased.get(name, 0)}" for name in COUNTED]
    assert result.stderr == "proof: otpqueue erasures --limit 1\n"
    assert rows.requests() == []


@pytest.mark.parametrize("typed", ["", "\n", "nonsense\n"])
def test_erase_nothing(shell: Shell, parts: Parts, typed: str) -> None:
    """What is no number is a message."""
    result = CliRunner().invoke(main, ["erase", "--yes"], input=typed, env=shell.environment)

    is_empty = not typed.strip()
    assert result.exit_code == (ExitCode.USAGE if is_empty else ExitCode.REFUSED)
    assert result.output.startswith("Error: Standard input has" if is_empty else "Error: phone_number ")


def test_number_is_no_argument(shell: Shell, ask: Ask, rows: Rows) -> None:
    """Every user of a machine sees the arguments of its processes."""
    ask()

    result = shell.invoke("erase", NUMBER)

    assert result.exit_code == 2
    assert len(rows.requests()) == 1


def test_purge(shell: Shell, ask: Ask, rows: Rows) -> None:
    """`--dry-run` counts, and without it what was counted goes."""
    request = ask()
    ended = clock.now() - timedelta(days=31)
    rows.change(request.id, status="expired", send_state="idle", next_attempt_at=None, finished_at=ended)

    counted = shell.invoke("purge", "--dry-run")
    kept = shell.invoke("purge", OTPQUEUE_RETENTION_DAYS="32")
    left = len(rows.requests())
    deleted = shell.invoke("purge")

    tables = [holding.table.name for holding in AGEING]
    assert counted.output.splitlines() == [
        f"{name}: {int(name == 'otp_requests')} too old" for name in tables
    ]
    assert kept.output.startswith("otp_requests: 0 deleted\n")
    assert left == 1
    assert deleted.output == counted.output.replace("too old", "deleted")
    assert rows.requests() == []


def test_rotate_seal(shell: Shell, ask: Ask) -> None:
    """From the old key to the new one: what is there, each step, and what may be removed at the end."""
    ask()
    ask("+447700900124")
    both = {"OTPQUEUE_SEAL_KEYS": f"{K2},{K1}"}

    looked = shell.invoke("keys", "rotate-seal", "--dry-run", **both)
    rotated = shell.invoke("keys", "rotate-seal", "--batch", "1", **both)

    assert looked.output.splitlines() == [
        "k1 (older): 2 numbers",
        "k2 has sealed 0 texts, 0.0% of the limit of one key",
        "no key may be removed from OTPQUEUE_SEAL_KEYS",
    ]
    assert rotated.output.splitlines() == [
        "k2 (seals): 2 numbers",
        "k2 has sealed 2 texts, 0.0% of the limit of one key",
        "removable from OTPQUEUE_SEAL_KEYS: k1",
    ]


def test_rotate_seal_with_the_wrong_key(shell: Shell, ask: Ask) -> None:
    """A key that does not open what bears its name is said, and so is one that is not there at all."""
    ask()
    impostor = "k1:" + base64.b64encode(b"u" * 32).decode()

    wrong = shell.invoke("keys", "rotate-seal", OTPQUEUE_SEAL_KEYS=f"{K2},{impostor}")
    absent = shell.invoke("keys", "rotate-seal", OTPQUEUE_SEAL_KEYS=K2)

    assert "k1 cannot decrypt 1 of them" in wrong.output
    assert "no key may be removed" in wrong.output
    assert absent.output.startswith("k1 (not in OTPQUEUE_SEAL_KEYS): 1 numbers\n")


def test_rotate_hash(shell: Shell, ask: Ask, parts: Parts) -> None:
    """From the old key to the new one: what is left is named until nothing is."""
    key = parts.keys.create(client="test", scopes=frozenset({"send"}), now=clock.now())
    ask()
    both = {"OTPQUEUE_HASH_KEY": f"{NEW},{OLD}"}

    looked = shell.invoke("keys", "rotate-hash", "--dry-run", **both)
    rotated = shell.invoke("keys", "rotate-hash", **both)
    parts.keys.revoke(prefix_of(key), now=clock.now())
    done = shell.invoke("keys", "rotate-hash", **both)

    unused = f"API key {prefix_of(key)}: 1 under the old key, no end date; use it once, or create another"
    windows = r"limit windows: 3 under the old key, until \d{4}-\d\d-\d\d \d\d:\d\dZ; wait"
    in_requests, in_keys, in_redis, needed = looked.output.splitlines()
    assert in_requests.startswith("otp_requests: 1 under the old key, ")
    assert "rotate-hash" in in_requests
    assert (in_keys, needed) == (unused, "the old key is still needed")
    assert re.fullmatch(windows, in_redis)
    assert rotated.output.splitlines()[0] == unused
    only_windows, until = done.output.splitlines()
    assert re.fullmatch(windows, only_windows)
    assert re.fullmatch(r"the old key is still needed, until \d{4}-\d\d-\d\d \d\d:\d\dZ", until)
    parts.redis.flushdb()
    emptied = shell.invoke("keys", "rotate-hash", **both)
    assert emptied.output.splitlines() == ["the old key may be removed from OTPQUEUE_HASH_KEY"]


def test_rotate_hash_with_one_key(shell: Shell, parts: Parts) -> None:
    """With one key there is nothing to replace, and a message says how to begin."""
    result = shell.invoke("keys", "rotate-hash")

    assert result.exit_code == ExitCode.CONFIGURATION
    assert result.output.startswith("Error: OTPQUEUE_HASH_KEY holds one key. To replace it")


@pytest.mark.parametrize("command", ["api", "worker"])
def test_start_without_a_key_that_is_needed(shell: Shell, ask: Ask, command: str) -> None:
    """API and workers name the key that stored numbers need, and how many they are, and do not start."""
    ask()

    result = shell.run(command, OTPQUEUE_SEAL_KEYS=K2)

    assert result.returncode == ExitCode.CONFIGURATION
    assert (
        "OTPQUEUE_SEAL_KEYS lacks keys that stored numbers are sealed with: k1 (1 numbers)" in result.stderr
    )
    assert "Traceback" not in result.stderr


def test_migrate_says_that_a_key_is_missing(shell: Shell, ask: Ask) -> None:
    """Migrating works without it; it is said all the same."""
    ask()

    migrated = shell.run("migrate", OTPQUEUE_SEAL_KEYS=K2)
    quiet = shell.run("migrate")

    assert (migrated.returncode, migrated.stdout) == (0, "the database is up to date\n")
    assert migrated.stderr.startswith("API and workers will not start: OTPQUEUE_SEAL_KEYS lacks")
    assert (quiet.returncode, quiet.stderr) == (0, "")


def test_drop_sealed(shell: Shell, ask: Ask, rows: Rows) -> None:
    """What a lost key sealed is deleted, after a question; what a key that is there sealed is not."""
    ask()
    bereft = {"OTPQUEUE_SEAL_KEYS": K2}

    kept = shell.invoke("keys", "drop-sealed", "k1", "--yes")
    asked = shell.invoke("keys", "drop-sealed", "k1", **bereft)
    left = len(rows.requests())
    dropped = shell.invoke("keys", "drop-sealed", "k1", "--yes", **bereft)

    assert (kept.exit_code, asked.exit_code, left) == (ExitCode.REFUSED, ExitCode.USAGE, 1)
    assert "k1 is in OTPQUEUE_SEAL_KEYS" in kept.output
    assert (dropped.exit_code, dropped.stdout) == (0, "deleted 1 requests\n")
    assert rows.requests() == []
