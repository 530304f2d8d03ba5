"""Settings: read once from the environment and `.env`, typed, every problem reported at once.

Each subject has a module with its fields, their types and the checks of their combinations. A field is the
only description of a setting: `otpqueue settings` generates docs/settings.md and `.env.example` from the
fields.
"""

from otpqueue.settings.api import TrustedProxies
from otpqueue.settings.combined import SUBJECTS, Settings
from otpqueue.settings.fields import SettingsError
from otpqueue.settings.sources import collect_given, load

__all__ = ["SUBJECTS", "Settings", "SettingsError", "TrustedProxies", "collect_given", "load"]
