"""docs/integrate.md says what to show for every problem that a person can cause or wait for."""

from __future__ import annotations

import re
from pathlib import Path

from otpqueue.api.catalog import ENDPOINTS
from otpqueue.api.problems import PROBLEMS
from otpqueue.domain import errors

CALLS = {
    "/v1/otp-requests",
    "/v1/otp-requests/{request_id}/verify",
    "/v1/otp-requests/{request_id}/resend",
}
FOR_DEVELOPERS = {
    "idempotency_in_progress",
    "idempotency_key_reused",
    "invalid_request",
    "missing_scope",
    "request_not_found",
    "resend_in_progress",
    "unauthenticated",
}
"""Codes that an integration causes: the page has them elsewhere, or as errors of the integration."""


def test_every_problem_has_a_text(project: Path) -> None:
    """The table has every code of the three calls, and no code that does not exist."""
    page = (project / "docs" / "integrate.md").read_text(encoding="utf-8")
    section = page.partition("## What to show the person")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    listed = [code for row in rows for code in re.findall(r"`(\w+)`", row)]
    possible = {
        error.code
        for endpoint in ENDPOINTS
        if endpoint.path in CALLS and endpoint.method == "POST"
        for error in endpoint.all_errors
        if error.__module__.startswith(errors.__name__)  # not those of malformed HTTP
    }

    assert len(listed) == len(set(listed))
    assert set(listed) <= set(PROBLEMS) | {"code"}
    assert sorted(possible - set(listed) - FOR_DEVELOPERS) == []
