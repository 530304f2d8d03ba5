"""`otpqueue keys`: made and shown once, listed by prefix, revoked."""

from __future__ import annotations

import re

import pytest

from otpqueue.domain.errors import Unauthenticated
from otpqueue.operations.keys import prefix_of
from otpqueue.wiring import Parts
from tests.cli.conftest import Shell


def test_life_of_keys(shell: Shell, parts: Parts) -> None:
    """A key is printed once and works; the list shows its prefix only; revoked, it works no more."""
    created = shell.run("keys", "create", "--client", "shop")
    other = shell.run("keys", "create", "--client", "shop", "--scope", "admin", "--scope", "send")
    key, other_key = created.stdout.strip(), other.stdout.strip()
    known, other_known = parts.keys.authenticate(key), parts.keys.authenticate(other_key)
    revoked = shell.run("keys", "revoke", prefix_of(key))
    listed = shell.run("keys", "list")

    assert created.returncode == other.returncode == revoked.returncode == listed.returncode == 0
    assert created.stdout == f"{key}\n"
    assert re.fullmatch(r"oq_[a-z0-9]{8}_[\w-]{43}", key)
    assert (known.client_name, known.scopes) == ("shop", {"send", "verify"})
    assert (other_known.client_id, other_known.scopes) == (known.client_id, {"admin", "send"})
    assert revoked.stdout == f"revoked {prefix_of(key)}\n"
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    first, second = listed.stdout.splitlines()
    assert re.fullmatch(rf"{prefix_of(key)}  shop  send,verify  {when}  revoked {when}", first)
    assert re.fullmatch(rf"{prefix_of(other_key)}  shop  admin,send  {when}  in force", second)
    with pytest.raises(Unauthenticated):
        parts.keys.authenticate(key)
    assert parts.keys.authenticate(other_key) == other_known


def test_unknown_prefix(shell: Shell) -> None:
    """A prefix that no key in force has is a message."""
    result = shell.run("keys", "revoke", "oq_nonsense")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "Error: no key in force has the prefix oq_nonsense\n"


def test_unknown_scope(cut_off_shell: Shell) -> None:
    """A scope that does not exist is a message that names those that do."""
    result = cut_off_shell.invoke("keys", "create", "--client", "shop", "--scope", "everything")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: scopes must be among admin, send, verify\n"
