"""Request, send, verify, cancel and expire codes."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property

from otpqueue import clock, policies
from otpqueue.domain.guard import GuardMode
from otpqueue.domain.sending import SendingPolicy
from otpqueue.operations.cancel import CancelRequest
from otpqueue.operations.expire import Expire
from otpqueue.operations.history import ReadHistory
from otpqueue.operations.pump import Pump
from otpqueue.operations.receive_receipts import ReceiveReceipts
from otpqueue.operations.replay import IdempotentResponses
from otpqueue.operations.request import RequestCode
from otpqueue.operations.resend import ResendCode
from otpqueue.operations.search import SearchRequests
from otpqueue.operations.send import CodeToSend, SendCodes, SendSettings
from otpqueue.operations.send_reports import SendResult
from otpqueue.operations.status import ReadStatus
from otpqueue.operations.sweep import Sweep
from otpqueue.operations.verify import VerifyCode
from otpqueue.wiring.admission import AdmissionParts
from otpqueue.wiring.connections import name_process
from otpqueue.wiring.provider import ProviderParts
from otpqueue.wiring.webhooks import WebhookParts

CHECK_PATIENCE_S = 1.0


class CodeParts(ProviderParts, AdmissionParts, WebhookParts):
    """The operations on a code, from its request to its end."""

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
    def resend(self) -> ResendCode:
        """Resends codes."""
        return ResendCode(
            engine=self.engine,
            vault=self.vault,
            admission=self.admission,
            send_within=timedelta(seconds=self.settings.send_within_s),
        )

    @cached_property
    def policy(self) -> SendingPolicy:
        """The retry policy of sends."""
        return policies.sending(self.settings)

    @cached_property
    def pump(self) -> Pump[CodeToSend, SendResult]:
        """The pump of codes."""
        settings = SendSettings(
            worker=name_process(),
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
    def receipts(self) -> ReceiveReceipts:
        """Receives delivery reports."""
        return ReceiveReceipts(engine=self.engine, on_status=self.wake_webhooks)

    @cached_property
    def verify(self) -> VerifyCode:
        """Checks codes."""
        return VerifyCode(
            engine=self.engine,
            vault=self.vault,
            checker=self.sms,
            lease_s=self.settings.check_lease_s,
            patience_s=CHECK_PATIENCE_S,
            gives_hints=self.settings.developer_hints,
            on_status=self.wake_webhooks,
        )

    @cached_property
    def cancel(self) -> CancelRequest:
        """Cancels requests."""
        return CancelRequest(engine=self.engine, vault=self.vault, on_status=self.wake_webhooks)

    @cached_property
    def status(self) -> ReadStatus:
        """Reads requests."""
        return ReadStatus(engine=self.engine, vault=self.vault)

    @cached_property
    def history(self) -> ReadHistory:
        """Reads the histories of requests."""
        return ReadHistory(engine=self.engine, vault=self.vault)

    @cached_property
    def search(self) -> SearchRequests:
        """Searches requests."""
        return SearchRequests(engine=self.engine, vault=self.vault)

    @cached_property
    def sweep(self) -> Sweep:
        """Recovers expired leases and missed work."""
        return Sweep(engine=self.engine, wake=self.waker.wake, policy=self.policy)

    @cached_property
    def expire(self) -> Expire:
        """Expires codes that were not entered in time."""
        return Expire(engine=self.engine)
