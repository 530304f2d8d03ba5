"""Each mutation still applies, and names something that can find it; `mutate` itself takes minutes."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults.checks import CHECKS
from tests.faults.cluster import PROJECT
from tests.faults.mutate import MUTATIONS, Mutation, mutated

NAMES = [mutation.name for mutation in MUTATIONS]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAMES)
def test_mutation_applies(mutation: Mutation, tmp_path: Path) -> None:
    """Each of its texts is found exactly once, and what results is still Python."""
    for path in {edit.path for edit in mutation.edits}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text((PROJECT / path).read_text())

    mutated(mutation, tmp_path)

    for edit in mutation.edits:
        text = (tmp_path / edit.path).read_text()
        assert text != (PROJECT / edit.path).read_text()
        if edit.path.endswith(".py"):
            ast.parse(text)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=NAMES)
def test_mutation_names_what_finds_it(mutation: Mutation) -> None:
    """It names a check of the harness and a run, or tests that exist."""
    assert bool(mutation.check) == bool(mutation.run) != bool(mutation.tests)
    assert not mutation.check or mutation.check in {check.__name__ for check in CHECKS}
    for test in mutation.tests:
        path, _, function = test.partition("::")
        assert f"def {function.partition('[')[0]}" in (PROJECT / path).read_text()


def test_names_differ() -> None:
    """A mutation is run by its name."""
    assert len(set(NAMES)) == len(NAMES)


def test_every_check_of_the_harness_has_a_mutation() -> None:
    """A check that no mutation names has never been seen to find anything in a run of the harness."""
    untried = {check.__name__ for check in CHECKS} - {mutation.check for mutation in MUTATIONS}

    assert untried == UNTRIED


UNTRIED = {
    # The commit must be cut off from its answer: `right-code-unrecorded` has tests of its own.
    "right_codes_told",
}
