"""The tree of errors, and the clock."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import ModuleType

import pytest

from otpqueue import clock
from otpqueue.api.http import errors as http
from otpqueue.api.problems import PROBLEMS
from otpqueue.domain import errors
from otpqueue.domain.errors import OtpqueueError

MODULES = (errors, http)


def errors_of(module: ModuleType) -> list[type[OtpqueueError]]:
    """Return the errors that a module defines."""
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, OtpqueueError) and kind.__module__ == module.__name__
    ]


OURS = [kind for module in MODULES for kind in errors_of(module)]


@pytest.mark.parametrize("module", MODULES)
def test_documented_tree_is_complete(module: ModuleType) -> None:
    """The tree in the module's docstring has every error under its parent."""
    drawn = re.findall(r"^([│ ├└─]*)(\w+)$", module.__doc__ or "", re.MULTILINE)

    parents: dict[str, str] = {}
    path: list[str] = []
    for branch, name in drawn:
        depth = len(branch) // 4
        path = [*path[:depth], name]
        parents |= {child: parent for parent, child in pairwise(path)}
    root = drawn[0][1]
    assert parents == {
        kind.__name__: kind.__base__.__name__ for kind in errors_of(module) if kind.__name__ != root
    }


@pytest.mark.parametrize("kind", OURS)
def test_message_of_error(kind: type[OtpqueueError]) -> None:
    """The first line of the docstring is the message: one or two sentences."""
    message = kind.message()

    assert message.endswith(".")
    assert "\n" not in message


def test_codes_are_unique() -> None:
    """Each error that a caller can get has a code, a status and a title of its own class."""
    leaves = [kind for kind in OURS if not kind.__subclasses__() and kind.code in PROBLEMS]

    assert len({kind.code for kind in leaves}) == len(leaves) >= 42
    assert all({"code", "status", "title"} <= vars(PROBLEMS[kind.code]).keys() for kind in leaves)
    assert all(re.fullmatch(r"[a-z_]+", kind.code) for kind in leaves)


def test_the_clock_is_aware_and_in_utc() -> None:
    """The present moment is an aware UTC datetime."""
    now = clock.now()

    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=10)
