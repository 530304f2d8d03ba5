"""Test numbers: a provider wrapper that handles them locally and passes all other calls on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from otpqueue.domain.checking import Checker, CheckVerdict, Judgement
from otpqueue.domain.fixed_codes import FixedCode, FixedCodes
from otpqueue.domain.sending import Outcome, OutcomeEvidence, OutcomeKind, OutgoingMessage, SmsProvider
from otpqueue.store.vault import Vault

SENT = "test_number"
"""The code of an attempt that was handled locally."""

ENDED = "test_number_ended"

_PIN = "test-number:"


@dataclass(frozen=True, kw_only=True)
class WithTestNumbers:
    """A provider that sends nothing to test numbers, and verifies their codes locally.

    A message is recognised by its request, not by the current list: a request for a number that was removed
    from the list is not sent either. Its local pin id contains the keyed hash of the number, so no code is
    stored.
    """

    provider: SmsProvider
    checker: Checker
    codes: FixedCodes
    vault: Vault
    clock: Callable[[], datetime]

    def send(self, message: OutgoingMessage) -> Outcome:
        """Send a code; for a test number, only return the outcome."""
        if not message.is_test:
            return self.provider.send(message)
        e164 = f"+{message.to}"
        if self.codes.find_code(e164, now=self.clock()) is None:
            return Outcome(kind=OutcomeKind.REFUSED, code=ENDED, asked=False)
        pin_id = message.pin_id or _PIN + self.vault.number_hash(e164).hex()
        return Outcome(kind=OutcomeKind.ACCEPTED, code=SENT, pin_id=pin_id, asked=False)

    def query_sent_since(self, *, to: str, application_id: str, since: datetime) -> OutcomeEvidence:
        """Query the provider. Locally handled sends never have an unknown outcome."""
        return self.provider.query_sent_since(to=to, application_id=application_id, since=since)

    def verify(self, *, pin_id: str, code: str) -> Judgement:
        """Compare a code with the fixed one, or have the provider verify it."""
        if not pin_id.startswith(_PIN):
            return self.checker.verify(pin_id=pin_id, code=code)
        fixed = self._find_fixed_code(pin_id)
        if fixed is None:
            return Judgement(verdict=CheckVerdict.EXPIRED, code=ENDED)
        return Judgement(
            verdict=CheckVerdict.CORRECT if fixed.matches(code) else CheckVerdict.WRONG, code=SENT
        )

    def _find_fixed_code(self, pin_id: str) -> FixedCode | None:
        wanted, now = bytes.fromhex(pin_id.removeprefix(_PIN)), self.clock()
        for e164 in self.codes.by_number:
            if wanted in self.vault.number_hashes(e164):
                return self.codes.find_code(e164, now=now)
        return None
