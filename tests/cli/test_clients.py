"""`otpqueue clients` and `otpqueue numbers`: what operators set for a client, and lift from a number."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import text

from otpqueue import clock
from otpqueue.cli.exits import ExitCode
from otpqueue.domain.audit import AuditFilters
from otpqueue.domain.errors import NumberLocked
from otpqueue.operations.request import RequestedCode
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.cli.conftest import Shell
from tests.conftest import NUMBER


def said(result: subprocess.CompletedProcess[str]) -> str:
    """Return what a command that succeeded printed."""
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_life_of_a_client(shell: Shell, parts: Parts) -> None:
    """A client is made, gets a setting of its own, shows it, loses it."""
    assert said(shell.run("clients", "create", "shop")) == "created shop\n"
    said(shell.run("keys", "create", "--client", "bank"))
    assert said(shell.run("clients", "set", "shop", "limits.number_15m=5/15m")) == (
        "shop: limits.number_15m=5/15m\n"
    )
    said(shell.run("clients", "set", "shop", "limits.key_rate=off"))

    listed = said(shell.run("clients", "list")).splitlines()
    assert [line.split("  ")[0] for line in listed] == ["bank", "shop"]
    assert listed[1].endswith("  limits.key_rate=off limits.number_15m=5/15m")
    assert said(shell.run("clients", "show", "shop")) == "limits.key_rate=off\nlimits.number_15m=5/15m\n"
    stored = {"limits": {"number_15m": "5/15m", "key_rate": "off"}}
    assert json.loads(said(shell.run("clients", "show", "shop", "--json"))) == stored
    said(shell.run("clients", "unset", "shop", "limits.number_15m"))
    assert parts.clients.show("shop").settings == {"limits": {"key_rate": "off"}}


def test_logo_is_read_from_a_file(shell: Shell, parts: Parts, tmp_path: Path) -> None:
    """A picture is stored whole and shown short; what is no small picture is rejected."""
    picture = b"\x89PNG\r\n\x1a\n" + bytes(3000)
    files = {"logo.png": picture, "large.png": picture * 6, "logo.svg": b"<svg/>", "text.png": b"text"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    parts.clients.create("shop", now=clock.now())

    stored = shell.invoke("clients", "set", "shop", f"page.logo=@{tmp_path / 'logo.png'}")
    shown = shell.invoke("clients", "show", "shop")
    refused = {
        name: shell.invoke("clients", "set", "shop", f"page.logo=@{tmp_path / name}")
        for name in ("large.png", "logo.svg", "text.png", "none.png")
    }

    assert (stored.exit_code, shown.exit_code) == (0, 0)
    assert "page.logo=data:image/png;base64," in shown.output
    assert len(shown.output) < 120
    logo = parts.access.client_settings(parts.keys.client_id("shop", now=clock.now())).page.uploaded_logo
    assert logo is not None
    assert logo.data == picture
    note_set = shell.invoke("clients", "set", "shop", "page.note.en=Help: +44 20 7946 0000")
    assert note_set.exit_code == 0, note_set.output
    note, entry, *_ = parts.audit.list(AuditFilters(), cursor=None, limit=9).entries
    assert note.details["value"] == "Help: ***"
    assert entry.details["value"].startswith("data:image/png;base64,")
    assert entry.details["value"].endswith("(4034 characters)")
    assert len(entry.details["value"]) < 300
    assert all(one.exit_code != 0 for one in refused.values())
    messages = [refused[name].output for name in refused]
    expected = ["At most 16384 are possible", "must be one of .png", "must be an https URL", "cannot be read"]
    assert [text for text, message in zip(expected, messages, strict=True) if text not in message] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "shop"), "client already exists"),
        (("create", " "), "client must be 1 to 64 printable characters"),
        (("show", "nobody"), "client does not exist (`otpqueue clients list`)"),
        (("set", "nobody", "limits.number_day=5/d"), "client does not exist"),
        (("set", "shop", "limits.number_day"), "Give PATH=VALUE"),
        (("set", "shop", "limits.number_day=many"), "limits.number_day must be like `3/15m`"),
        (
            ("set", "shop", "limits.number_day_all=5/d"),
            "limits.number_day_all is not a setting",
        ),
        (("unset", "shop", "limits.number_day"), "limits.number_day is not set"),
    ],
)
def test_what_cannot_be_done(shell: Shell, parts: Parts, arguments: tuple[str, ...], message: str) -> None:
    """What does not fit is one clear message, and changes nothing."""
    parts.clients.create("shop", now=clock.now())

    result = shell.run("clients", *arguments)

    missing = "does not exist" in message or "is not set" in message
    is_usage = "Give PATH" in message
    expected = ExitCode.USAGE if is_usage else ExitCode.NOT_FOUND if missing else ExitCode.REFUSED
    assert (result.returncode, result.stdout) == (expected, "")
    assert f"Error: {message}" in result.stderr
    assert parts.clients.show("shop").settings == {}


def test_settings_of_a_newer_version(shell: Shell, parts: Parts) -> None:
    """What this version does not know is shown, said not to be heeded, and kept."""
    parts.clients.create("shop", now=clock.now())
    with connection(parts.engine) as conn:
        conn.execute(text("""UPDATE clients SET settings = '{"colour": "red"}'"""))

    shown = shell.run("clients", "show", "shop")
    said(shell.run("clients", "set", "shop", "limits.number_day=5/d"))

    assert shown.stdout == "colour=red\n"
    assert shown.stderr == "colour is ignored: this version does not support it\n"
    assert parts.clients.show("shop").settings == {"colour": "red", "limits": {"number_day": "5/d"}}


def typed(shell: Shell, *arguments: str, number: str = NUMBER) -> tuple[int, str, str]:
    """Run a command that asks for a number; return its exit code, and what it printed where."""
    result = shell.run(*arguments, typed=f"{number}\n")
    return result.returncode, result.stdout, result.stderr


def lock(parts: Parts, client: str) -> None:
    """Have NUMBER guessed at a hundred times."""
    with connection(parts.engine) as conn:
        conn.execute(
            text("INSERT INTO number_guesses VALUES (:client, :number, 100, NULL, now())"),
            {
                "client": parts.keys.client_id(client, now=clock.now()),
                "number": parts.vault.number_hash(NUMBER),
            },
        )


def test_locked_number(shell: Shell, parts: Parts) -> None:
    """An operator sees which clients' people were locked out, and lets one in; the number is typed."""
    lock(parts, "shop")
    lock(parts, "bank")
    wanted = RequestedCode(phone_number=NUMBER)
    shop = parts.keys.client_id("shop", now=clock.now())

    code, out, err = typed(shell, "numbers", "status")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "bank  100 consecutive wrong codes  locked",
        "shop  100 consecutive wrong codes  locked",
    ]
    with pytest.raises(NumberLocked):
        parts.request(wanted, client_id=shop, now=clock.now())
    assert typed(shell, "numbers", "unlock", "--client", "shop")[:2] == (0, "unlocked for shop\n")

    assert parts.request(wanted, client_id=shop, now=clock.now())
    bank, shops = typed(shell, "numbers", "status")[1].splitlines()
    assert bank.endswith("locked")
    assert shops.startswith("shop  0 consecutive wrong codes  open  unlocked ")
    assert typed(shell, "numbers", "unlock")[1] == "unlocked for bank\nunlocked for shop\n"


def test_number_without_wrong_codes(shell: Shell, parts: Parts) -> None:
    """There is nothing to see, nothing to unlock, and a number that is none is told."""
    assert typed(shell, "numbers", "status")[:2] == (0, "no wrong codes since the last right code\n")
    code, out, err = typed(shell, "numbers", "unlock")
    assert (code, out) == (ExitCode.NOT_FOUND, "")
    assert "number has no wrong codes to reset" in err
    code, _, err = typed(shell, "numbers", "unlock", number="12")
    assert code == ExitCode.REFUSED
    assert "phone_number" in err
