"""The composition root: builds the parts of a process from its settings.

Each part connects when first used.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from importlib.metadata import version

from celery import Celery
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import ArgumentError

from otpqueue import clock, jobs, policies
from otpqueue.circuit import SharedCircuit
from otpqueue.domain.admission import AdmissionRules
from otpqueue.domain.alerts import AlertRule
from otpqueue.domain.caps import Caps
from otpqueue.domain.fixed_codes import FixedCodes
from otpqueue.domain.guard import GuardMode
from otpqueue.domain.heartbeats import EVERY_S, ProcessKind
from otpqueue.domain.limits import GuessPolicy
from otpqueue.domain.number_policy import NumberPolicy
from otpqueue.domain.sending import SendingPolicy
from otpqueue.domain.templates import FALLBACK_LANGUAGE, IndiaDlt, ProviderIds, Senders
from otpqueue.infobip.client import InfobipClient
from otpqueue.infobip.provisioning import ApplicationLimits, WantedConfiguration
from otpqueue.infobip.transport import Transport
from otpqueue.limiter import Limiter
from otpqueue.mail import Mailer, MailServer
from otpqueue.operations.access.cache import AccessCache
from otpqueue.operations.access.clients import Clients
from otpqueue.operations.access.console_login import ConsoleLogin
from otpqueue.operations.access.keys import ApiKeys
from otpqueue.operations.admission.admit import Admission
from otpqueue.operations.admission.blocklist import Blocklist
from otpqueue.operations.admission.fixed_codes import WithTestNumbers
from otpqueue.operations.admission.limits import KeyRate, RequestLimits
from otpqueue.operations.admission.numbers import Numbers
from otpqueue.operations.admission.stop_sending import SendingSwitch
from otpqueue.operations.alerts.admin import AlertAdmin
from otpqueue.operations.alerts.evaluate import EvaluateAlerts
from otpqueue.operations.alerts.lifecycle import AlertStore
from otpqueue.operations.alerts.notify import (
    LogNotifier,
    MailNotifier,
    Notifier,
    NotifyAlerts,
    WebhookNotifier,
)
from otpqueue.operations.alerts.watch_workers import EvaluateWorkers
from otpqueue.operations.banner import ReadBanner
from otpqueue.operations.cancel import CancelRequest
from otpqueue.operations.expire import Expire
from otpqueue.operations.guard.admin import GuardAdmin
from otpqueue.operations.guard.pumping_guard import GuardClaims, PumpingGuard
from otpqueue.operations.health import CheckHealth
from otpqueue.operations.heartbeat import HeartbeatReporter
from otpqueue.operations.history import ReadHistory
from otpqueue.operations.privacy.count_seals import CountSeals
from otpqueue.operations.privacy.erase import EraseNumber
from otpqueue.operations.privacy.purge import Purge
from otpqueue.operations.privacy.rotate_hash import RotateHash
from otpqueue.operations.privacy.rotate_seal import RotateSeal
from otpqueue.operations.provision import Provision
from otpqueue.operations.pump import Pump
from otpqueue.operations.receive_receipts import ReceiveReceipts
from otpqueue.operations.replay import IdempotentResponses
from otpqueue.operations.request import RequestCode
from otpqueue.operations.resend import ResendCode
from otpqueue.operations.search import SearchRequests
from otpqueue.operations.send import CodeToSend, SendCodes, SendSettings
from otpqueue.operations.send_reports import SendResult
from otpqueue.operations.stats.breakdown import ReadBreakdown
from otpqueue.operations.stats.gauges import KEPT_S, WAIT_S, CachedReading, ReadGauges, of_database
from otpqueue.operations.stats.overview import ReadOverview
from otpqueue.operations.stats.report import ReadStatistics
from otpqueue.operations.stats.roll_up import RollUp
from otpqueue.operations.status import ReadStatus
from otpqueue.operations.sweep import Sweep
from otpqueue.operations.verify import VerifyCode
from otpqueue.operations.webhooks.admin import Webhooks
from otpqueue.operations.webhooks.send import SendWebhooks, SendWebhooksSettings
from otpqueue.operations.webhooks.wake import WakeWebhooks
from otpqueue.outbound import Outbound
from otpqueue.settings import Settings, SettingsError
from otpqueue.store.engine import make_engine
from otpqueue.store.locks import Lock
from otpqueue.store.sessions import TimeLimits
from otpqueue.store.vault import Vault
from otpqueue.store.webhooks.deliveries import DeliveryResult, WebhookDelivery
from otpqueue.telemetry import metrics, traces
from otpqueue.telemetry.traces import Tracer

CHECK_PATIENCE_S = 1.0
ALERT_WEBHOOK_S = 10.0
ALERT_MAIL_S = 30.0
WEBHOOK_LEASE_SPARE_S = 20.0
"""Time for recording results while Postgres is briefly unavailable."""

HEALTH_LIMITS = TimeLimits(wait_s=1, statement_s=1, lock_s=1)
CONSOLE_LIMITS = TimeLimits(wait_s=1, statement_s=3, lock_s=1)
CONSOLE_POOL = 3


def _name_process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True)
class Parts:
    """The parts of one process, each created when first used.

    Creating a part raises SettingsError if its settings are missing: a worker needs no API port, `keys` no
    broker. An invalid setting is rejected at once, also one that only other processes read.
    """

    settings: Settings
    process: str = "otpqueue"
    """The service name of traces, unless OTEL_SERVICE_NAME is set."""
    for_console: bool = False
    """Whether these parts serve the console, with few connections of their own and short timeouts."""

    def __post_init__(self) -> None:
        """Raise SettingsError for invalid settings."""
        policies.check(self.settings, today=clock.now().date())

    @cached_property
    def console_parts(self) -> Parts:
        """The parts of the console. It stays available when the API's connections are all in use."""
        return Parts(self.settings, for_console=True)

    @cached_property
    def tracer(self) -> Tracer:
        """Starts spans."""
        if not self.settings.traces:
            return traces.OFF
        try:
            from otpqueue.telemetry.otel import OpenTelemetry  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            problem = "OTPQUEUE_TRACES needs OpenTelemetry: pip install 'otpqueue[otel]'"
            raise SettingsError([problem]) from None
        try:
            return OpenTelemetry(process=self.process)
        except ValueError as problem:
            raise SettingsError([f"OTPQUEUE_TRACES cannot be used: {problem}"]) from None

    @cached_property
    def engine(self) -> Engine:
        """The pool of Postgres connections."""
        settings = self.settings
        if self.for_console:
            return self._engine(CONSOLE_POOL, CONSOLE_LIMITS)
        limits = TimeLimits(
            wait_s=settings.database_wait_s,
            statement_s=settings.database_statement_timeout_s,
            lock_s=settings.database_lock_timeout_s,
            idle_in_transaction_s=settings.database_idle_in_transaction_s,
        )
        metrics.set_gauge(metrics.CONNECTIONS_MOST, settings.database_pool)
        return self._engine(settings.database_pool, limits)

    @cached_property
    def health_engine(self) -> Engine:
        """One connection for health checks and heartbeats.

        They must work when all other connections are in use.
        """
        if self.for_console:
            return self.engine
        return self._engine(1, HEALTH_LIMITS)

    def _engine(self, pool_size: int, limits: TimeLimits) -> Engine:
        url, pgbouncer = self.settings.require("database_url"), self.settings.database_pgbouncer
        try:
            return make_engine(url, pool_size=pool_size, limits=limits, pgbouncer=pgbouncer)
        except (ArgumentError, ValueError):
            problem = "DATABASE_URL is not valid. Check its port and the options after its `?`."
            raise SettingsError([problem]) from None

    @cached_property
    def gauges(self) -> ReadGauges:
        """Queries the gauges of a scrape on a separate connection, so that health checks need not wait."""
        look: CachedReading[Sequence[metrics.Reading]] = CachedReading(
            lambda: of_database(self.gauges_engine, now=clock.now()), kept_s=KEPT_S, wait_s=WAIT_S
        )
        return ReadGauges(from_database=look, circuit=self.circuit.get_shared_state)

    @cached_property
    def gauges_engine(self) -> Engine:
        """The connection for those gauges."""
        return self._engine(1, HEALTH_LIMITS)

    def close(self) -> None:
        """Close what was opened. A part that is used again reopens its connections."""
        made = self.__dict__
        for name in (
            "tracer",
            "transport",
            "outbound",
            "alert_outbound",
            "waker",
            "redis",
            "publisher",
            "console_parts",
        ):
            if name in made:
                made[name].close()
        for name in ("engine", "health_engine", "gauges_engine"):
            if name in made:
                made[name].dispose()

    @cached_property
    def vault(self) -> Vault:
        """Seals and hashes values."""
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
        try:
            return jobs.connect_redis(self.settings.require("redis_url"))
        except ValueError as problem:
            raise SettingsError([f"REDIS_URL {problem}"]) from None

    @cached_property
    def publisher(self) -> Celery:
        """The Celery application for publishers, which fails quickly."""
        broker = self.settings.broker
        try:
            jobs.check_broker(broker)
        except ValueError as problem:
            name = "OTPQUEUE_BROKER_URL" if self.settings.broker_url else "REDIS_URL"
            raise SettingsError([f"{name} {problem}"]) from None
        return jobs.make_celery(broker, quick=True)

    @cached_property
    def waker(self) -> jobs.Waker:
        """Wakes a worker that sends codes."""
        return jobs.Waker(redis=self.redis, celery=self.publisher, job=jobs.SEND_CODES)

    @cached_property
    def webhook_waker(self) -> jobs.Waker:
        """Wakes a worker that sends webhooks."""
        return jobs.Waker(redis=self.redis, celery=self.publisher, job=jobs.SEND_WEBHOOKS)

    @cached_property
    def transport(self) -> Transport:
        """The connections to Infobip, one per thread that may use them."""
        return Transport(
            base_url=self.settings.require("infobip_base_url"),
            api_key=self.settings.require("infobip_api_key"),
            connections=max(self.settings.sender_threads, self.settings.api_checks),
            connect_timeout_s=self.settings.connect_timeout_s,
            timeout_s=self.settings.provider_timeout_s,
        )

    @cached_property
    def infobip(self) -> InfobipClient:
        """The Infobip client."""
        return InfobipClient(self.transport, track_delivery=self.settings.track_delivery)

    @cached_property
    def senders(self) -> Senders:
        """The sender ids."""
        return policies.senders(self.settings)

    @cached_property
    def policy(self) -> SendingPolicy:
        """The retry policy of sends."""
        return policies.sending(self.settings)

    @cached_property
    def circuit(self) -> SharedCircuit:
        """The circuit breaker between all workers and the provider."""
        return SharedCircuit(redis=self.redis, policy=policies.circuit(self.settings))

    @cached_property
    def keys(self) -> ApiKeys:
        """API keys."""
        return ApiKeys(engine=self.engine, vault=self.vault)

    @cached_property
    def provision(self) -> Provision:
        """Provisions Infobip and loads the ids."""
        settings = self.settings
        given = None
        if settings.infobip_application_id and settings.infobip_message_id:
            given = ProviderIds(
                settings.infobip_application_id, {FALLBACK_LANGUAGE: settings.infobip_message_id}
            )
        return Provision(
            engine=self.engine,
            base_url=settings.require("infobip_base_url").rstrip("/"),
            wanted=self._build_wanted(),
            given=given,
        )

    def _build_wanted(self) -> WantedConfiguration:
        settings = self.settings
        india = None
        if settings.india_principal_entity_id:
            india = IndiaDlt(
                principal_entity_id=settings.india_principal_entity_id,
                content_template_id=settings.india_content_template_id,
            )
        return WantedConfiguration(
            application_name=settings.infobip_app_name,
            code_lifetime_s=settings.code_lifetime_s,
            limits=ApplicationLimits(
                pin_attempts=settings.provider_pin_attempts,
                verify_pin=settings.provider_verify_limit,
                sends_per_application=settings.provider_sends,
                sends_per_number=settings.provider_sends_per_number,
            ),
            texts={FALLBACK_LANGUAGE: settings.infobip_message_template} | settings.templates,
            sender_id=self.senders.global_sender,
            india=india,
        )

    @cached_property
    def caps(self) -> Caps:
        """The daily sending caps."""
        return policies.caps(self.settings)

    @cached_property
    def number_policy(self) -> NumberPolicy:
        """The rules for numbers and countries."""
        return policies.numbers(self.settings)

    @cached_property
    def fixed_codes(self) -> FixedCodes:
        """The test numbers. Expired ones are ignored, so that a restart does not fail because of them."""
        return policies.fixed_codes(self.settings, today=clock.now().date())

    @cached_property
    def sms(self) -> WithTestNumbers:
        """The provider for codes. It sends nothing to test numbers."""
        return WithTestNumbers(
            provider=self.infobip,
            checker=self.infobip,
            codes=self.fixed_codes,
            vault=self.vault,
            clock=clock.now,
        )

    @cached_property
    def access(self) -> AccessCache:
        """This process's cache of API keys, clients and sending stops."""
        share_window_s = self.guess_policy.share.window_s if self.settings.wrong_share_refuses else None
        return AccessCache(
            engine=self.engine, max_age_s=self.settings.access_cache_s, judged_window_s=share_window_s
        )

    @cached_property
    def admission(self) -> Admission:
        """Decides whether a code is sent."""
        return Admission(
            engine=self.engine,
            access=self.access,
            rules=AdmissionRules(
                numbers=self.number_policy,
                guesses=self.guess_policy,
                share_refuses=self.settings.wrong_share_refuses,
                caps=self.caps,
            ),
            limits=self.request_limits,
            guard=self.guard,
            waker=self.waker,
        )

    @cached_property
    def limiter(self) -> Limiter:
        """Counts calls in Redis."""
        return Limiter(self.redis, wake_lua=jobs.WAKE_LUA)

    @cached_property
    def request_limits(self) -> RequestLimits:
        """Counts requests and resends."""
        return RequestLimits(limiter=self.limiter, vault=self.vault, quotas=policies.quotas(self.settings))

    @cached_property
    def key_rate(self) -> KeyRate:
        """Counts calls with one API key."""
        return KeyRate(limiter=self.limiter, vault=self.vault, quotas=policies.quotas(self.settings))

    @cached_property
    def guess_policy(self) -> GuessPolicy:
        """The limits of wrong codes."""
        return policies.guesses(self.settings)

    @cached_property
    def clients(self) -> Clients:
        """Clients and their settings."""
        return Clients(engine=self.engine)

    @cached_property
    def numbers(self) -> Numbers:
        """The operator's actions on one number."""
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
        """The pumping guard, which limits unverified sends."""
        return PumpingGuard(
            engine=self.engine,
            mode=GuardMode(self.settings.guard),
            policy=policies.guard(self.settings),
        )

    @cached_property
    def guard_claims(self) -> GuardClaims:
        """Decides after the claim on sends that the guard did not count at acceptance."""
        return GuardClaims(engine=self.engine, vault=self.vault, policy=self.guard.policy)

    @cached_property
    def guard_admin(self) -> GuardAdmin:
        """The operator's reports and actions of the pumping guard."""
        return GuardAdmin(engine=self.engine, policy=self.guard.policy)

    @cached_property
    def request(self) -> RequestCode:
        """Accepts requests."""
        return RequestCode(
            engine=self.engine,
            vault=self.vault,
            admission=self.admission,
            replays=self.idempotent_responses,
            send_within=timedelta(seconds=self.settings.send_within_s),
            max_checks=self.settings.max_checks,
            allow_documentation=self.settings.allow_documentation_numbers,
            fixed_codes=self.fixed_codes,
        )

    @cached_property
    def idempotent_responses(self) -> IdempotentResponses:
        """The stored responses of calls with Idempotency-Keys."""
        return IdempotentResponses(
            engine=self.engine,
            vault=self.vault,
            keep=timedelta(seconds=self.settings.idempotency_keep_s),
            # A check takes the longest of all calls.
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
    def history(self) -> ReadHistory:
        """Reads the histories of requests."""
        return ReadHistory(engine=self.engine, vault=self.vault)

    @cached_property
    def verify(self) -> VerifyCode:
        """Checks codes."""
        return VerifyCode(
            engine=self.engine,
            vault=self.vault,
            checker=self.sms,
            lease_s=self.settings.check_lease_s,
            patience_s=CHECK_PATIENCE_S,
            on_status=self.wake_webhooks,
        )

    @cached_property
    def resend(self) -> ResendCode:
        """Resends codes."""
        return ResendCode(
            engine=self.engine,
            vault=self.vault,
            admission=self.admission,
            send_within=timedelta(seconds=self.settings.send_within_s),
        )

    @cached_property
    def receipts(self) -> ReceiveReceipts:
        """Receives delivery reports."""
        return ReceiveReceipts(engine=self.engine, on_status=self.wake_webhooks)

    @cached_property
    def cancel(self) -> CancelRequest:
        """Cancels requests."""
        return CancelRequest(engine=self.engine, vault=self.vault, on_status=self.wake_webhooks)

    @cached_property
    def health(self) -> CheckHealth:
        """Checks health."""
        engine = self.health_engine
        ids = replace(self.provision, engine=engine).ids
        return CheckHealth(
            engine=engine,
            circuit=self.circuit.get_shared_state,
            redis_writes=self.limiter.check_redis,
            provider_ids=ids,
        )

    def make_heartbeat_reporter(
        self, kind: ProcessKind, *, in_touch_for_s: float | None = None
    ) -> HeartbeatReporter:
        """Return a reporter of this process's heartbeats."""
        return HeartbeatReporter(
            engine=self.health_engine,
            kind=kind,
            name=_name_process(),
            version=version("otpqueue"),
            clock=clock.now,
            in_touch_for_s=in_touch_for_s,
            count_seals=CountSeals(engine=self.health_engine, vault=self.vault),
        )

    @cached_property
    def console_login(self) -> ConsoleLogin:
        """Authenticates operators in the console."""
        return ConsoleLogin(keys=self.keys, access=self.access, limiter=self.limiter, vault=self.vault)

    @cached_property
    def banner(self) -> ReadBanner:
        """Reads the banner of the console's pages."""
        return ReadBanner(switch=self.switch, alerts=self.alert_admin)

    @cached_property
    def overview(self) -> ReadOverview:
        """Reads the data of the console's dashboard."""
        return ReadOverview(
            engine=self.engine, switch=self.switch, health=self.health, rules=self.alert_rules
        )

    @cached_property
    def breakdown(self) -> ReadBreakdown:
        """Reads the breakdown by country and by client."""
        return ReadBreakdown(engine=self.engine, switch=self.switch, guard=GuardMode(self.settings.guard))

    def ping_redis(self) -> bool:
        """Return whether Redis answers."""
        try:
            return bool(self.redis.ping())
        except RedisError:
            return False

    @cached_property
    def pump(self) -> Pump[CodeToSend, SendResult]:
        """The pump of codes."""
        settings = SendSettings(
            worker=_name_process(),
            threads=self.settings.sender_threads,
            lease_s=self.settings.send_lease_s,
            job_s=self.settings.job_s,
            keep_s=self.settings.code_lifetime_s,
            linger_s=self.settings.job_linger_s,
            code_lifetime_s=self.settings.code_lifetime_s,
            policy=self.policy,
            senders=self.senders,
            caps=self.caps,
        )
        send_codes = SendCodes(
            engine=self.engine,
            vault=self.vault,
            sms=self.sms,
            provider_ids=self.provision.ids,
            breaker=self.circuit,
            clock=clock.now,
            settings=settings,
            on_status=self.wake_webhooks,
            tracer=self.tracer,
            guard=self.guard_claims.decide if self.guard.mode is not GuardMode.OFF else None,
        )
        return Pump(
            send_codes,
            name="codes",
            # While this pump lingers, `wake` would only nudge it.
            wake=self.waker.publish,
            nudges=self.waker,
            clock=clock.now,
            settings=settings,
        )

    @cached_property
    def erase(self) -> EraseNumber:
        """Erases numbers."""
        return EraseNumber(
            engine=self.engine, vault=self.vault, limits=self.request_limits, guesses=self.guess_policy
        )

    @cached_property
    def rotate_seal(self) -> RotateSeal:
        """Rotates sealing keys."""
        return RotateSeal(engine=self.engine, vault=self.vault, guesses=self.guess_policy)

    @cached_property
    def rotate_hash(self) -> RotateHash:
        """Rotates the hash key."""
        return RotateHash(
            engine=self.engine,
            vault=self.vault,
            limits=self.request_limits,
            guesses=self.guess_policy,
            retention=timedelta(days=self.settings.retention_days),
        )

    @cached_property
    def purge(self) -> Purge:
        """Deletes rows after the retention period."""
        return Purge(engine=self.engine, retention=timedelta(days=self.settings.retention_days))

    @cached_property
    def roll_up(self) -> RollUp:
        """Rolls up events into statistics."""
        return RollUp(engine=self.engine)

    @cached_property
    def alert_rules(self) -> Mapping[str, AlertRule]:
        """The configured alert rules."""
        return policies.alert_rules(self.settings)

    @cached_property
    def evaluate_alerts(self) -> EvaluateAlerts:
        """Evaluates the alert rules."""
        every = timedelta(seconds=self.settings.evaluate_alerts_every_s)
        book = AlertStore(
            engine=self.engine,
            watch="rules",
            lock=Lock.EVALUATE_RULES,
            apart=every / 2,
            channels=self.notify_alerts.channels,
        )
        return EvaluateAlerts(
            engine=self.engine,
            rules=self.alert_rules,
            circuit=self.circuit.get_state,
            book=book,
            seal_key_id=self.vault.seal_key_ids[0],
        )

    @cached_property
    def evaluate_workers(self) -> EvaluateWorkers:
        """Opens alerts for silent workers or beat."""
        book = AlertStore(
            engine=self.engine,
            watch="workers",
            lock=Lock.EVALUATE_WORKERS,
            # Every API process evaluates, but counts only as often as one of them would.
            apart=timedelta(seconds=EVERY_S[ProcessKind.API] / 2),
            channels=self.notify_alerts.channels,
        )
        return EvaluateWorkers(
            engine=self.engine,
            rules=self.alert_rules,
            book=book,
            queues=jobs.QUEUES,
            notify=self.notify_alerts,
            began=clock.now(),
        )

    @cached_property
    def alert_outbound(self) -> Outbound:
        """Posts alert notifications. An operator's URL may be on a private network."""
        return Outbound(allow_private=True, timeout_s=ALERT_WEBHOOK_S)

    @cached_property
    def notify_alerts(self) -> NotifyAlerts:
        """Delivers alert notifications."""
        return NotifyAlerts(
            engine=self.engine,
            vault=self.vault,
            notifiers=self._make_notifiers(),
            public_url=self.settings.public_url,
        )

    def _make_notifiers(self) -> tuple[Notifier, ...]:
        settings = self.settings
        notifiers: list[Notifier] = [LogNotifier()]
        if settings.alert_webhook_url:
            notifiers.append(
                WebhookNotifier(post=self.alert_outbound, url=settings.require("alert_webhook_url"))
            )
        if settings.alert_email_to:
            mailer = Mailer(
                server=MailServer.parse(settings.require("smtp_url")),
                sender=settings.require("alert_email_from"),
                timeout_s=ALERT_MAIL_S,
            )
            notifiers.append(MailNotifier(mailer=mailer, to=settings.alert_email_to))
        return tuple(notifiers)

    @cached_property
    def alert_admin(self) -> AlertAdmin:
        """The operator's view of alerts and actions on them."""
        return AlertAdmin(engine=self.engine, vault=self.vault, rules=self.alert_rules, clock=clock.now)

    @cached_property
    def stats(self) -> ReadStatistics:
        """Reads statistics."""
        return ReadStatistics(engine=self.engine, kept=timedelta(days=self.settings.retention_days))

    @cached_property
    def sweep(self) -> Sweep:
        """Recovers expired leases and missed work."""
        return Sweep(engine=self.engine, wake=self.waker.wake, policy=self.policy)

    @cached_property
    def expire(self) -> Expire:
        """Expires codes that were not entered in time."""
        return Expire(engine=self.engine)

    @cached_property
    def outbound(self) -> Outbound:
        """Posts webhooks to clients' receivers."""
        return Outbound(
            allow_private=self.settings.webhook_allow_private, timeout_s=self.settings.webhook_timeout_s
        )

    @cached_property
    def wake_webhooks(self) -> WakeWebhooks:
        """Enqueues webhook events for clients."""
        return WakeWebhooks(engine=self.engine, wake=self.webhook_waker.wake)

    @cached_property
    def webhook_pump(self) -> Pump[WebhookDelivery, DeliveryResult]:
        """The pump of webhooks."""
        settings = SendWebhooksSettings(
            lease_s=2 * self.settings.webhook_timeout_s + WEBHOOK_LEASE_SPARE_S,
            job_s=self.settings.job_s,
            disable_after=timedelta(seconds=self.settings.webhook_disable_after_s),
        )
        send_webhooks = SendWebhooks(
            engine=self.engine, vault=self.vault, post=self.outbound.post, settings=settings
        )
        return Pump(
            send_webhooks,
            name="webhooks",
            # This pump does not linger, so a wake-up that is pending already is enough.
            wake=self.webhook_waker.wake,
            clock=clock.now,
            settings=settings,
        )

    @cached_property
    def webhooks(self) -> Webhooks:
        """The operator's actions on webhooks."""
        return Webhooks(
            engine=self.engine, vault=self.vault, outbound=self.outbound, wake=self.webhook_waker.wake
        )
