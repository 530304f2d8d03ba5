"""Settings of the pumping guard."""

from __future__ import annotations

from typing import ClassVar, Literal

from otpqueue.settings.fields import API_AND_WORKERS, SettingsSubject, constant, setting


class GuardSettings(SettingsSubject):
    """Mode and budgets of the pumping guard."""

    TITLE: ClassVar[str] = "Pumping guard"
    USED_BY: ClassVar[str] = API_AND_WORKERS
    INTRODUCTION: ClassVar[str] = "[guard.md](guard.md) explains these."

    guard: Literal["off", "shadow", "enforce"] = setting(
        "shadow", "OTPQUEUE_GUARD", "`off`, `shadow` (report only) or `enforce`"
    )
    guard_share: float = setting(
        0.5,
        "OTPQUEUE_GUARD_SHARE",
        "unverified sends allowed per verified send, added to each floor",
        ge=0,
        le=10,
    )
    guard_block_floor: int = constant(
        3, "OTPQUEUE_TUNING_GUARD_BLOCK_FLOOR", "unverified sends a day per known block", ge=0
    )
    guard_country_floor_hour: int = constant(
        5,
        "OTPQUEUE_TUNING_GUARD_COUNTRY_FLOOR_HOUR",
        "unverified sends an hour to new blocks of one country",
        ge=0,
    )
    guard_country_floor_day: int = constant(
        10,
        "OTPQUEUE_TUNING_GUARD_COUNTRY_FLOOR_DAY",
        "unverified sends a day to new blocks of one country",
        ge=0,
    )
    guard_total_floor_hour: int = constant(
        15, "OTPQUEUE_TUNING_GUARD_TOTAL_FLOOR_HOUR", "unverified sends an hour to all new blocks", ge=0
    )
    guard_total_floor_day: int = constant(
        40, "OTPQUEUE_TUNING_GUARD_TOTAL_FLOOR_DAY", "unverified sends a day to all new blocks", ge=0
    )
    guard_address_floor: int = constant(
        2,
        "OTPQUEUE_TUNING_GUARD_ADDRESS_FLOOR",
        "unverified sends a day to new blocks from one `client_ip`",
        ge=0,
    )
