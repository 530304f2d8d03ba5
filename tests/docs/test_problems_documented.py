"""docs/problems.md explains every problem code, with its cause and remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from otpqueue.api import problem_page
from otpqueue.api.problems import PROBLEMS
from otpqueue.cli.problems import problems
from otpqueue.domain.errors import FAULT_DETAILS, CredentialFault


def test_page_is_generated(project: Path) -> None:
    """The page is what the command prints."""
    printed = CliRunner().invoke(problems, ["--markdown"])

    assert printed.exit_code == 0
    assert (project / "docs/problems.md").read_text(encoding="utf-8") == printed.output


def test_every_code_has_one_section() -> None:
    """Each code is in one group of the page, and no heading is empty."""
    groups = list(problem_page.list_problems())

    assert sorted(one.code for _, found in groups for one in found) == sorted(PROBLEMS)
    assert all(found for _, found in groups)
    headings = re.findall(r"^### `(\w+)`$", problem_page.write_page(), re.MULTILINE)
    assert sorted(headings) == sorted(PROBLEMS)


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_cause_and_remedy(code: str) -> None:
    """Each problem has a cause and a remedy of its own, in whole sentences."""
    problem = PROBLEMS[code]

    for text in (problem.message(), vars(problem)["cause"], vars(problem)["remedy"]):
        assert re.fullmatch(r"[A-Z`].+\.", text)
    assert problem_page.describe_calls(problem)
    shown = CliRunner().invoke(problems, [code]).output
    assert problem.cause in shown
    assert problem.remedy in shown


def test_every_fault_has_a_detail() -> None:
    """The page lists each reason of `unauthenticated`."""
    page = problem_page.write_page()

    assert set(FAULT_DETAILS) == set(CredentialFault)
    assert all(f"| `{fault}` | {FAULT_DETAILS[fault]} |" in page for fault in CredentialFault)


def test_unknown_code() -> None:
    """A code that does not exist is an error of the command line."""
    refused = CliRunner().invoke(problems, ["no_such_code"])

    assert refused.exit_code == 2
    assert "No problem has the code no_such_code." in refused.output
