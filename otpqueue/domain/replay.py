"""A call that its caller may repeat without harm, and the answer that a repetition gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call that came with an idempotency key."""

    name: str
    """Method and path: the same key on another path is another key."""
    key: str = field(repr=False)
    body: str = field(repr=False)
    """In one form for all bodies that mean the same."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What an accepted call was answered, as plain words of HTTP."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)
    replayed: bool = False
    """Whether an earlier call was given it first."""
