"""Stores the state in a file: one JSON document, read at start, replaced atomically after changes.

Applications, templates, PINs, limits, messages, subscriptions, reports, tokens and the clock are kept;
faults, receipt rules and counts, which belong to one test run, are not.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError

from otpqueue.simulator.applications import Application
from otpqueue.simulator.auth import Tokens
from otpqueue.simulator.clock import MAX_AHEAD_S, Clock
from otpqueue.simulator.inbox import InboxMessage
from otpqueue.simulator.outbox import Push
from otpqueue.simulator.pins import Pin
from otpqueue.simulator.receipts import DeliveryReport
from otpqueue.simulator.state import SimulatorState
from otpqueue.simulator.subscriptions import Subscriptions

DEBOUNCE_S: Final = 0.5


class StateFileError(Exception):
    """A state file cannot be read; the message says which and why."""


class Snapshot(BaseModel):
    """The content of a state file."""

    version: Literal[1] = 1
    ahead_s: float
    applications: list[Application]
    pins: list[Pin]
    sends: dict[str, list[float]]
    verifications: dict[str, list[float]]
    throttles: dict[str, list[float]]
    messages: list[InboxMessage]
    subscriptions: Subscriptions
    scheduled: list[DeliveryReport]
    pullable: list[DeliveryReport]
    ready: list[DeliveryReport]
    retries: list[Push]
    tokens: Tokens


_SNAPSHOT: Final = TypeAdapter(Snapshot)


class StateFile:
    """Loads a state from a file and saves its changes."""

    def __init__(self, path: Path, state: SimulatorState) -> None:
        self._path = path
        self._state = state
        self._saved = state.changes

    def load(self) -> None:
        """Restore the state from the file; does nothing if the file is missing or empty.

        Raises `StateFileError` when it cannot be read or is not of this version.
        """
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise StateFileError(f"{self._path}: {error.strerror or error}") from error
        if not text.strip():
            return
        try:
            snapshot = _SNAPSHOT.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise StateFileError(f"{self._path} is not a state file: {where} {first['msg']}") from error
        restore_snapshot(self._state, snapshot)
        self._saved = self._state.changes

    async def run(self) -> None:
        """Write the file shortly after each change, until cancelled."""
        while True:
            await asyncio.sleep(DEBOUNCE_S)
            if self._state.changes != self._saved:
                self.save()

    def save(self) -> None:
        """Write the file in one step, so that a reader finds the old state or the new one.

        A write error is printed on standard error, and the write is retried after the next interval.
        """
        with self._state.lock:
            changes = self._state.changes
            text = _SNAPSHOT.dump_json(take_snapshot(self._state), by_alias=True)
        try:
            _replace(self._path, text)
        except OSError as error:
            sys.stderr.write(f"Cannot write {self._path}: {error.strerror or error}\n")
            return
        self._saved = changes


def take_snapshot(state: SimulatorState) -> Snapshot:
    """Return a snapshot of a state; hold its lock."""
    return Snapshot.model_construct(
        version=1,
        ahead_s=state.clock.ahead_s,
        applications=list(state.applications.values()),
        pins=list(state.pins.all()),
        sends=state.sends.times(),
        verifications=state.verifications.times(),
        throttles=state.throttles.times(),
        messages=state.inbox.newest()[::-1],
        subscriptions=state.outbox.subscriptions,
        scheduled=[report for _due, _order, report in sorted(state.outbox.scheduled)],
        pullable=list(state.outbox.pullable),
        ready=list(state.outbox.ready),
        retries=list(state.outbox.retries),
        tokens=state.tokens,
    )


def restore_snapshot(state: SimulatorState, snapshot: Snapshot) -> None:
    """Replace a state by a snapshot."""
    with state.lock:
        state.reset()
        state.clock = Clock(min(max(snapshot.ahead_s, 0.0), MAX_AHEAD_S))
        state.applications = {application.id: application for application in snapshot.applications}
        for pin in snapshot.pins:
            state.pins.add(pin)
        state.sends.restore(snapshot.sends)
        state.verifications.restore(snapshot.verifications)
        state.throttles.restore(snapshot.throttles)
        for message in snapshot.messages:
            state.inbox.add(message)
        state.outbox.subscriptions = snapshot.subscriptions
        state.outbox.schedule(snapshot.scheduled)
        state.outbox.pullable.extend(snapshot.pullable)
        state.outbox.ready.extend(snapshot.ready)
        state.outbox.retries = list(snapshot.retries)
        state.tokens = snapshot.tokens


def _replace(path: Path, text: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
