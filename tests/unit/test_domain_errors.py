"""The tree of errors, and the clock."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from otpqueue import clock
from otpqueue.domain import errors
from otpqueue.domain.errors import OtpqueueError

OURS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, OtpqueueError) and kind.__module__ == errors.__name__
]


def test_the_tree_that_is_drawn_is_the_tree_there_is() -> None:
    """The module's picture names every error under its parent."""
    drawn = re.findall(r"^([│ ├└─]*)(\w+)$", errors.__doc__ or "", re.MULTILINE)

    parents: dict[str, str] = {}
    path: list[str] = []
    for branch, name in drawn:
        depth = len(branch) // 4
        path = [*path[:depth], name]
        parents |= {child: parent for parent, child in pairwise(path)}
    assert parents == {kind.__name__: kind.__base__.__name__ for kind in OURS if kind is not OtpqueueError}


@pytest.mark.parametrize("kind", OURS)
def test_error_says_what_happened(kind: type[OtpqueueError]) -> None:
    """An error's docstring is its message: one sentence."""
    message = kind.message()

    assert message.endswith(".")
    assert "\n" not in message


def test_leaves_have_codes_of_their_own() -> None:
    """A caller can tell errors apart by code."""
    leaves = [kind for kind in OURS if not kind.__subclasses__()]

    assert len({kind.code for kind in leaves}) == len(leaves)
    assert all(re.fullmatch(r"[a-z_]+", kind.code) for kind in leaves)


def test_the_clock_is_aware_and_in_utc() -> None:
    """The present moment is an aware UTC datetime."""
    now = clock.now()

    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=10)
