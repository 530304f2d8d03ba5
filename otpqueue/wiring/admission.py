"""Clients, limits, the pumping guard and the kill switch."""

from __future__ import annotations

from functools import cached_property

from otpqueue import policies
from otpqueue.domain.admission import AdmissionRules
from otpqueue.domain.caps import Caps
from otpqueue.domain.guard import GuardMode
from otpqueue.domain.limits import GuessPolicy
from otpqueue.domain.number_policy import NumberPolicy
from otpqueue.operations.access.cache import AccessCache
from otpqueue.operations.access.clients import Clients
from otpqueue.operations.access.keys import ApiKeys
from otpqueue.operations.admission.admit import Admission
from otpqueue.operations.admission.blocklist import Blocklist
from otpqueue.operations.admission.key_rate import KeyRate
from otpqueue.operations.admission.limits import RequestLimits
from otpqueue.operations.admission.numbers import Numbers
from otpqueue.operations.admission.stop_sending import SendingSwitch
from otpqueue.operations.guard.admin import GuardAdmin
from otpqueue.operations.guard.pumping_guard import GuardClaims, PumpingGuard
from otpqueue.wiring.connections import Connections


class AdmissionParts(Connections):
    """What decides whether a code is sent."""

    @cached_property
    def keys(self) -> ApiKeys:
        """API keys."""
        return ApiKeys(engine=self.engine, vault=self.vault)

    @cached_property
    def clients(self) -> Clients:
        """Clients and their settings."""
        return Clients(engine=self.engine)

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
    def number_policy(self) -> NumberPolicy:
        """The rules for numbers and countries."""
        return policies.numbers(self.settings)

    @cached_property
    def caps(self) -> Caps:
        """The daily sending caps."""
        return policies.caps(self.settings)

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
