"""Repeat a provisioning of the simulator: what thousands of tests begin with is made once a run."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass

from otpqueue import clock
from otpqueue.domain.audit import OperatorAction
from otpqueue.domain.templates import ProviderIds
from otpqueue.operations.auditing import record_action
from otpqueue.simulator.applications import Application
from otpqueue.simulator.server import RunningSimulator
from otpqueue.store import provider_ids
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts


@dataclass(frozen=True)
class _Made:
    """What a provisioning has left in the simulator, and what it has returned."""

    applications: dict[str, Application]
    requests: Counter[tuple[str, str]]
    ids: ProviderIds
    actions: tuple[str, ...]


class Provisionings:
    """Provisions an empty simulator, and copies the result where the same is wanted again."""

    def __init__(self, simulator: RunningSimulator) -> None:
        self._url, self._state = simulator.url, simulator.state
        self._made: dict[str, _Made] = {}

    def provision(self, parts: Parts) -> None:
        """Provision, and keep the result if the simulator was empty."""
        was_empty = self._is_empty()
        made = parts.provision(parts.transport, now=clock.now())
        if was_empty and made.ids is not None and parts.provision.base_url == self._url:
            with self._state.lock:
                applications, requests = deepcopy(self._state.applications), self._state.requests.copy()
            self._made[repr(parts.provision.wanted)] = _Made(applications, requests, made.ids, made.actions)

    def repeat(self, parts: Parts) -> bool:
        """Leave simulator and database as a provisioning has left them; False if none can be copied."""
        provision = parts.provision
        made = self._made.get(repr(provision.wanted))
        if made is None or provision.given or provision.base_url != self._url or not self._is_empty():
            return False
        with self._state.lock:
            self._state.applications = deepcopy(made.applications)
            self._state.requests = made.requests.copy()
        with connection(parts.engine) as conn:
            name = provision.wanted.application_name
            provider_ids.store_ids(conn, made.ids, base_url=self._url, application_name=name, now=clock.now())
            details = {"actions": [*made.actions]}
            record_action(conn, OperatorAction.PROVISIONED, target=name, details=details)
        return True

    def _is_empty(self) -> bool:
        with self._state.lock:
            return not (self._state.applications or self._state.requests or self._state.faults.in_force)
