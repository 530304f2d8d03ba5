"""`otpqueue keys`: made and shown once, listed by prefix, revoked."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from otpqueue import clock
from otpqueue.cli.exits import ExitCode
from otpqueue.domain.errors import Unauthenticated
from otpqueue.operations.access.keys import prefix_of
from otpqueue.wiring import Parts
from tests.cli.conftest import Shell


def test_life_of_keys(shell: Shell, parts: Parts) -> None:
    """A key is printed once; the list shows its prefix only; rotated or revoked it works no more."""
    created = shell.run("keys", "create", "--client", "shop", "--expires-in", "90d", "--note", "billing")
    other = shell.run("keys", "create", "--client", "shop", "--scope", "admin", "--scope", "send")
    key, other_key = created.stdout.strip(), other.stdout.strip()
    known = parts.keys.authenticate(key, now=clock.now())
    other_known = parts.keys.authenticate(other_key, now=clock.now())
    rotated = shell.run("keys", "rotate", prefix_of(key), "--overlap", "2h")
    new_key = rotated.stdout.strip()
    revoked = shell.run("keys", "revoke", prefix_of(other_key))
    listed = shell.run("keys", "list")

    for done in (created, other, rotated, revoked, listed):
        assert done.returncode == 0, done.stderr
    assert created.stdout == f"{key}\n"
    assert re.fullmatch(r"oq_[a-z0-9]{8}_[\w-]{43}", key)
    assert (known.client_name, known.scopes, known.note) == ("shop", {"send", "verify"}, "billing")
    assert (other_known.client_id, other_known.scopes) == (known.client_id, {"admin", "send"})
    assert revoked.stdout == f"revoked {prefix_of(other_key)}\n"
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(rf"{prefix_of(key)} works until {when} UTC\n", rotated.stderr)
    head, first, second, third = (re.sub(" {2,}", "  ", line) for line in listed.stdout.splitlines())
    assert head == "PREFIX  CLIENT  SCOPES  CREATED  STATE  LAST USED  NOTE"
    assert re.fullmatch(
        rf"{prefix_of(key)}  shop  send,verify  {when}  expiring {when}  {when}  billing", first
    )
    assert re.fullmatch(rf"{prefix_of(other_key)}  shop  admin,send  {when}  revoked {when}  {when}", second)
    assert re.fullmatch(
        rf"{prefix_of(new_key)}  shop  send,verify  {when}  active {when}  never  billing", third
    )
    for secret in (key, other_key, new_key):
        assert secret not in listed.stdout
        assert secret.split("_", 2)[2] not in listed.stdout
    with pytest.raises(Unauthenticated):
        parts.keys.authenticate(other_key, now=clock.now())
    in_two_hours = clock.now() + timedelta(hours=2)
    with pytest.raises(Unauthenticated):
        parts.keys.authenticate(key, now=in_two_hours)
    assert parts.keys.authenticate(new_key, now=in_two_hours).scopes == {"send", "verify"}


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_unknown_prefix(shell: Shell, command: str) -> None:
    """A prefix that no key in force has is a message."""
    result = shell.run("keys", command, "oq_nonsense")

    assert (result.returncode, result.stdout) == (ExitCode.NOT_FOUND, "")
    assert result.stderr == "Error: prefix oq_nonsense matches no active API key (`otpqueue keys list`)\n"


def test_ambiguous_prefix(shell: Shell, parts: Parts) -> None:
    """A prefix of two keys is a message with their ids, one of which does."""
    for n in range(2):
        scopes = frozenset({"send"})
        parts.keys.create(client="shop", scopes=scopes, now=clock.now(), key=f"oq_twin_{n}")
    first, second = parts.keys.list()

    refused = shell.run("keys", "revoke", "oq_twin")
    done = shell.run("keys", "revoke", str(second.id))

    assert refused.returncode == ExitCode.REFUSED
    assert "pass the id of one instead" in refused.stderr
    assert str(first.id) in refused.stderr
    assert (done.returncode, done.stdout) == (0, "revoked oq_twin\n")


@pytest.mark.parametrize("text", ["90", "d", "1.5h", "-1d", "1y", "", "1 d", "\u0661d", "9999999d"])
def test_no_length_of_time(cut_off_shell: Shell, text: str) -> None:
    """What is no length of time is a message that shows how to write one."""
    result = cut_off_shell.invoke("keys", "create", "--client", "shop", "--expires-in", text)

    assert result.exit_code == 2
    assert "must be a whole number and a unit (s, m, h, d or w)" in result.stderr


def test_end_that_is_out_of_reach(cut_off_shell: Shell) -> None:
    """A lifetime beyond the longest duration or of zero is a usage error."""
    for text, said in (("999999w", "at most 36500d"), ("0s", "must be longer than zero")):
        result = cut_off_shell.invoke("keys", "create", "--client", "shop", "--expires-in", text)

        assert result.exit_code == 2
        assert said in result.stderr


def test_unknown_scope(cut_off_shell: Shell) -> None:
    """A scope that does not exist is a message that names those that do."""
    result = cut_off_shell.invoke("keys", "create", "--client", "shop", "--scope", "everything")

    assert (result.exit_code, result.stdout) == (ExitCode.REFUSED, "")
    assert result.stderr == "Error: scopes must be among admin, read, send, verify\n"


@pytest.mark.parametrize("arguments", [("stop-sending",), ("resume-sending",)])
def test_argument_that_is_no_text(shell: Shell, parts: Parts, arguments: tuple[str, ...]) -> None:
    """Bytes in another encoding are a message, not a traceback."""
    result = shell.run(*arguments, "--client", "caf\udce9")

    assert result.returncode == ExitCode.USAGE
    assert result.stderr == "Error: an argument or the input is not valid UTF-8\n"
