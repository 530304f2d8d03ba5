"""`otpqueue doctor`: checks a deployment from this shell and names a remedy for each problem."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress

import click

from otpqueue.cli.beside_dev import build_environment
from otpqueue.cli.doctor import clocks, exposure, keys, processes, provider, receivers, stores
from otpqueue.cli.doctor.findings import DoctorCheck, Finding, FindingLevel, run_checks
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.exits import ExitCode
from otpqueue.cli.output import json_option, print_facts
from otpqueue.settings import Settings, SettingsError, load
from otpqueue.wiring import Parts

CHECKS = (
    DoctorCheck("database", stores.check_database, reports_settings=True),
    DoctorCheck("migrations", stores.check_migrations),
    DoctorCheck("redis", stores.check_redis, reports_settings=True),
    DoctorCheck("broker", stores.check_broker),
    DoctorCheck("keys", keys.check_keys),
    DoctorCheck("stored keys", keys.check_stored_keys),
    DoctorCheck("infobip", provider.check_api_key, reports_settings=True),
    DoctorCheck("application", provider.check_application),
    DoctorCheck("clock", clocks.check_clock),
    DoctorCheck("webhooks", receivers.check_webhooks),
    DoctorCheck("alerts", receivers.check_alert_channels),
    DoctorCheck("processes", processes.check_processes),
    DoctorCheck("https", exposure.check_https),
    DoctorCheck("pages", exposure.check_pages),
    DoctorCheck("disk", exposure.check_disk),
)
"""The checks in the order of the output, after the check of the settings."""

_EXITS = {
    FindingLevel.OK: ExitCode.OK,
    FindingLevel.SKIPPED: ExitCode.OK,
    FindingLevel.WARNING: ExitCode.PROBLEM,
    FindingLevel.FAILURE: ExitCode.USAGE,
}
_LEVELS = list(FindingLevel)
_VARIABLE = re.compile(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b|\bPORT\b")


@click.command()
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1, 120),
    default=15,
    show_default=True,
    help="Seconds for all checks, which run at the same time.",
)
@json_option
@explain_errors
def doctor(timeout_s: float, *, as_json: bool) -> None:
    """Check the deployment and print a remedy for each problem.

    It sends no code, no mail and no webhook, and changes nothing.

    Exit code 0: no problem. 1: warnings only. 2: at least one failure.
    """
    findings = _examine(timeout_s)
    worst = max((one.level for one in findings), key=_LEVELS.index)
    counts = {level.value: sum(one.level is level for one in findings) for level in FindingLevel}
    facts = {"status": worst, "counts": counts, "findings": findings}
    print_facts(facts, _format_findings(findings, counts), as_json=as_json)
    raise click.exceptions.Exit(_EXITS[worst])


def _examine(timeout_s: float) -> list[Finding]:
    try:
        environment = build_environment()
    except SettingsError:  # reported below
        environment = None
    given = dict(os.environ) if environment is None else environment
    findings: list[Finding] = []
    try:
        parts = _build_parts(given, is_beside_dev=environment is not None)
    except SettingsError as error:
        findings = [_describe_setting(problem) for problem in error.problems]
        # Checks that do not need the invalid settings run with these unset.
        named = {name for problem in error.problems for name in _VARIABLE.findall(problem)}
        known = {str(one.alias) for one in Settings.model_fields.values()}
        given = {name: value for name, value in given.items() if name not in named}
        # An empty value also hides the one in .env.
        given |= dict.fromkeys(named & known, "")
        try:
            parts = _build_parts(given, is_beside_dev=environment is not None)
        except SettingsError:
            return [
                *findings,
                *(
                    Finding(check=one.name, level=FindingLevel.SKIPPED, what="not checked: see the settings")
                    for one in CHECKS
                ),
            ]
    else:
        beside = " of the running `otpqueue dev`" if environment is not None else ""
        findings = [Finding(check="settings", level=FindingLevel.OK, what=f"the settings{beside} are valid")]
    with closing(parts):
        _make_shared_parts(parts)
        return findings + run_checks(CHECKS, parts, timeout_s=timeout_s)


def _make_shared_parts(parts: Parts) -> None:
    """Make what several checks use, so that no two threads make it at once. Each connects when first used."""
    for name in ("engine", "redis", "limiter", "publisher", "vault", "transport", "provision"):
        with suppress(SettingsError):  # the checks report it
            getattr(parts, name)


def _build_parts(environment: dict[str, str], *, is_beside_dev: bool) -> Parts:
    return Parts(load(environment, dotenv=None) if is_beside_dev else load(environment))


def _describe_setting(problem: str) -> Finding:
    return Finding(
        check="settings",
        level=FindingLevel.FAILURE,
        what=problem,
        remedy="Correct it in the environment or in .env, see docs/settings.md.",
    )


def _format_findings(findings: Sequence[Finding], counts: dict[str, int]) -> Iterator[str]:
    width = max(len(one.check) for one in findings)
    for one in findings:
        level = one.level.value if one.level in {FindingLevel.OK, FindingLevel.SKIPPED} else one.level.upper()
        yield f"{level:<9}{one.check:<{width}}  {one.what}"
        if one.remedy:
            yield f"{'':<9}{'':<{width}}  -> {one.remedy}"
    yield ""
    yield ", ".join(f"{count} {level}" for level, count in counts.items() if count)
