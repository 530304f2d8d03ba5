"""Every operator action is in the audit trail: a new command, page or call must say here what it records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta

import click
import pytest
from click.testing import CliRunner

from otpqueue import clock
from otpqueue.api.catalog import ENDPOINTS
from otpqueue.cli import COMMANDS, main
from otpqueue.cli.operator import name_operator
from otpqueue.console.action_catalog import ACTIONS
from otpqueue.console.layout import ConsolePage
from otpqueue.console.routes import RESOURCES
from otpqueue.domain.audit import AuditEntry, AuditFilters, AuditSurface
from otpqueue.domain.audit import OperatorAction as Do
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.cli.conftest import Shell
from tests.conftest import NUMBER, Ask
from tests.console.alerting import open_alert
from tests.operations.receiver import Receiver

OF_COMMANDS: dict[str, Do | None] = {
    "alerts ack": Do.ALERT_ACKNOWLEDGED,
    "alerts list": None,
    "alerts rules": None,
    "alerts show": None,
    "alerts silence": Do.ALERT_SILENCED,
    "alerts test": Do.ALERT_CHANNELS_TESTED,
    "alerts unsilence": Do.ALERT_UNSILENCED,
    "api": None,
    "audit": None,
    "beat": None,
    "cancel": None,
    "clients create": Do.CLIENT_CREATED,
    "clients list": None,
    "clients set": Do.CLIENT_SETTING_SET,
    "clients show": None,
    "clients unset": Do.CLIENT_SETTING_UNSET,
    "completion": None,
    "dev": None,
    "doctor": None,
    "erase": Do.NUMBER_ERASED,
    "erasures": None,
    "guard allow": Do.GUARD_ALLOWED,
    "guard decisions": None,
    "guard disallow": Do.GUARD_DISALLOWED,
    "guard list": None,
    "guard report": None,
    "keys create": Do.KEY_CREATED,
    "keys drop-sealed": Do.SEALED_NUMBERS_DROPPED,
    "keys list": None,
    "keys revoke": Do.KEY_REVOKED,
    "keys rotate": Do.KEY_ROTATED,
    "keys rotate-hash": Do.HASH_KEY_ROTATED,
    "keys rotate-seal": Do.SEAL_KEY_ROTATED,
    "load": None,
    # The version of the schema is in `alembic_version`; before the first migration there is no trail.
    "migrate": None,
    "numbers block": Do.NUMBER_BLOCKED,
    "numbers blocked": None,
    "numbers status": Do.NUMBER_SEARCHED,
    "numbers unblock": Do.NUMBER_UNBLOCKED,
    "numbers unlock": Do.NUMBER_UNLOCKED,
    "problems": None,
    "provision": Do.PROVISIONED,
    "purge": Do.PURGED,
    "requests cancel": Do.REQUEST_CANCELLED,
    "requests show": None,
    "resend": None,
    "resume-sending": Do.SENDING_RESUMED,
    # As `cancel`, `resend`, `status` and `verify` a call of the API with a client's key.
    "send": None,
    "sending-status": None,
    "settings": None,
    "simulator": None,
    "stats": None,
    "status": None,
    "stop-sending": Do.SENDING_STOPPED,
    "verify": None,
    "webhooks deliveries": None,
    "webhooks enable": Do.WEBHOOK_ENABLED,
    "webhooks remove": Do.WEBHOOK_REMOVED,
    "webhooks retry": Do.WEBHOOK_RETRIED,
    "webhooks rotate-secret": Do.WEBHOOK_SECRET_ROTATED,
    "webhooks set": Do.WEBHOOK_SET,
    "webhooks show": None,
    "webhooks test": Do.WEBHOOK_TESTED,
    "worker": None,
}
OF_FORMS: dict[str, tuple[Do, ...]] = {
    "LoginPage": (Do.CONSOLE_LOGIN, Do.CONSOLE_LOGIN_REFUSED),
    "LogoutPage": (Do.CONSOLE_LOGOUT,),
    "RequestSearchPage": (Do.NUMBER_SEARCHED,),
    "AcknowledgePage": (Do.ALERT_ACKNOWLEDGED,),
    "SilencePage": (Do.ALERT_SILENCED,),
    "EndSilencePage": (Do.ALERT_UNSILENCED,),
    "ActionPage": tuple(action.records for action in ACTIONS.values()),
}
"""What each page that takes a form records. tests/console sends the forms."""

OF_CALLS: dict[str, Do | None] = {
    "GET /v1/otp-requests": None,
    "POST /v1/otp-requests/search": Do.NUMBER_SEARCHED,
    "GET /v1/otp-requests/{request_id}/history": None,
    "POST /v1/phone-numbers/erase": Do.NUMBER_ERASED,
    "GET /v1/stats": None,
    "GET /metrics": None,
    "GET /v1/alerts": None,
    "POST /v1/alerts/{alert_id}/acknowledge": Do.ALERT_ACKNOWLEDGED,
    "POST /v1/alerts/{alert_id}/silence": Do.ALERT_SILENCED,
    "GET /v1/audit": None,
    "POST /v1/audit/search": None,
    "GET /v1/erasures": None,
}
"""What each call for operators records. tests/api makes them."""


def commands() -> Iterator[str]:
    """Yield every command that does something, with the name of its group."""
    context = click.Context(main)
    for name in [*COMMANDS, "simulator"]:
        command = main.get_command(context, name)
        if isinstance(command, click.Group):
            yield from (f"{name} {below}" for below in command.commands)
        else:
            yield name


def forms(of: type = ConsolePage) -> Iterator[str]:
    """Yield the names of the pages that take a form."""
    for page in of.__subclasses__():
        if hasattr(page, "on_post"):
            yield page.__name__
        yield from forms(page)


def test_every_command_form_and_call_says_what_it_records() -> None:
    """None can be added without a decision, and no action is in the list in vain."""
    calls = [f"{one.method} {one.path}" for one in ENDPOINTS if "admin" in one.scopes]

    assert sorted(commands()) == sorted(OF_COMMANDS)
    assert ConsolePage in RESOURCES
    assert sorted(forms()) == sorted(OF_FORMS)
    assert sorted(calls) == sorted(OF_CALLS)
    of_forms = {action for actions in OF_FORMS.values() for action in actions}
    assert {*OF_COMMANDS.values(), *OF_CALLS.values(), *of_forms} - {None} == set(Do)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Yield a receiver of webhooks."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Parts]:
    """Return the parts that commands make in this process, to close them: a process's end would."""
    made: list[Parts] = []
    check = Parts.__post_init__

    def keep(parts: Parts) -> None:
        made.append(parts)
        check(parts)

    monkeypatch.setattr(Parts, "__post_init__", keep)
    return made


def test_every_command_is_recorded(
    parts: Parts, ask: Ask, environment: dict[str, str], receiver: Receiver, made: list[Parts]
) -> None:
    """Each command that acts writes its entry, with the system user and host."""
    done: set[str] = set()
    environment |= {"OTPQUEUE_WEBHOOK_ALLOW_PRIVATE": "true"}
    old = environment["OTPQUEUE_HASH_KEY"]

    def run(command: str, *arguments: str, **differing: str) -> str:
        before = len(trail(parts))
        result = CliRunner().invoke(
            main, [*command.split(), *arguments], input=f"{NUMBER}\n", env={**environment, **differing}
        )
        while made:
            made.pop().close()
        assert result.exit_code == 0, (command, result.output)
        found = trail(parts)
        new = found[: len(found) - before]
        assert {one.action for one in new} == {OF_COMMANDS[command]}, command
        assert {(one.actor.surface, one.actor.name) for one in new} == {
            (AuditSurface.CLI, name_operator())
        }, command
        done.add(command)
        return result.stdout

    request = ask()
    alert_id = open_alert(parts, requests=[])
    run("clients create", "shop")
    run("clients set", "shop", "limits.number_15m=9/15m")
    run("clients unset", "shop", "limits.number_15m")
    key = run("keys create", "--client", "shop").strip()
    successor = run("keys rotate", key[:11]).split()[0]
    run("keys revoke", successor[:11])
    run("numbers status")
    run("numbers block", "--reason", "a test")
    run("numbers unblock", "--reason", "a test")
    with connection(parts.engine) as conn:
        conn.exec_driver_sql(
            "INSERT INTO number_guesses (client_id, number_hash, wrong_in_a_row, updated_at) "
            "SELECT client_id, number_hash, 100, now() FROM otp_requests"
        )
    run("numbers unlock", "--reason", "a test")
    run("stop-sending", "--reason", "a test")
    run("resume-sending", "--reason", "a test")
    run("guard allow", "GB", "--reason", "a test")
    run("guard disallow", "GB", "--reason", "a test")
    run("alerts ack", str(alert_id))
    silenced = run("alerts silence", str(alert_id), "--reason", "a test")
    (silence_id,) = re.findall(r"silence ([0-9a-f-]{36})", silenced)
    run("alerts unsilence", silence_id)
    run("alerts test")
    run("webhooks set", "shop", receiver.url)
    run("webhooks test", "shop")
    run("webhooks rotate-secret", "shop")
    run("webhooks enable", "shop", "--reason", "a test")
    run("webhooks retry", "shop")
    run("webhooks remove", "shop", "--yes")
    run("requests cancel", str(request.id), "--reason", "a test")
    for command in ("provision", "purge", "keys rotate-seal"):
        run(command)
    run("keys rotate-hash", OTPQUEUE_HASH_KEY=f"{'A' * 43}=,{old}")
    run("keys drop-sealed", "lost", "--yes")
    run("erase", "--reason", "art. 17", "--yes")

    assert done == {command for command, action in OF_COMMANDS.items() if action}


def trail(parts: Parts) -> tuple[AuditEntry, ...]:
    """Return the audit trail, newest first."""
    return parts.audit.list(AuditFilters(), cursor=None, limit=500).entries


def test_audit_and_erasures_are_listed(parts: Parts, ask: Ask, shell: Shell) -> None:
    """Lists for people and as JSON, with filters; no whole number in any."""
    ask()
    parts.blocklist.block(NUMBER, reason="asked us to", until=None, now=clock.now())
    parts.clients.create("shop", now=clock.now())

    lines = shell.invoke("audit").output.splitlines()
    blocked = shell.invoke("audit", "--action", "number_blocked", "--since", "1h", "--json").output
    of_shop = shell.invoke("audit", "--client", "shop").output
    of_number = CliRunner().invoke(main, ["audit", "--number"], input=NUMBER, env=shell.environment).output
    nobody = shell.invoke("audit", "--actor", "nobody").output
    one = shell.invoke("audit", "--limit", "1").output
    parts.erase(NUMBER, country=None, client_id=None, now=clock.now(), reason="art. 17")
    (proof,) = json.loads(shell.invoke("erasures", "--json").output)["erasures"]
    listed = shell.invoke("erasures", "--since", "1h").output

    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  process +otpqueue  number_blocked  country GB, "
        r'\+44\*{8}23 #[a-z]{6}  "asked us to"',
        lines[1],
    )
    (entry,) = json.loads(blocked)["entries"]
    assert (entry["action"], entry["reason"], entry["country"]) == ("number_blocked", "asked us to", "GB")
    assert "client_created" in of_shop
    assert "number_blocked" not in of_shop
    assert "number_blocked" in of_number
    assert nobody == "no entries\n"
    assert "only the newest 1 are shown" in one
    assert proof["reason"] == "art. 17"
    assert proof["id"] in listed
    assert NUMBER[3:] not in "".join([*lines, blocked, of_number, listed])
    assert shell.invoke("erasures", "--since", "1h").exit_code == 0
    assert parts.audit.erasures(since=clock.now() + timedelta(hours=1)) == []
