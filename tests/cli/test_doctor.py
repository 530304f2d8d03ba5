"""`otpqueue doctor` with real parts that are broken: each is named with a remedy, and hides no other."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import text

from otpqueue import clock
from otpqueue.cli.doctor.findings import DoctorCheck, FindingDraft, FindingLevel, report_ok, run_checks
from otpqueue.cli.exits import ExitCode
from otpqueue.domain.heartbeats import ProcessKind
from otpqueue.jobs import QUEUES
from otpqueue.operations.request import RequestedCode
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.alerts.receiving import Inbox, Receivers
from tests.cli.conftest import Shell
from tests.conftest import NUMBER, Ask, Engines, MakeParts, Provider
from tests.operations.looking import show_life

NOWHERE = "127.0.0.1:1"
KEYS = {
    "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(bytes(range(32))).decode(),
    "OTPQUEUE_HASH_KEY": base64.b64encode(bytes(range(32, 64))).decode(),
}
"""Keys that look random, unlike those of other tests."""


def examine(shell: Shell, exit_code: int, **differing: str | None) -> dict[str, list[dict[str, Any]]]:
    """Run the doctor and return its findings by check."""
    result = shell.invoke("doctor", "--json", **differing)
    assert result.exit_code == exit_code, result.output
    assert "hunter2" not in result.output
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(result.stdout)["findings"]:
        assert bool(one["remedy"]) == (one["level"] in {"failure", "warning"}), one
        found.setdefault(one["check"], []).append(one)
    return found


def levels(found: dict[str, list[dict[str, Any]]], check: str) -> set[str]:
    """Return the levels of a check's findings."""
    return {one["level"] for one in found[check]}


def texts(found: dict[str, list[dict[str, Any]]], check: str, level: str) -> str:
    """Return the texts of a check's findings of one level."""
    return "\n".join(one["what"] for one in found[check] if one["level"] == level)


def show_everyone(parts: Parts) -> None:
    """Have every process of a deployment running."""
    show_life(parts, "web:1", kind=ProcessKind.API)
    show_life(parts, "web:2", *QUEUES)
    show_life(parts, "web:3", kind=ProcessKind.BEAT)


def test_healthy_deployment(shell: Shell, parts: Parts, make_parts: MakeParts, client_id: UUID) -> None:
    """All checks pass, with mail and webhook reached but nothing sent; only the odd version is a warning."""
    make_parts(**KEYS).request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())
    show_everyone(parts)
    receivers = Receivers(Inbox())

    with receivers.up():
        found = examine(
            shell,
            ExitCode.PROBLEM,
            OTPQUEUE_RECEIPTS_USER="u",
            OTPQUEUE_RECEIPTS_PASSWORD="hunter2",
            **receivers.settings,
            **KEYS,
        )
        people = shell.invoke("doctor", **receivers.settings, **KEYS)

    assert {check for check in found if levels(found, check) != {"ok"}} == {"processes", "webhooks", "disk"}
    assert levels(found, "webhooks") == levels(found, "disk") == {"skipped"}
    assert texts(found, "processes", "warning").startswith("processes of version 1 run beside version")
    assert "1 x worker of the queue slow" in texts(found, "processes", "ok")
    assert "newest 1 requests" in texts(found, "stored keys", "ok")
    assert (receivers.inbox.posts, receivers.inbox.mails) == ([], [])
    assert "\nWARNING  processes    processes of version 1" in people.stdout
    assert "-> Restart them" in people.stdout


def test_nothing_can_be_reached(cut_off_shell: Shell) -> None:
    """Every engine that is down is a failure of its own; what needs it is skipped, and no secret is shown."""
    found = examine(
        cut_off_shell,
        ExitCode.USAGE,
        **KEYS,
        OTPQUEUE_BROKER_URL=f"amqp://u:hunter2@{NOWHERE}/x",
        OTPQUEUE_ALERT_EMAIL_TO="ops@example.com",
        OTPQUEUE_ALERT_EMAIL_FROM="otp@example.com",
        OTPQUEUE_SMTP_URL=f"smtp://u:hunter2@{NOWHERE}",
        OTPQUEUE_ALERT_WEBHOOK_URL=f"http://{NOWHERE}/hunter2",
    )

    for check in ("database", "redis", "broker", "infobip", "alerts"):
        assert "failure" in levels(found, check), check
    for check in ("migrations", "stored keys", "application", "webhooks", "processes"):
        assert levels(found, check) == {"skipped"}, check
    assert "port 1 failed" in texts(found, "database", "failure")
    assert levels(found, "keys") == {"ok"}
    assert texts(found, "alerts", "failure").count("\n") == 1


def test_settings_that_are_missing_or_invalid(bare_shell: Shell, shell: Shell) -> None:
    """A missing setting is reported once; an invalid one does not hide what the other checks find."""
    bare = examine(bare_shell, ExitCode.USAGE)
    invalid = examine(shell, ExitCode.USAGE, PORT="many", OTPQUEUE_NONSENSE="1")

    assert [check for check in bare if "failure" in levels(bare, check)] == [
        *("database", "redis", "keys", "infobip")
    ]
    assert texts(bare, "keys", "failure").count("is not set") == 2
    assert texts(invalid, "settings", "failure").count("\n") == 1
    assert levels(invalid, "database") == levels(invalid, "redis") == {"ok"}


def test_schema_of_another_version(shell: Shell, parts: Parts, engines: Engines) -> None:
    """A missing migration, a newer schema and an empty database are told apart."""
    empty = engines.postgres.create_database("test_doctor_empty")

    def look(revision: str) -> str:
        with connection(parts.engine) as conn:
            conn.execute(text("UPDATE alembic_version SET version_num = :one"), {"one": revision})
        return texts(examine(shell, ExitCode.USAGE), "migrations", "failure")

    with connection(parts.engine) as conn:
        head = conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    try:
        assert look("0022") == f"the schema is at 0022, this version needs {head}"
        assert look("9999") == "the schema is at 9999, which this version does not know"
        fresh = examine(shell, ExitCode.USAGE, DATABASE_URL=empty)
    finally:
        with connection(parts.engine) as conn:
            conn.execute(text("UPDATE alembic_version SET version_num = :one"), {"one": head})
        engines.postgres.drop_database("test_doctor_empty")
    assert texts(fresh, "migrations", "failure") == "the database has no tables"
    assert levels(fresh, "processes") == {"skipped"}


def test_account_against_the_policy(shell: Shell, parts: Parts, provider: Provider) -> None:
    """What was changed at Infobip is read back: violations are failures, low ceilings are warnings."""
    ids = parts.provision.ids()
    assert ids is not None
    path = f"/2fa/2/applications/{ids.application_id}"
    template = f"{path}/messages/{ids.message_ids['en']}"
    application = provider.call("GET", path).json()
    application["configuration"] |= {
        "pinTimeToLive": "11m",
        "pinAttempts": 11,
        "allowMultiplePinVerifications": False,
        "sendPinPerApplicationLimit": "100/1d",
        "sendPinPerPhoneNumberLimit": "3/1d",
    }
    assert provider.call("PUT", path, json=application).status_code == 200
    changed = {"messageText": "Code {{pin}}", "pinType": "ALPHANUMERIC", "pinLength": 4}
    assert provider.call("PUT", template, json=changed).status_code == 200

    found = examine(shell, ExitCode.USAGE, OTPQUEUE_DAILY_CAP="none")
    capped = examine(shell, ExitCode.USAGE)
    lost = examine(shell, ExitCode.USAGE, INFOBIP_APPLICATION_ID="gone", INFOBIP_MESSAGE_ID="gone")

    for expected in (
        "longer than 10 minutes (pinTimeToLive: 11m)",
        "more than 10 times (pinAttempts: 11)",
        "allowMultiplePinVerifications",
        "template en: codes have fewer than 6 digits (pinLength: 4)",
        "template en: codes are not numeric",
    ):
        assert expected in texts(found, "application", "failure")
    warned = texts(found, "application", "warning")
    assert (
        "sendPinPerPhoneNumberLimit (3/1d) is lower than OTPQUEUE_LIMIT_NUMBER_DAY_ALL (20 a day)" in warned
    )
    assert "no daily cap" in warned
    assert "Infobip differs from the settings: update application" in warned
    assert "(100/1d) is lower than OTPQUEUE_DAILY_CAP (10000 a day)" in texts(
        capped, "application", "warning"
    )
    assert "cannot be read: HTTP 404" in texts(lost, "application", "failure")


def test_account_that_rejects_the_key(shell: Shell, parts: Parts) -> None:
    """A wrong API key is a failure, and is not shown."""
    found = examine(shell, ExitCode.USAGE, INFOBIP_API_KEY="hunter2")

    assert "rejects the API key (HTTP 401)" in texts(found, "infobip", "failure")
    assert "cannot be read: HTTP 401" in texts(found, "application", "failure")


def test_keys_of_another_deployment(shell: Shell, ask: Ask) -> None:
    """Keys that did not write the stored numbers are found, and so are keys that are not random."""
    ask()
    other = base64.b64encode(bytes(range(32))).decode()
    plain = base64.b64encode(b"\0" * 32).decode()

    hashed = examine(shell, ExitCode.USAGE, OTPQUEUE_HASH_KEY=other)
    sealed = examine(shell, ExitCode.USAGE, OTPQUEUE_SEAL_KEYS=f"k1:{other}", OTPQUEUE_HASH_KEY=other)
    renamed = examine(shell, ExitCode.USAGE, OTPQUEUE_SEAL_KEYS=f"k2:{plain}")

    assert "another OTPQUEUE_HASH_KEY" in texts(hashed, "stored keys", "failure")
    assert "OTPQUEUE_SEAL_KEYS does not open" in texts(sealed, "stored keys", "failure")
    assert "have a key in common" in texts(sealed, "keys", "warning")
    assert "lacks keys" in texts(renamed, "stored keys", "failure")
    assert "OTPQUEUE_SEAL_KEYS has a key that is not random" in texts(renamed, "keys", "failure")


def test_processes_and_receivers(shell: Shell, parts: Parts, client_id: object) -> None:
    """A queue without a worker, a second beat, and a webhook that nobody answers."""
    show_life(parts, "web:1", "send", in_touch=False)
    show_life(parts, "web:2", "periodic")
    show_life(parts, "web:3", kind=ProcessKind.BEAT)
    show_life(parts, "web:4", kind=ProcessKind.BEAT)
    private = {"OTPQUEUE_WEBHOOK_ALLOW_PRIVATE": "true"}
    assert shell.invoke("webhooks", "set", "test", f"http://{NOWHERE}/", **private).exit_code == 0

    found = examine(shell, ExitCode.USAGE, **private)
    forbidden = examine(shell, ExitCode.USAGE)

    failures = texts(found, "processes", "failure")
    assert "no API runs" in failures
    assert "1 x worker of the queue send, cut off from the broker" in failures
    assert "no worker of the queue slow runs" in failures
    assert "2 beats run" in texts(found, "processes", "warning")
    assert "at 127.0.0.1 cannot be reached (connection_failed)" in texts(found, "webhooks", "failure")
    assert "cannot be reached (https_required)" in texts(forbidden, "webhooks", "failure")


def test_what_is_on_the_network(shell: Shell) -> None:
    """Plain HTTP on an address of the network is a warning, and a page for development a failure."""
    found = examine(
        shell,
        ExitCode.USAGE,
        OTPQUEUE_HOST="0.0.0.0",  # noqa: S104
        OTPQUEUE_TRY_PAGE="true",
        OTPQUEUE_GUIDE_CLIENT="guest",
    )
    no_file = examine(
        shell, ExitCode.USAGE, OTPQUEUE_TLS_CERT_FILE="/nowhere", OTPQUEUE_TLS_KEY_FILE="/nowhere"
    )

    assert "accepts plain HTTP" in texts(found, "https", "warning")
    assert "console is served over plain HTTP" in texts(found, "pages", "warning")
    assert "/try" in texts(found, "pages", "failure")
    assert "OTPQUEUE_TLS_CERT_FILE cannot be read" in texts(no_file, "https", "failure")


def test_checks_that_raise_or_hang(parts: Parts) -> None:
    """A check that raises or does not end is a failure, without the error's text, and the others are run."""
    released = threading.Event()

    def hang(_: Parts) -> Iterable[FindingDraft]:
        released.wait(60)
        return []

    def fail(_: Parts) -> Iterable[FindingDraft]:
        yield report_ok("half of it works")
        raise ValueError("hunter2")

    checks = [DoctorCheck("a", hang), DoctorCheck("b", fail), DoctorCheck("c", lambda _: [report_ok("fine")])]
    try:
        found = run_checks(checks, parts, timeout_s=0.2)
    finally:
        released.set()

    assert [(one.check, one.level) for one in found] == [
        ("a", FindingLevel.FAILURE),
        ("b", FindingLevel.OK),
        ("b", FindingLevel.FAILURE),
        ("c", FindingLevel.OK),
    ]
    assert found[0].what == "the check did not end within 0.2 s"
    assert found[2].what == "the check failed: ValueError"
