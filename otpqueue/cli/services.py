"""The commands that run a service or prepare the database and the provider."""

from __future__ import annotations

import os
from contextlib import closing

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.exits import CommandFailed, ExitCode
from otpqueue.cli.options import json_option, make_parts
from otpqueue.cli.output import print_facts
from otpqueue.domain.errors import DatabaseMisconfigured, DatabaseUnavailable
from otpqueue.domain.templates import find_web_otp_problem
from otpqueue.heap import collect_rarely, freeze_heap
from otpqueue.operations.privacy.rotate_seal import refusal_to_start
from otpqueue.operations.provision import Provisioned
from otpqueue.settings import Settings, SettingsError
from otpqueue.store import placement
from otpqueue.telemetry import logs
from otpqueue.wiring import Parts

log = logs.get_logger(__name__)


def _load_complete_settings() -> Settings:
    """Return the settings that API, workers and beat need.

    Raises SettingsError when one is missing or invalid, and DatabaseMisconfigured for a database that they
    cannot use. A database that cannot be reached is only logged: it may come back.
    """
    current = settings.load()
    for needed in ("database_url", "redis_url", "infobip_base_url", "infobip_api_key"):
        current.require(needed)
    current.sealing_keys()
    current.hashing_keys()
    with closing(Parts(current)) as parts:
        _ = parts.tracer, parts.redis, parts.publisher, parts.vault
        try:
            placement.check(parts.engine)
        except DatabaseMisconfigured:
            raise
        except DatabaseUnavailable:
            log.warning("database_not_checked")
    return current


def _load_startable_settings() -> Settings:
    """Return the settings as `_load_complete_settings` does.

    Raises SettingsError also when a key that stored numbers need is missing.
    """
    current = _load_complete_settings()
    with closing(Parts(current)) as parts:
        why = refusal_to_start(parts.rotate_seal)
    if why:
        raise SettingsError([why])
    return current


@click.command()
@click.option("--host", help="Address to listen on. Default: OTPQUEUE_HOST.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on. Default: PORT.")
@explain_errors
def api(host: str | None, port: int | None) -> None:
    """Serve the HTTP API."""
    from otpqueue.api.http import tls  # noqa: PLC0415 - the other commands need no web server
    from otpqueue.api.http.sockets import check_address  # noqa: PLC0415
    from otpqueue.api.server import serve  # noqa: PLC0415

    current = _load_startable_settings()
    logs.configure_logs(process="api", style=current.log_format, level=current.log_level)
    tls.check(current, now=clock.now())
    given = {"host": host, "port": port}
    current = current.model_copy(update={name: value for name, value in given.items() if value is not None})
    try:
        check_address(current.host, current.port)
    except OSError as error:
        why = error.strerror or str(error)
        raise CommandFailed(
            ExitCode.REFUSED, f"Cannot listen on {current.host} port {current.port}: {why}"
        ) from None
    freeze_heap()
    serve(current)


@click.command()
@click.option(
    "--queues",
    "-Q",
    default="send,periodic,slow",
    show_default=True,
    help="Queues to serve, separated by commas.",
)
@click.option(
    "--jobs",
    default=4,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Concurrent jobs. A `send` job runs OTPQUEUE_SENDER_THREADS threads of its own.",
)
@explain_errors
def worker(queues: str, jobs: int) -> None:
    """Run a Celery worker.

    On SIGTERM it stops claiming, finishes the sends in progress and releases its other requests.
    """
    _load_startable_settings()
    from otpqueue.worker.main import run_worker  # noqa: PLC0415 - builds the application

    collect_rarely()
    # Threads: the pump must run in the process that receives SIGTERM.
    code = run_worker(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={jobs}",
            f"--queues={queues}",
            f"--hostname={queues.replace(',', '+')}-{os.getpid()}@%h",
            "--without-gossip",
            "--without-mingle",
        ]
    )
    raise SystemExit(code)


@click.command()
@explain_errors
def beat() -> None:
    """Run Celery beat, which enqueues the periodic jobs. A second instance is harmless."""
    _load_complete_settings()
    from otpqueue.worker.main import app  # noqa: PLC0415 - builds the application

    collect_rarely()
    app.start(["--quiet", "beat", "--pidfile="])


@click.command()
@json_option
@explain_errors
def migrate(*, as_json: bool) -> None:
    """Upgrade the database schema to this version. Concurrent runs are safe."""
    from otpqueue.store.migrate import upgrade  # noqa: PLC0415 - Alembic is slow to import

    parts = make_parts()
    upgrade(parts.engine)
    print_facts({"migrated": True}, ["the database is up to date"], as_json=as_json)
    # Migrating needs no keys. If keys are configured, warn now about one that is missing.
    if parts.settings.seal_keys and parts.settings.hash_key and (why := refusal_to_start(parts.rotate_seal)):
        click.echo(f"API and workers will not start: {why}", err=True)


@click.command()
@click.option("--dry-run", is_flag=True, help="Print the planned changes, and make none.")
@click.option(
    "--subscribe", metavar="URL", help="Also create a subscription that pushes delivery reports to this URL."
)
@click.option(
    "--web-otp",
    metavar="DOMAIN",
    help="Refuse texts without the last line `@DOMAIN #{{pin}}`, which browsers need for WebOTP.",
)
@json_option
@explain_errors
def provision(dry_run: bool, subscribe: str | None, web_otp: str | None, *, as_json: bool) -> None:
    """Create or update the 2FA application and its message templates at Infobip.

    Their ids are stored in Postgres. API and workers notice a change without a restart.
    """
    parts = make_parts()
    _check_web_otp(parts.settings, web_otp)
    provisioned = parts.provision(parts.transport, now=clock.now(), dry_run=dry_run)
    facts: dict[str, object] = {"dry_run": dry_run, "actions": provisioned.actions, "ids": provisioned.ids}
    lines = _format_provisioned(provisioned, dry_run=dry_run)
    if subscribe and not dry_run:
        from otpqueue.infobip import provisioning  # noqa: PLC0415 - only here

        username = parts.settings.require("receipts_user")
        password = parts.settings.require("receipts_password")
        created = provisioning.subscribe_to_reports(
            parts.transport, url=subscribe, username=username, password=password
        )
        facts["subscription_id"] = created
        lines.append(f"subscription {created} pushes delivery reports to {subscribe}")
    print_facts(facts, lines, as_json=as_json)


def _format_provisioned(provisioned: Provisioned, *, dry_run: bool) -> list[str]:
    actions = provisioned.actions or ("nothing to do: everything is up to date",)
    lines = [f"would {action}" if dry_run and provisioned.actions else action for action in actions]
    if provisioned.ids and not dry_run:
        lines.append(f"application {provisioned.ids.application_id}")
        lines += [
            f"message template {key}: {one}" for key, one in sorted(provisioned.ids.message_ids.items())
        ]
    return lines


def _check_web_otp(current: Settings, domain: str | None) -> None:
    """Check the message texts for WebOTP. Raises CommandFailed for texts that browsers cannot read."""
    texts = {"INFOBIP_MESSAGE_TEMPLATE": current.infobip_message_template} | {
        f"OTPQUEUE_TEMPLATES, {language!r}": text for language, text in current.templates.items()
    }
    problems = [
        f"{name}: {problem}"
        for name, text in texts.items()
        if (problem := find_web_otp_problem(text, domain=domain)) is not None
    ]
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise CommandFailed(
            ExitCode.CONFIGURATION, f"Browsers cannot read the code from these texts (WebOTP):\n{lines}"
        )
