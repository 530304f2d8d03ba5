"""The composition root: builds the parts of a process from its settings, one module a subject.

Each part connects when first used.
"""

from __future__ import annotations

from functools import cached_property

from otpqueue.wiring.console import ConsoleParts
from otpqueue.wiring.privacy import PrivacyParts
from otpqueue.wiring.verification_pages import PageParts


class Parts(PageParts, ConsoleParts, PrivacyParts):
    """The parts of one process, each created when first used.

    Creating a part raises SettingsError if its settings are missing: a worker needs no API port, `keys` no
    broker. An invalid setting is rejected at once, also one that only other processes read.
    """

    @cached_property
    def console_parts(self) -> Parts:
        """The parts of the console. It stays available when the API's connections are all in use."""
        parts = Parts(self.settings, for_console=True)
        self.close_later(parts.close)
        return parts
