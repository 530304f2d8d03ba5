"""Provision the Infobip account: find or create its application and templates, and store their ids."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from otpqueue.domain.audit import OperatorAction
from otpqueue.domain.templates import ProviderIds
from otpqueue.infobip import provisioning
from otpqueue.infobip.provisioning import WantedConfiguration
from otpqueue.infobip.transport import Transport
from otpqueue.operations.auditing import record_action
from otpqueue.store import provider_ids
from otpqueue.store.engine import connection, transaction
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Provisioned:
    """The actions of a run or dry run, as text for an operator, and the ids in use."""

    actions: tuple[str, ...]
    ids: ProviderIds | None
    """None after a dry run that found nothing."""


@dataclass(frozen=True, kw_only=True)
class Provision:
    """Provisions one Infobip account, and reads its ids."""

    engine: Engine
    base_url: str
    wanted: WantedConfiguration
    given: ProviderIds | None
    """Ids from the environment. They take precedence, and nothing is provisioned."""

    def __call__(self, transport: Transport, *, now: datetime, dry_run: bool = False) -> Provisioned:
        """Find or create the application and the templates, correct differences, and store the ids.

        Safe to run concurrently. Raises ProvisioningFailed, DatabaseUnavailable.
        """
        if self.given:
            return Provisioned(ids=self.given, actions=("used the ids from the environment",))

        def work(conn: Connection) -> Provisioned:
            # The lock is held during calls to Infobip: a concurrent run must wait for the result of this one.
            provider_ids.lock(conn)
            key = {"base_url": self.base_url, "application_name": self.wanted.application_name}
            remembered = provider_ids.read_ids(conn, **key)
            planned = provisioning.make_plan(transport, self.wanted, remembered=remembered)
            if dry_run:
                return Provisioned(actions=tuple(planned.format_lines()), ids=remembered)
            ids = provisioning.apply_plan(transport, planned)
            if ids != remembered:
                provider_ids.store_ids(conn, ids, **key, now=now)
            actions = list(planned.format_lines())
            record_action(
                conn,
                OperatorAction.PROVISIONED,
                target=self.wanted.application_name,
                details={"actions": actions},
            )
            return Provisioned(actions=tuple(planned.format_lines()), ids=ids)

        provisioned = transaction(self.engine, work)
        if dry_run:
            log.info("provisioning_planned", actions=list(provisioned.actions))
        else:
            log.info("provisioned", actions=list(provisioned.actions))
        return provisioned

    def ids(self) -> ProviderIds | None:
        """Return the ids in use, None before provisioning. Not cached.

        Raises DatabaseUnavailable.
        """
        if self.given:
            return self.given
        with connection(self.engine) as conn:
            return provider_ids.read_ids(
                conn, base_url=self.base_url, application_name=self.wanted.application_name
            )
