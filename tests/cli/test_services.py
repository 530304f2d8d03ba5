"""The commands that start and set up the parts: their help, and what they say when something is wrong."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import requests
from sqlalchemy import inspect

from otpqueue.cli import COMMANDS as NAMES
from otpqueue.cli.exits import ExitCode
from otpqueue.embedded import ChildProcess
from otpqueue.store.engine import make_engine
from tests.cli.conftest import Shell
from tests.conftest import Engines, Provider

COMMANDS = [
    (),
    ("dev",),
    ("api",),
    ("worker",),
    ("beat",),
    ("migrate",),
    ("provision",),
    ("keys",),
    ("keys", "create"),
    ("keys", "list"),
    ("keys", "revoke"),
    ("keys", "rotate-seal"),
    ("keys", "rotate-hash"),
    ("keys", "drop-sealed"),
    ("erase",),
    ("purge",),
    ("requests",),
    ("requests", "show"),
    ("stats",),
    ("send",),
    ("status",),
    ("verify",),
    ("simulator",),
]


def message(result: object, exit_code: int = ExitCode.CONFIGURATION) -> str:
    """Return what a command that failed said: one message, no traceback, the exit code of its kind."""
    code = getattr(result, "exit_code", getattr(result, "returncode", None))
    said = getattr(result, "output", "") or getattr(result, "stderr", "")
    assert code == exit_code, said
    assert said.startswith("Error: ")
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help(bare_shell: Shell, command: tuple[str, ...], option: str) -> None:
    """Every command explains itself and its options, whatever the settings."""
    result = bare_shell.invoke(*command, option, OTPQUEUE_NONSENSE="1")

    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")
    assert re.search(r"\n\n  [A-Z]", result.output)


def test_help_names_every_command(bare_shell: Shell) -> None:
    """The help of `otpqueue` lists all commands, each with a line of its own."""
    output = bare_shell.invoke("--help").output

    listed = re.findall(r"^  ([a-z][a-z-]+)  +\S", output, flags=re.MULTILINE)
    assert set(listed) == {*NAMES, "simulator"}


def test_without_the_simulator() -> None:
    """Where the simulator's extra is not installed the help works, and `simulator` says what to install."""
    without = "import sys; sys.modules['uvicorn'] = None; from otpqueue.cli import main; main()"

    helped, started = (
        subprocess.run(
            [sys.executable, "-c", without, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for arguments in (["--help"], ["simulator", "--port", "0"])
    )

    assert helped.returncode == 0
    assert "migrate" in helped.stdout
    assert "pip install 'otpqueue[simulator]'" in message(started)


def test_version(bare_shell: Shell) -> None:
    """`--version` names the program and its version."""
    assert re.search(r"otpqueue.* \d+\.\d+", bare_shell.invoke("--version").output)


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("api", "--nonsense"), ("api", "--port", "0"), ("keys", "create")]
)
def test_wrong_usage(bare_shell: Shell, arguments: tuple[str, ...]) -> None:
    """A command line that is not understood is exit code 2, with a hint."""
    result = bare_shell.invoke(*arguments)

    assert result.exit_code == 2
    assert "Usage: " in result.output


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (("api",), "DATABASE_URL"),
        (("worker",), "DATABASE_URL"),
        (("beat",), "DATABASE_URL"),
        (("migrate",), "DATABASE_URL"),
        (("provision",), "DATABASE_URL"),
        (("keys", "create", "--client", "shop"), "DATABASE_URL"),
        (("keys", "list"), "DATABASE_URL"),
        (("keys", "revoke", "oq_x"), "DATABASE_URL"),
    ],
)
def test_missing_settings(bare_shell: Shell, arguments: tuple[str, ...], missing: str) -> None:
    """A setting that a command needs and that is missing is named, with what to do."""
    said = message(bare_shell.invoke(*arguments))

    assert f"{missing} is not set" in said
    assert "otpqueue dev" in said


@pytest.mark.parametrize("command", ["api", "worker", "beat"])
@pytest.mark.parametrize(
    "missing",
    ["REDIS_URL", "INFOBIP_BASE_URL", "INFOBIP_API_KEY", "OTPQUEUE_SEAL_KEYS", "OTPQUEUE_HASH_KEY"],
)
def test_parts_do_not_start_half_set_up(cut_off_shell: Shell, command: str, missing: str) -> None:
    """API, worker and beat check for all they will need before they start."""
    said = message(cut_off_shell.invoke(command, **{missing: ""}))

    assert f"{missing} is not set" in said


@pytest.mark.parametrize("arguments", [("api",), ("worker",), ("beat",), ("migrate",), ("keys", "list")])
def test_wrong_settings(bare_shell: Shell, arguments: tuple[str, ...]) -> None:
    """Every setting that is wrong is named at once, misspelt ones too; no value is printed."""
    wrong = {
        "OTPQUEUE_NONSENSE": "hunter2",
        "PORT": "eighty",
        "OTPQUEUE_MAX_CHECKS": "99",
        "OTPQUEUE_SEAL_KEYS": "hunter2",
        "INFOBIP_BASE_URL": "ftp://hunter2",
    }

    said = message(bare_shell.invoke(*arguments, **wrong))

    for name in wrong:
        assert name in said
    assert "hunter2" not in said


_CANNOT_BE = {
    "OTPQUEUE_COUNTRIES_ALLOWED": "UK",
    "OTPQUEUE_COUNTRIES_BLOCKED": "Narnia",
    "OTPQUEUE_REFUSED_LINES": "telex",
    "OTPQUEUE_DAILY_CAPS_BY_COUNTRY": '{"UK": 5}',
    "OTPQUEUE_SENDERS": '{"US": "MyBrand"}',
    "OTPQUEUE_TEST_NUMBERS": '{"+447700900001": {"code": "123456", "until": "2099-01-01"}}',
    "OTPQUEUE_LIMIT_NUMBER_DAY": "3/31d",
    "OTPQUEUE_LIMIT_KEY_RATE": "99999/s",
    "OTPQUEUE_WRONG_CODES_NUMBER": "3/31d",
    "OTPQUEUE_ALERT_RULES": '{"nonsense": {"off": true}}',
}


@pytest.mark.parametrize(
    "arguments",
    [
        ("api",),
        ("worker",),
        ("beat",),
        ("migrate",),
        ("provision",),
        ("keys", "list"),
        ("stop-sending",),
        ("dev",),
    ],
)
def test_settings_that_only_others_read(cut_off_shell: Shell, arguments: tuple[str, ...]) -> None:
    """What cannot be is refused by every process before it does anything, all of it, in the same words."""
    said = message(cut_off_shell.invoke(*arguments, **_CANNOT_BE))

    first, *lines = said.strip().splitlines()
    assert first == "Error: settings cannot be used:"
    assert sorted({re.split("[ :]", line.removeprefix("  - "))[0] for line in lines}) == sorted(_CANNOT_BE)
    assert "  - OTPQUEUE_COUNTRIES_ALLOWED: 'UK' is not a country (ISO 3166 alpha-2)" in lines


def test_settings_that_celery_cannot_take(cut_off_shell: Shell) -> None:
    """`celery -A otpqueue.worker.main` ends with the same words and no traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "otpqueue.worker.main", "worker"],
        env=os.environ | cut_off_shell.environment | _CANNOT_BE,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 1
    assert "Error: settings cannot be used:" in result.stderr
    assert "'UK' is not a country" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["api", "worker", "beat"])
@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/otp?hunter2=1"),
        ("DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/otp?connect_timeout=hunter2"),
        ("REDIS_URL", "redis://:hunter2@127.0.0.1:1/0?hunter2=1"),
        ("REDIS_URL", "redis://127.0.0.1:1/0?socket_timeout=hunter2"),
        ("OTPQUEUE_BROKER_URL", "amqp://u:hunter2@127.0.0.1:1/otp?hunter2=1"),
        ("OTPQUEUE_BROKER_URL", "amqp://127.0.0.1:1/otp?heartbeat=hunter2"),
    ],
)
def test_options_of_urls_that_are_none(cut_off_shell: Shell, command: str, name: str, url: str) -> None:
    """An option that would make every connection fail is refused at the start, without a part of the URL."""
    said = message(cut_off_shell.invoke(command, **{name: url}))

    assert name in said
    assert "after its `?`" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "hunter2"),
        ("DATABASE_URL", "mysql://root:hunter2@localhost/otp"),
        ("DATABASE_URL", "sqlite:///hunter2.db"),
        ("DATABASE_URL", "postgresql+asyncpg://root:hunter2@localhost/otp"),
        ("DATABASE_URL", "postgresql://root:hunter2@localhost:port/otp"),
        ("DATABASE_URL", "postgresql://root:hunter2@localhost:99999/otp"),
        ("DATABASE_URL", "postgresql:hunter2"),
        ("REDIS_URL", "hunter2"),
        ("REDIS_URL", "http://hunter2"),
        ("REDIS_URL", "redis://:hunter2@localhost:99999/0"),
        ("REDIS_URL", "redis://:hunter2@localhost:port/0"),
        ("REDIS_URL", "redis://:hunter2@localhost:6379/name"),
    ],
)
def test_urls_that_are_none(cut_off_shell: Shell, name: str, url: str) -> None:
    """A URL that cannot be one is a message that names the setting and keeps the password to itself."""
    said = message(cut_off_shell.invoke("migrate", **{name: url}))

    assert name in said
    assert "hunter2" not in said


def test_settings_of_a_file(bare_shell: Shell) -> None:
    """`.env` in the working folder is read; the environment wins over it."""
    (bare_shell.folder / ".env").write_text("PORT=eighty\nDATABASE_URL=mysql://x\n")

    both = message(bare_shell.invoke("migrate"))
    one = message(bare_shell.invoke("migrate", PORT="80"))

    assert "PORT" in both
    assert "PORT" not in one
    assert "DATABASE_URL" in one


@pytest.mark.parametrize(
    "arguments", [("migrate",), ("provision",), ("keys", "list"), ("keys", "create", "--client", "shop")]
)
def test_database_down(cut_off_shell: Shell, arguments: tuple[str, ...]) -> None:
    """A database that cannot be reached is a message."""
    said = message(cut_off_shell.invoke(*arguments), ExitCode.UNREACHABLE)

    assert "database is unavailable" in said
    assert "hunter2" not in said


def test_migrate(shell: Shell, engines: Engines) -> None:
    """`migrate` makes the tables, and does nothing the second time; before it, other commands ask for it."""
    url = engines.postgres.create_database("test_cli_migrate")
    try:
        before = shell.run("keys", "list", DATABASE_URL=url)
        first = shell.run("migrate", DATABASE_URL=url)
        second = shell.run("migrate", DATABASE_URL=url)
        engine = make_engine(url, pool_size=2)
        tables = set(inspect(engine).get_table_names())
        engine.dispose()
    finally:
        engines.postgres.drop_database("test_cli_migrate")

    assert "otpqueue migrate" in message(before)
    for done in (first, second):
        assert (done.returncode, done.stdout) == (0, "the database is up to date\n"), done.stderr
    assert {"clients", "api_keys", "otp_requests", "send_attempts", "checks", "refusals"} <= tables


def test_provision(shell: Shell, provider: Provider) -> None:
    """`provision` makes application and template, says so, and finds them the second time."""
    first, second = shell.run("provision"), shell.run("provision")

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "create application 'otpqueue'\ncreate message template en\n" in first.stdout
    assert "nothing to do: everything is up to date" in second.stdout
    ids = re.search(r"^application \w+\nmessage template en: \w+$", first.stdout, re.MULTILINE)
    assert ids is not None
    assert ids[0] in second.stdout
    (application,) = provider.call("GET", "/2fa/2/applications").json()
    assert application["name"] == "otpqueue"


def test_provision_checks_what_browsers_read(shell: Shell, provider: Provider) -> None:
    """Texts whose last line no browser understands are refused, each by name, before anything is made."""
    right = "{{pin}} is your code.\\n\\n@shop.example #{{pin}}"
    (shell.folder / ".env").write_text(f'INFOBIP_MESSAGE_TEMPLATE="{right}"\n')

    wrong = shell.run("provision", OTPQUEUE_TEMPLATES='{"de": "{{pin}}\\n@shop.example #{{pin}}."}')
    other = shell.run("provision", "--web-otp=other.example")
    missing = shell.run("provision", "--web-otp=shop.example", OTPQUEUE_TEMPLATES='{"de": "{{pin}}"}')
    fine = shell.run("provision", "--web-otp=shop.example", "--dry-run")

    for refused, names in ((wrong, ["'de'"]), (other, ["INFOBIP_MESSAGE_TEMPLATE"]), (missing, ["'de'"])):
        assert refused.returncode == ExitCode.CONFIGURATION
        assert "WebOTP" in refused.stderr
        assert all(name in refused.stderr for name in names)
        assert refused.stderr.count("  - ") == 1
    assert provider.call("GET", "/2fa/2/applications").json() == []
    assert fine.returncode == 0, fine.stderr


def test_provision_with_a_wrong_key(shell: Shell) -> None:
    """With a wrong key the provider's own words are shown, and the key is not."""
    result = shell.run("provision", INFOBIP_API_KEY="hunter2")

    said = message(result, ExitCode.UNREACHABLE)
    assert "HTTP 401" in said
    assert "Invalid login details" in said
    assert "hunter2" not in said


def test_provision_without_the_provider(shell: Shell) -> None:
    """A provider that cannot be reached is a message that points at its URL."""
    said = message(shell.run("provision", INFOBIP_BASE_URL="http://127.0.0.1:1"), ExitCode.UNREACHABLE)

    assert "cannot be reached" in said
    assert "INFOBIP_BASE_URL" in said


def test_api_serves_and_stops(shell: Shell, tmp_path: Path) -> None:
    """`api` listens where it is told, and SIGTERM ends it without a complaint."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    child = ChildProcess(
        "api",
        [sys.executable, "-m", "otpqueue", "api", "--host", "127.0.0.1", "--port", str(port)],
        ready=lambda: requests.get(f"http://127.0.0.1:{port}/health/live", timeout=1).raise_for_status(),
        env={**os.environ, **shell.environment},
        log=tmp_path / "api.log",
        cwd=tmp_path,
        stop_signals=(signal.SIGTERM,),
    )
    child.start()
    try:
        child.wait_ready(30)
    finally:
        child.stop()

    assert child.returncode == 0
    log = (tmp_path / "api.log").read_text()
    assert "Traceback" not in log
    assert "error" not in log.lower()
