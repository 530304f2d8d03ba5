"""`otpqueue settings`."""

from __future__ import annotations

from pathlib import Path

import pytest

from otpqueue.cli.exits import ExitCode
from tests.cli.conftest import Shell


def test_settings_in_force_hide_secrets(cut_off_shell: Shell) -> None:
    """Values are shown, those that are set are marked, and secrets are not shown."""
    result = cut_off_shell.invoke("settings", PORT="9000", OTPQUEUE_METRICS_TOKEN="hunter2-hunter2-hunter2")

    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert "* PORT=9000" in lines
    assert "* OTPQUEUE_METRICS_TOKEN=(secret, set)" in lines
    assert "* DATABASE_URL=(secret, set)" in lines
    assert "  OTPQUEUE_GUARD=shadow" in lines
    assert "hunter2" not in result.output
    for name in ("DATABASE_URL", "REDIS_URL", "OTPQUEUE_SEAL_KEYS", "OTPQUEUE_HASH_KEY", "INFOBIP_API_KEY"):
        if value := cut_off_shell.environment.get(name):
            assert value not in result.output


def test_overridden_constant_is_in_force(cut_off_shell: Shell) -> None:
    """A constant is listed only if a variable overrides it."""
    result = cut_off_shell.invoke("settings", OTPQUEUE_TUNING_PURGE_EVERY_S="7")

    assert "* OTPQUEUE_TUNING_PURGE_EVERY_S=7" in result.output.splitlines()
    assert "OTPQUEUE_TUNING_NOTIFY_EVERY_S" not in result.output


@pytest.mark.parametrize(("option", "path"), [("--markdown", "docs/settings.md"), ("--env", ".env.example")])
def test_files_are_generated(cut_off_shell: Shell, project: Path, option: str, path: str) -> None:
    """The output is the file, even if the current settings are invalid."""
    result = cut_off_shell.invoke("settings", option, PORT="many")

    assert result.exit_code == 0
    assert result.output == (project / path).read_text(encoding="utf-8")


def test_invalid_settings_are_listed(cut_off_shell: Shell) -> None:
    """Every problem is printed, also those that only the domain finds."""
    result = cut_off_shell.invoke("settings", OTPQUEUE_COUNTRIES_ALLOWED="UK")

    assert result.exit_code == ExitCode.CONFIGURATION
    assert "OTPQUEUE_COUNTRIES_ALLOWED: 'UK' is not a country" in result.output
