"""Retention, erasure and key rotation."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property

from otpqueue.operations.auditing import AuditTrail
from otpqueue.operations.privacy.erase import EraseNumber
from otpqueue.operations.privacy.purge import Purge
from otpqueue.operations.privacy.rotate_hash import RotateHash
from otpqueue.operations.privacy.rotate_seal import RotateSeal
from otpqueue.wiring.admission import AdmissionParts


class PrivacyParts(AdmissionParts):
    """What deletes personal data and rotates the keys that protect it."""

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
        return Purge(
            engine=self.engine,
            retention=timedelta(days=self.settings.retention_days),
            audit_retention=timedelta(days=self.settings.audit_retention_days),
        )

    @cached_property
    def audit(self) -> AuditTrail:
        """Reads the audit trail."""
        return AuditTrail(engine=self.engine, vault=self.vault)
