"""All settings in one object, and the checks across subjects."""

from __future__ import annotations

import re
from typing import cast

from pydantic import SecretStr

from otpqueue.settings.alerts import AlertSettings
from otpqueue.settings.api import ApiSettings
from otpqueue.settings.codes import CodeSettings
from otpqueue.settings.databases import DatabaseSettings
from otpqueue.settings.fields import SettingsError, SettingsSubject
from otpqueue.settings.guard import GuardSettings
from otpqueue.settings.infobip import InfobipSettings
from otpqueue.settings.keys import KeySettings, decode_hashing_keys, decode_sealing_keys
from otpqueue.settings.limits import LimitSettings
from otpqueue.settings.sending_policy import SendingPolicySettings
from otpqueue.settings.telemetry import TelemetrySettings
from otpqueue.settings.webhooks import WebhookSettings
from otpqueue.settings.workers import WorkerSettings


class Settings(
    InfobipSettings,
    DatabaseSettings,
    KeySettings,
    ApiSettings,
    CodeSettings,
    SendingPolicySettings,
    LimitSettings,
    GuardSettings,
    WorkerSettings,
    WebhookSettings,
    AlertSettings,
    TelemetrySettings,
):
    """The settings and constants of every subject. The alias of a field is its environment variable."""

    def find_problems(self) -> list[str]:
        """Return a line for each combination that cannot work, in each subject and across subjects."""
        problems = super().find_problems()
        if self.send_lease_s < 2 * self.provider_timeout_s:
            problems.append(
                "OTPQUEUE_TUNING_SEND_LEASE_S must be at least twice OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S"
            )
        if self.check_lease_s <= self.provider_timeout_s:
            problems.append(
                "OTPQUEUE_TUNING_CHECK_LEASE_S must be longer than OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S"
            )
        if self.provider_pin_attempts < self.max_checks:
            problems.append("OTPQUEUE_TUNING_PROVIDER_PIN_ATTEMPTS must be at least OTPQUEUE_MAX_CHECKS")
        is_local = (self.infobip_base_url or "http:").startswith("http:")
        if self.test_numbers and not is_local and not self.allow_test_numbers:
            problems.append(
                "OTPQUEUE_TEST_NUMBERS needs OTPQUEUE_ALLOW_TEST_NUMBERS=true with the real Infobip API: "
                "anyone who knows such a number and its code is accepted as its owner"
            )
        return problems

    def sealing_keys(self) -> dict[str, bytes]:
        """Return the sealing keys by id, the one that encrypts first. Raises SettingsError if none is set."""
        return decode_sealing_keys(SecretStr(self.require("seal_keys")))

    def hashing_keys(self) -> list[bytes]:
        """Return the look-up keys, the one for new hashes first. Raises SettingsError when none is set."""
        return decode_hashing_keys(SecretStr(self.require("hash_key")))

    def require(self, field: str) -> str:
        """Return the value of an optional setting, secrets unwrapped.

        Raises SettingsError when it is not set.
        """
        value = getattr(self, field)
        if value is None:
            name = type(self).model_fields[field].alias
            raise SettingsError(
                [f"{name} is not set; set it, or start with `otpqueue dev`, which has its own values"]
            )
        return value.get_secret_value() if isinstance(value, SecretStr) else str(value)

    @property
    def broker(self) -> str:
        """Celery's broker URL."""
        url = self.require("broker_url" if self.broker_url else "redis_url")
        if not url.startswith("unix://"):
            return url
        # Celery has another scheme for a Redis behind a Unix socket.
        return re.sub(r"([?&])db=", r"\1virtual_host=", url.replace("unix", "redis+socket", 1))


SUBJECTS = cast("tuple[type[SettingsSubject], ...]", Settings.__bases__)
"""The subjects in the order of docs/settings.md."""
