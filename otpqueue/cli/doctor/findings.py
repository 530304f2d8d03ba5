"""What a check of the doctor finds, and how all checks run: in parallel, each within its time limit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from queue import Empty, SimpleQueue

from otpqueue.cli.errors import describe_error
from otpqueue.settings import SettingsError
from otpqueue.wiring import Parts


class FindingLevel(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    SKIPPED = "skipped"
    """Not checked, because it is not configured or something that it needs is broken."""
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check, or of one part of it."""

    check: str
    level: FindingLevel
    what: str
    remedy: str | None = None


@dataclass(frozen=True)
class DoctorCheck:
    """A check of one part of the deployment."""

    name: str
    run: Callable[[Parts], Iterable[FindingDraft]]
    reports_settings: bool = False
    """Whether a missing setting is a failure of this check. It is reported once, so others are skipped."""


@dataclass(frozen=True)
class FindingDraft:
    """A finding without the name of its check."""

    level: FindingLevel
    what: str
    remedy: str | None = None


def report_ok(what: str) -> FindingDraft:
    """Return a finding without a problem."""
    return FindingDraft(FindingLevel.OK, what)


def report_skipped(what: str) -> FindingDraft:
    """Return a finding about something that was not checked."""
    return FindingDraft(FindingLevel.SKIPPED, what)


def report_warning(what: str, remedy: str) -> FindingDraft:
    """Return a finding about something that works, but should be changed."""
    return FindingDraft(FindingLevel.WARNING, what, remedy)


def report_failure(what: str, remedy: str) -> FindingDraft:
    """Return a finding about something that does not work."""
    return FindingDraft(FindingLevel.FAILURE, what, remedy)


class CheckNotPossible(Exception):
    """A check needs something that is broken, which another check reports."""


def run_checks(checks: Sequence[DoctorCheck], parts: Parts, *, timeout_s: float) -> list[Finding]:
    """Run all checks at once and return their findings in the order of the checks.

    A check that raises, or does not end within `timeout_s` seconds, is a failure and affects no other check.
    """
    ended: SimpleQueue[tuple[DoctorCheck, list[FindingDraft]]] = SimpleQueue()
    for check in checks:
        # A daemon, because a check that hangs must not keep the process alive.
        threading.Thread(
            target=lambda check=check: ended.put((check, _run_check(check, parts))), daemon=True
        ).start()
    found: dict[str, list[FindingDraft]] = {}
    deadline = time.monotonic() + timeout_s
    while len(found) < len(checks):
        try:
            check, drafts = ended.get(timeout=max(deadline - time.monotonic(), 0))
        except Empty:
            break
        found[check.name] = drafts
    late = report_failure(
        f"the check did not end within {timeout_s:g} s", "Check the network, or allow more with --timeout."
    )
    return [
        Finding(check=check.name, level=draft.level, what=draft.what, remedy=draft.remedy)
        for check in checks
        for draft in found.get(check.name, [late])
    ]


def _run_check(check: DoctorCheck, parts: Parts) -> list[FindingDraft]:
    drafts: list[FindingDraft] = []
    try:
        drafts.extend(check.run(parts))
    except CheckNotPossible as error:
        drafts.append(report_skipped(str(error)))
    except SettingsError as error:
        if check.reports_settings:
            drafts += [
                report_failure(one, "Set it for all processes and this shell.") for one in error.problems
            ]
        else:
            drafts.append(report_skipped("not checked, because a setting is missing"))
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
        drafts.append(_describe_failed_check(error))
    return drafts


def _describe_failed_check(error: Exception) -> FindingDraft:
    failure = describe_error(error)
    if failure is not None:
        return report_failure(" ".join(failure.message.split()), "Fix what the message names.")
    # The text of an unknown error may contain a secret.
    return report_failure(f"the check failed: {type(error).__name__}", "This is a bug: report it.")
