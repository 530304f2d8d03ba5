"""The composition root: settings in, parts out. Nothing connects before it is used."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property

from celery import Celery
from redis import Redis
from sqlalchemy import Engine
from sqlalchemy.exc import ArgumentError

from otpqueue import clock, jobs, policies, traces
from otpqueue.circuit import SharedCircuit
from otpqueue.domain.caps import Caps
from otpqueue.domain.fixed_codes import FixedCodes
from otpqueue.domain.guard import Mode
from otpqueue.domain.limits import GuessPolicy
from otpqueue.domain.number_policy import NumberPolicy
from otpqueue.domain.sending import SendingPolicy
from otpqueue.domain.templates import FALLBACK_LANGUAGE, IndiaDlt, ProviderIds, Senders
from otpqueue.infobip.client import InfobipClient
from otpqueue.infobip.provisioning import Limits, Wanted
from otpqueue.infobip.transport import Transport
from otpqueue.limiter import Limiter
from otpqueue.operations.admission import Admission
from otpqueue.operations.blocklist import Blocklist
from otpqueue.operations.cancel import CancelRequest
from otpqueue.operations.clients import Clients
from otpqueue.operations.erase import EraseNumber
from otpqueue.operations.expire import Expire
from otpqueue.operations.fixed_codes import WithTestNumbers
from otpqueue.operations.guard import PumpingGuard
from otpqueue.operations.guard_desk import GuardDesk
from otpqueue.operations.guessing import WrongCodes, WrongShareRule
from otpqueue.operations.health import CheckHealth
from otpqueue.operations.history import TellHistory
from otpqueue.operations.keys import Keys
from otpqueue.operations.limits import KeyRate, RequestLimits
from otpqueue.operations.numbers import Numbers
from otpqueue.operations.provision import Provision
from otpqueue.operations.purge import Purge
from otpqueue.operations.receive_receipts import ReceiveReceipts
from otpqueue.operations.replay import Once
from otpqueue.operations.request import RequestCode
from otpqueue.operations.resend import ResendCode
from otpqueue.operations.rotate_hash import RotateHash
from otpqueue.operations.rotate_seal import RotateSeal
from otpqueue.operations.search import SearchRequests
from otpqueue.operations.send import Pump, PumpSettings
from otpqueue.operations.sending_rules import NumbersAllowed, WithinCaps, not_blocked, while_sending
from otpqueue.operations.status import ReadStatus
from otpqueue.operations.stop_sending import SendingSwitch
from otpqueue.operations.sweep import Sweep
from otpqueue.operations.verify import VerifyCode
from otpqueue.settings import Settings, SettingsError
from otpqueue.store.engine import make_engine
from otpqueue.store.sessions import TimeLimits
from otpqueue.store.vault import Vault
from otpqueue.traces import Tracer

CHECK_PATIENCE_S = 1.0
HEALTH_LIMITS = TimeLimits(wait_s=1, statement_s=1, lock_s=1)


@dataclass(frozen=True)
class Parts:
    """The parts of one process, each made when it is first asked for.

    A part whose settings are missing raises SettingsError then: a worker needs no API port, `keys` no broker.
    """

    settings: Settings
    process: str = "otpqueue"
    """What traces call it, unless OTEL_SERVICE_NAME says otherwise."""

    @cached_property
    def tracer(self) -> Tracer:
        """What begins traces."""
        if not self.settings.traces:
            return traces.OFF
        try:
            from otpqueue.otel import OpenTelemetry  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            problem = "OTPQUEUE_TRACES needs OpenTelemetry: pip install 'otpqueue[otel]'"
            raise SettingsError([problem]) from None
        try:
            return OpenTelemetry(process=self.process)
        except ValueError as problem:
            raise SettingsError([f"OTPQUEUE_TRACES cannot be: {problem}"]) from None

    @cached_property
    def engine(self) -> Engine:
        """The pool of Postgres connections."""
        settings = self.settings
        limits = TimeLimits(
            wait_s=settings.database_wait_s,
            statement_s=settings.database_statement_timeout_s,
            lock_s=settings.database_lock_timeout_s,
            idle_in_transaction_s=settings.database_idle_in_transaction_s,
        )
        return self._engine(settings.database_pool, limits)

    @cached_property
    def health_engine(self) -> Engine:
        """One connection of health's own: when all others are lent out, Postgres is not unreachable."""
        return self._engine(1, HEALTH_LIMITS)

    def _engine(self, pool_size: int, limits: TimeLimits) -> Engine:
        url, pgbouncer = self.settings.require("database_url"), self.settings.database_pgbouncer
        try:
            return make_engine(url, pool_size=pool_size, limits=limits, pgbouncer=pgbouncer)
        except (ArgumentError, ValueError):
            raise SettingsError(["DATABASE_URL cannot be read; is its port a number?"]) from None

    def close(self) -> None:
        """Close what was opened. A part that is used again opens what it needs anew."""
        made = self.__dict__
        for name in ("tracer", "transport", "redis", "publisher"):
            if name in made:
                made[name].close()
        for name in ("engine", "health_engine"):
            if name in made:
                made[name].dispose()

    @cached_property
    def vault(self) -> Vault:
        """What seals and hashes."""
        hashing_key, *others = self.settings.hashing_keys()
        try:
            return Vault(
                sealing_keys=self.settings.sealing_keys(), hashing_key=hashing_key, other_hashing_keys=others
            )
        except ValueError as problem:
            raise SettingsError([f"OTPQUEUE_HASH_KEY: {problem}"]) from None

    @cached_property
    def redis(self) -> Redis:
        """The Redis client."""
        return jobs.connect_redis(self.settings.require("redis_url"))

    @cached_property
    def publisher(self) -> Celery:
        """The Celery application that publishes and would rather fail than wait."""
        return jobs.make_celery(self.settings.broker, quick=True)

    @cached_property
    def waker(self) -> jobs.Waker:
        """What wakes a worker."""
        return jobs.Waker(redis=self.redis, celery=self.publisher)

    @cached_property
    def presence(self) -> jobs.Presence:
        """Which workers live."""
        return jobs.Presence(self.redis)

    @cached_property
    def transport(self) -> Transport:
        """The connections to Infobip: one for each thread that may use them."""
        return Transport(
            base_url=self.settings.require("infobip_base_url"),
            api_key=self.settings.require("infobip_api_key"),
            connections=max(self.settings.sender_threads, self.settings.api_threads // 2),
            connect_timeout_s=self.settings.connect_timeout_s,
            timeout_s=self.settings.provider_timeout_s,
        )

    @cached_property
    def infobip(self) -> InfobipClient:
        """The provider."""
        return InfobipClient(self.transport, track_delivery=self.settings.track_delivery)

    @cached_property
    def senders(self) -> Senders:
        """Whom messages come from."""
        return policies.senders(self.settings)

    @cached_property
    def policy(self) -> SendingPolicy:
        """How stubbornly a code is sent."""
        return policies.sending(self.settings)

    @cached_property
    def circuit(self) -> SharedCircuit:
        """The circuit breaker between all workers and the provider."""
        return SharedCircuit(redis=self.redis, policy=policies.circuit(self.settings))

    @cached_property
    def keys(self) -> Keys:
        """API keys."""
        return Keys(engine=self.engine, vault=self.vault)

    @cached_property
    def provision(self) -> Provision:
        """The provider's side and its ids."""
        settings = self.settings
        given = None
        if settings.infobip_application_id and settings.infobip_message_id:
            given = ProviderIds(
                settings.infobip_application_id, {FALLBACK_LANGUAGE: settings.infobip_message_id}
            )
        return Provision(
            engine=self.engine,
            base_url=settings.require("infobip_base_url").rstrip("/"),
            wanted=self._wanted(),
            given=given,
        )

    def _wanted(self) -> Wanted:
        settings = self.settings
        india = None
        if settings.india_principal_entity_id:
            india = IndiaDlt(
                principal_entity_id=settings.india_principal_entity_id,
                content_template_id=settings.india_content_template_id,
            )
        return Wanted(
            application_name=settings.infobip_app_name,
            code_lifetime_s=settings.code_lifetime_s,
            limits=Limits(
                pin_attempts=settings.provider_pin_attempts,
                verify_pin=settings.provider_verify_limit,
                sends_per_application=settings.provider_sends,
                sends_per_number=settings.provider_sends_per_number,
            ),
            texts={FALLBACK_LANGUAGE: settings.infobip_message_template} | settings.templates,
            sender_id=self.senders.everywhere,
            india=india,
        )

    @cached_property
    def caps(self) -> Caps:
        """How many codes may be sent a day."""
        return policies.caps(self.settings)

    @cached_property
    def number_policy(self) -> NumberPolicy:
        """Which numbers codes are sent to."""
        return policies.numbers(self.settings)

    @cached_property
    def fixed_codes(self) -> FixedCodes:
        """The test numbers. Those that have ended are let be: a restart must not fail over them."""
        return policies.fixed_codes(self.settings, today=clock.now().date())

    @cached_property
    def sms(self) -> WithTestNumbers:
        """The provider for codes: to test numbers nothing is sent."""
        return WithTestNumbers(
            provider=self.infobip,
            checker=self.infobip,
            codes=self.fixed_codes,
            vault=self.vault,
            clock=clock.now,
        )

    @cached_property
    def admission(self) -> Admission:
        """Decides who is sent a code.

        First the stop: while it holds everybody hears the same, test numbers included. Then what will not
        change by waiting, without a look at the database before with one, so that nobody is told to come back
        for what he will not get. Last what passes by itself, and what is counted.
        """
        limits = RequestLimits(limiter=self.limiter, vault=self.vault, quotas=policies.quotas(self.settings))
        share = (WrongShareRule(share=self.guess_policy.share),) if self.settings.wrong_share_refuses else ()
        return Admission(
            engine=self.engine,
            rules_for_all=(while_sending,),
            rules=(
                NumbersAllowed(policy=self.number_policy),
                not_blocked,
                WrongCodes(policy=self.guess_policy),
                *share,
                WithinCaps(caps=self.caps),
            ),
            counters=(limits, *((self.guard,) if self.guard.mode is not Mode.OFF else ())),
        )

    @cached_property
    def limiter(self) -> Limiter:
        """Counts in Redis."""
        return Limiter(self.redis)

    @cached_property
    def key_rate(self) -> KeyRate:
        """Counts calls with one API key."""
        return KeyRate(limiter=self.limiter, vault=self.vault, quotas=policies.quotas(self.settings))

    @cached_property
    def guess_policy(self) -> GuessPolicy:
        """How many wrong codes there may be."""
        return policies.guesses(self.settings)

    @cached_property
    def clients(self) -> Clients:
        """Clients and their settings."""
        return Clients(engine=self.engine)

    @cached_property
    def numbers(self) -> Numbers:
        """What operators do about one number."""
        return Numbers(engine=self.engine, vault=self.vault, policy=self.guess_policy)

    @cached_property
    def switch(self) -> SendingSwitch:
        """The kill switch."""
        return SendingSwitch(engine=self.engine, caps=self.caps, wake=self.waker.wake)

    @cached_property
    def blocklist(self) -> Blocklist:
        """The do-not-send list."""
        return Blocklist(engine=self.engine, vault=self.vault)

    @cached_property
    def guard(self) -> PumpingGuard:
        """Holds sends that nobody verifies against what was verified."""
        return PumpingGuard(
            engine=self.engine,
            mode=Mode(self.settings.guard),
            policy=policies.guard(self.settings),
        )

    @cached_property
    def guard_desk(self) -> GuardDesk:
        """What an operator asks and tells the pumping guard."""
        return GuardDesk(engine=self.engine, policy=self.guard.policy)

    @cached_property
    def request(self) -> RequestCode:
        """Accepts requests."""
        return RequestCode(
            engine=self.engine,
            vault=self.vault,
            admission=self.admission,
            wake=self.waker.wake,
            send_within=timedelta(seconds=self.settings.send_within_s),
            max_checks=self.settings.max_checks,
            allow_documentation=self.settings.allow_documentation_numbers,
            fixed_codes=self.fixed_codes,
        )

    @cached_property
    def once(self) -> Once:
        """Replays answers."""
        return Once(
            engine=self.engine,
            vault=self.vault,
            keep=timedelta(seconds=self.settings.idempotency_keep_s),
            # The longest that a call takes is a check; the others are over long before.
            lease_s=self.settings.check_lease_s,
        )

    @cached_property
    def search(self) -> SearchRequests:
        """Searches requests."""
        return SearchRequests(engine=self.engine, vault=self.vault)

    @cached_property
    def status(self) -> ReadStatus:
        """Reads requests."""
        return ReadStatus(engine=self.engine, vault=self.vault)

    @cached_property
    def history(self) -> TellHistory:
        """Tells requests' histories."""
        return TellHistory(engine=self.engine, vault=self.vault)

    @cached_property
    def verify(self) -> VerifyCode:
        """Checks codes."""
        return VerifyCode(
            engine=self.engine,
            vault=self.vault,
            checker=self.sms,
            lease_s=self.settings.check_lease_s,
            patience_s=CHECK_PATIENCE_S,
        )

    @cached_property
    def resend(self) -> ResendCode:
        """Resends codes."""
        return ResendCode(
            engine=self.engine,
            vault=self.vault,
            admission=self.admission,
            wake=self.waker.wake,
            send_within=timedelta(seconds=self.settings.send_within_s),
        )

    @cached_property
    def receipts(self) -> ReceiveReceipts:
        """Receives delivery reports."""
        return ReceiveReceipts(engine=self.engine)

    @cached_property
    def cancel(self) -> CancelRequest:
        """Cancels requests."""
        return CancelRequest(engine=self.engine, vault=self.vault)

    @cached_property
    def health(self) -> CheckHealth:
        """Checks health."""
        engine = self.health_engine
        ids = replace(self.provision, engine=engine).ids
        return CheckHealth(engine=engine, presence=self.presence, provider_ids=ids)

    @cached_property
    def pump(self) -> Pump:
        """Sends what is due."""
        return Pump(
            engine=self.engine,
            vault=self.vault,
            sms=self.sms,
            provider_ids=self.provision.ids,
            breaker=self.circuit,
            wake=self.waker.wake,
            clock=clock.now,
            settings=PumpSettings(
                worker=f"{socket.gethostname()}:{os.getpid()}",
                threads=self.settings.sender_threads,
                lease_s=self.settings.send_lease_s,
                job_s=self.settings.job_s,
                code_lifetime_s=self.settings.code_lifetime_s,
                policy=self.policy,
                senders=self.senders,
                caps=self.caps,
            ),
            tracer=self.tracer,
        )

    @cached_property
    def erase(self) -> EraseNumber:
        """Erases numbers."""
        return EraseNumber(engine=self.engine, vault=self.vault)

    @cached_property
    def rotate_seal(self) -> RotateSeal:
        """Replaces sealing keys."""
        return RotateSeal(engine=self.engine, vault=self.vault)

    @cached_property
    def rotate_hash(self) -> RotateHash:
        """Replaces the look-up key."""
        return RotateHash(engine=self.engine, vault=self.vault)

    @cached_property
    def purge(self) -> Purge:
        """Deletes what is too old."""
        return Purge(engine=self.engine, retention=timedelta(days=self.settings.retention_days))

    @cached_property
    def sweep(self) -> Sweep:
        """Picks up what was dropped."""
        return Sweep(engine=self.engine, wake=self.waker.wake, policy=self.policy)

    @cached_property
    def expire(self) -> Expire:
        """Ends codes nobody typed in time."""
        return Expire(engine=self.engine)
