"""Settings of requests and codes: lifetimes, checks and test numbers."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, SecretStr

from otpqueue.settings.fields import API, API_AND_WORKERS, FromJson, Seconds, SettingsSubject, setting


class GivenTestNumber(BaseModel):
    """One of OTPQUEUE_TEST_NUMBERS."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    code: SecretStr
    until: date


class CodeSettings(SettingsSubject):
    """How long codes are valid, and the numbers with a fixed code."""

    TITLE: ClassVar[str] = "Requests and codes"
    USED_BY: ClassVar[str] = API

    send_within_s: Seconds = setting(
        90, "OTPQUEUE_SEND_WITHIN_S", "deadline for sending a code; the request expires after it", le=600
    )
    code_lifetime_s: Seconds = setting(
        300,
        "OTPQUEUE_CODE_LIFETIME_S",
        "how long a sent code is valid; NIST SP 800-63B allows up to 10 minutes",
        used_by="workers, `provision`",
        ge=30,
        le=600,
    )
    max_checks: int = setting(
        5,
        "OTPQUEUE_MAX_CHECKS",
        "checks per request",
        ge=1,
        # Including returned checks, a code must not exceed the 10 checks that Infobip allows.
        le=7,
    )
    allow_documentation_numbers: bool = setting(
        False,
        "OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS",
        "accept numbers reserved for documentation and drama; on in `otpqueue dev`",
    )
    test_numbers: Annotated[dict[str, GivenTestNumber], FromJson] = setting(
        {},
        "OTPQUEUE_TEST_NUMBERS",
        "numbers with a fixed code that are never sent to "
        "([sending-policy.md](sending-policy.md#test-numbers))",
        used_by=API_AND_WORKERS,
        repr=False,
    )
    allow_test_numbers: bool = setting(
        False,
        "OTPQUEUE_ALLOW_TEST_NUMBERS",
        "allow test numbers with the real Infobip API",
        used_by=API_AND_WORKERS,
    )

    def find_problems(self) -> list[str]:
        """Return a line for each test number that cannot be used. No line contains a number or a code."""
        problems = super().find_problems() + [
            f"OTPQUEUE_TEST_NUMBERS: each number must be in E.164, unlike number {place}"
            for place, number in enumerate(self.test_numbers, 1)
            if not re.fullmatch(r"\+[1-9][0-9]{6,14}", number)
        ]
        codes = (one.code.get_secret_value() for one in self.test_numbers.values())
        if not all(re.fullmatch(r"[0-9]{6}", code) for code in codes):
            problems.append("OTPQUEUE_TEST_NUMBERS: each code must be six digits")
        return problems
