"""Infobip: client, circuit breaker, provisioning and test numbers."""

from __future__ import annotations

from functools import cached_property

from otpqueue import clock, policies
from otpqueue.circuit import SharedCircuit
from otpqueue.domain.fixed_codes import FixedCodes
from otpqueue.domain.templates import FALLBACK_LANGUAGE, IndiaDlt, ProviderIds, Senders
from otpqueue.infobip.client import InfobipClient
from otpqueue.infobip.provisioning import ApplicationLimits, WantedConfiguration
from otpqueue.infobip.transport import Transport
from otpqueue.operations.admission.fixed_codes import WithTestNumbers
from otpqueue.operations.provision import Provision
from otpqueue.wiring.connections import Connections


class ProviderParts(Connections):
    """The connection to Infobip, test numbers included."""

    @cached_property
    def transport(self) -> Transport:
        """The connections to Infobip, one per thread that may use them."""
        transport = Transport(
            base_url=self.settings.require("infobip_base_url"),
            api_key=self.settings.require("infobip_api_key"),
            connections=max(self.settings.sender_threads, self.settings.api_checks),
            connect_timeout_s=self.settings.connect_timeout_s,
            timeout_s=self.settings.provider_timeout_s,
        )
        self.close_later(transport.close)
        return transport

    @cached_property
    def infobip(self) -> InfobipClient:
        """The Infobip client."""
        return InfobipClient(self.transport, track_delivery=self.settings.track_delivery)

    @cached_property
    def senders(self) -> Senders:
        """The sender ids."""
        return policies.senders(self.settings)

    @cached_property
    def circuit(self) -> SharedCircuit:
        """The circuit breaker between all workers and the provider."""
        return SharedCircuit(redis=self.redis, policy=policies.circuit(self.settings))

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
