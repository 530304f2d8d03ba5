"""What all commands have in common: help, JSON, exit codes, completion, questions and progress."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import get_completion_class

from otpqueue.cli import COMMANDS, CommandEntry, main
from otpqueue.cli.exits import ExitCode
from otpqueue.cli.output import encode_facts, print_facts
from otpqueue.cli.progress import show_progress
from otpqueue.cli.reference import WITHOUT_JSON, get_summary, list_commands, write_page
from otpqueue.embedded import EngineHome
from otpqueue.wiring import Parts
from tests.cli.conftest import Shell
from tests.conftest import NUMBER, Ask
from tests.operations.looking import Rows


def test_page_is_generated(project: Path) -> None:
    """docs/cli.md lists every command and exit code: `python -m otpqueue.cli.reference > docs/cli.md`."""
    assert (project / "docs/cli.md").read_text(encoding="utf-8") == write_page()


def test_summaries_are_those_of_the_commands() -> None:
    """The help lists commands without importing them, with the first sentence of each command's own help."""
    context = click.Context(main)
    for name, entry in COMMANDS.items():
        command = main.get_command(context, name)
        assert command is not None
        assert entry.summary == get_summary(command), name


def test_help_imports_no_command() -> None:
    """Listing the commands needs none of the slow modules."""
    program = (
        "import sys; from otpqueue.cli import main; main(['--help'], standalone_mode=False); "
        "print(*sorted({'sqlalchemy', 'pydantic', 'celery', 'requests', 'structlog'} & sys.modules.keys()))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == ""


def test_every_command_has_json() -> None:
    """Each command that prints facts has `--json`, and the exceptions are as documented."""
    lacking = {
        name
        for name, command in list_commands(main)
        if "as_json" not in {parameter.name for parameter in command.params}
    }

    assert lacking == WITHOUT_JSON


def test_commands_print_json(shell: Shell, parts: Parts) -> None:
    """A walk through commands of each kind: every output is one JSON document."""

    def run(*arguments: str) -> object:
        result = shell.invoke(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    created = run("keys", "create", "--client", "shop", "--scope", "send")
    assert isinstance(created, dict)
    assert created["scopes"] == ["send"]
    prefix = created["key"][:11]
    listed = run("keys", "list")
    assert isinstance(listed, list)
    assert [one["state"] for one in listed if one["prefix"] == prefix] == ["active"]
    for arguments in (
        ("keys", "rotate", prefix),
        ("keys", "rotate-seal", "--dry-run"),
        ("clients", "create", "other"),
        ("clients", "set", "shop", "daily_cap=5"),
        ("clients", "show", "shop"),
        ("clients", "list"),
        ("clients", "unset", "shop", "daily_cap"),
        ("guard", "allow", "GB"),
        ("guard", "list"),
        ("guard", "report"),
        ("guard", "decisions"),
        ("guard", "disallow", "GB"),
        ("alerts", "list"),
        ("alerts", "rules"),
        ("alerts", "silence", "success_rate"),
        ("alerts", "test"),
        ("webhooks", "set", "shop", "https://example.com/"),
        ("webhooks", "show"),
        ("webhooks", "show", "shop"),
        ("webhooks", "rotate-secret", "shop"),
        ("webhooks", "deliveries", "shop"),
        ("webhooks", "enable", "shop"),
        ("webhooks", "retry", "shop"),
        ("webhooks", "remove", "shop", "--yes"),
        ("numbers", "blocked"),
        ("stop-sending", "--country", "ID"),
        ("sending-status",),
        ("resume-sending", "--country", "ID"),
        ("stats",),
        ("purge",),
        ("purge", "--dry-run"),
        ("settings",),
        ("migrate",),
        ("provision", "--dry-run"),
    ):
        run(*arguments)


def test_what_json_cannot_hold() -> None:
    """Bytes, such as hashes, are a bug in the command and never text."""
    with pytest.raises(TypeError):
        print_facts({"number_hash": b"x"}, as_json=True)
    assert encode_facts({ExitCode.OK: frozenset({"b", "a"})}) == {"0": ["a", "b"]}


def test_bug(bare_shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that nobody expected has a traceback and an exit code of its own."""
    broken = click.Command("broken", callback=lambda: {}["nothing"])
    monkeypatch.setattr("otpqueue.cli.duration.broken", broken, raising=False)
    monkeypatch.setattr("otpqueue.cli.COMMANDS", {**COMMANDS, "broken": CommandEntry("duration", "")})

    result = bare_shell.invoke("broken")

    assert result.exit_code == ExitCode.INTERNAL
    assert "KeyError" in result.stderr


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion(bare_shell: Shell, shell_name: str) -> None:
    """Each script calls otpqueue, which completes commands, subcommands and options."""
    script = bare_shell.invoke("completion", shell_name)
    kind = get_completion_class(shell_name)
    assert kind is not None

    def complete(*words: str) -> set[str]:
        completing = kind(main, {}, "otpqueue", "_OTPQUEUE_COMPLETE")
        return {item.value for item in completing.get_completions([*words[:-1]], words[-1])}

    assert script.exit_code == 0
    assert f"_OTPQUEUE_COMPLETE={shell_name}_complete" in script.stdout
    assert complete("sen") == {"send", "sending-status"}
    assert complete("keys", "rotate-") == {"rotate-seal", "rotate-hash"}
    assert "--json" in complete("stats", "--")


def test_erase_of_many(shell: Shell, ask: Ask, rows: Rows) -> None:
    """One number a line: a line that is none keeps all, and without a terminal nothing happens unasked."""
    ask()
    ask("+447700900124")
    both = f"{NUMBER}\n\n+447700900124\n{NUMBER}\n"

    unasked = shell.run("erase", typed=both)
    wrong = shell.run("erase", "--yes", typed=f"{both}nonsense\n")
    kept = len(rows.requests())
    erased = shell.run("erase", "--yes", "--json", typed=both)

    assert (unasked.returncode, wrong.returncode, kept) == (ExitCode.USAGE, ExitCode.REFUSED, 2)
    assert "Add --yes" in unasked.stderr
    assert wrong.stderr.startswith("Error: number 3 of 3: phone_number ")
    assert (erased.returncode, erased.stderr) == (0, "")
    assert json.loads(erased.stdout)["numbers"] == 2
    assert json.loads(erased.stdout)["rows"]["requests"] == 2
    assert rows.requests() == []


def test_erase_asks_at_a_terminal(shell: Shell, ask: Ask, rows: Rows) -> None:
    """Without `--yes` a person is asked: `n` erases nothing, `y` does."""
    ask()

    refused = shell.run("erase", typed=f"{NUMBER}\nn\n", terminal=True)
    kept = len(rows.requests())
    agreed = shell.run("erase", typed=f"{NUMBER}\ny\n", terminal=True)

    assert (refused.returncode, kept) == (ExitCode.PROBLEM, 1)
    assert "Erase all data of this number, for every client? [y/N]" in refused.stderr
    assert "Aborted!" in refused.stderr
    assert agreed.returncode == 0
    assert rows.requests() == []


@pytest.fixture
def rows(parts: Parts) -> Rows:
    """Return the tables."""
    return Rows(parts.engine)


def test_progress_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar for each part, which ends at its end."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stderr, monkeypatch.context() as patching:
        patching.setattr(sys, "stderr", stderr)
        with show_progress() as progress:
            progress("k1", 1, 2)
            progress("k1", 2, 2)
            progress("k2", 3, 3)
        stderr.flush()
        shown = ""
        while "3/3" not in shown:
            shown += os.read(ours, 65536).decode()
    os.close(ours)

    assert "k1" in shown
    assert "2/2" in shown


def test_no_progress_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log gets no bars."""
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)

    with show_progress() as progress:
        progress("k1", 1, 2)

    assert log.getvalue() == ""


def test_operator_beside_a_running_dev(shell: Shell, bare_shell: Shell, parts: Parts) -> None:
    """Where `otpqueue dev` runs, commands use its settings, unless the user's own name another deployment."""
    about = {"api_url": "http://127.0.0.1:1", "api_key": "oq_x", "environment": shell.environment}
    theirs = shell.environment["DATABASE_URL"]
    with EngineHome(bare_shell.folder / ".otpqueue") as home:
        (home.path / "dev.json").write_text(json.dumps(about))

        beside = bare_shell.invoke("clients", "create", "shop")
        same = bare_shell.invoke("clients", "list", DATABASE_URL=theirs, OTPQUEUE_DAILY_CAP="7")
        (bare_shell.folder / ".env").write_text("REDIS_URL=redis://127.0.0.1:1/0\n")
        other = bare_shell.invoke("clients", "list")
        (bare_shell.folder / ".env").unlink()
        exported = bare_shell.invoke("dev", "--env")
        as_json = bare_shell.invoke("dev", "--env", "--json")
    ended = bare_shell.invoke("dev", "--env")
    alone = bare_shell.invoke("clients", "list")

    assert beside.exit_code == same.exit_code == 0, beside.output
    assert "shop" in same.output
    assert (other.exit_code, alone.exit_code) == (ExitCode.CONFIGURATION,) * 2
    assert "DATABASE_URL is not set" in other.output
    values = json.loads(as_json.stdout)
    assert values == shell.environment | {"OTPQUEUE_URL": "http://127.0.0.1:1", "OTPQUEUE_API_KEY": "oq_x"}
    sourced = subprocess.run(
        ["sh", "-c", f'{exported.stdout}\nprintf %s "$OTPQUEUE_HASH_KEY"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sourced.stdout == shell.environment["OTPQUEUE_HASH_KEY"]
    assert ended.exit_code == ExitCode.NOT_FOUND
    assert bare_shell.invoke("dev", "--json").exit_code == ExitCode.USAGE
