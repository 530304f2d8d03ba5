"""Settings of the rate limits and of the limits of wrong codes."""

from __future__ import annotations

from typing import Annotated, ClassVar

from otpqueue.settings.fields import (
    API,
    API_AND_WORKERS,
    SettingsSubject,
    TypeName,
    constant,
    match_form,
    setting,
)

QuotaText = Annotated[
    str,
    match_form(r"off|[1-9][0-9]{0,4}/([1-9][0-9]{0,4})?[smhd]", "like `3/15m` (units s, m, h, d) or `off`"),
    TypeName("limit"),
]


class LimitSettings(SettingsSubject):
    """Rate limits of calls and numbers, and limits of wrong codes."""

    TITLE: ClassVar[str] = "Limits"
    USED_BY: ClassVar[str] = API
    INTRODUCTION: ClassVar[str] = (
        "[limits.md](limits.md) explains these. A limit is `count/window` with the units `s`, `m`, `h` and "
        "`d`, or `off`."
    )

    limit_number_15m: QuotaText = setting(
        "3/15m", "OTPQUEUE_LIMIT_NUMBER_15M", "requests per number and client"
    )
    limit_number_day: QuotaText = setting(
        "10/d", "OTPQUEUE_LIMIT_NUMBER_DAY", "requests and resends per number and client"
    )
    limit_number_day_all: QuotaText = setting(
        "20/d", "OTPQUEUE_LIMIT_NUMBER_DAY_ALL", "requests and resends per number, all clients together"
    )
    limit_client_ip_15m: QuotaText = setting(
        "10/15m", "OTPQUEUE_LIMIT_CLIENT_IP_15M", "requests per `client_ip` and client"
    )
    limit_key_rate: QuotaText = setting("100/s", "OTPQUEUE_LIMIT_KEY_RATE", "calls per API key")
    limit_keyless_peer: QuotaText = setting(
        "60/15m",
        "OTPQUEUE_LIMIT_KEYLESS_PEER",
        "calls without an API key, per address; `off` in `otpqueue dev`",
    )
    limit_keyless_network: QuotaText = setting(
        "600/15m",
        "OTPQUEUE_LIMIT_KEYLESS_NETWORK",
        "calls without an API key, per network (/24, or /48 for IPv6); `off` in `otpqueue dev`",
    )
    limit_pages: QuotaText = setting("1000/15m", "OTPQUEUE_LIMIT_PAGES", "verification pages per client")
    limit_page_requests: QuotaText = setting(
        "10/d", "OTPQUEUE_LIMIT_PAGE_REQUESTS", "requests for codes per verification page"
    )
    limit_page_peer: QuotaText = setting(
        "300/15m",
        "OTPQUEUE_LIMIT_PAGE_PEER",
        "links opened and forms submitted on verification pages, per address",
    )
    wrong_codes_number: QuotaText = setting(
        "10/h",
        "OTPQUEUE_WRONG_CODES_NUMBER",
        "wrong codes per number and client, before new requests are rejected",
    )
    wrong_codes_client_ip: QuotaText = setting(
        "20/h",
        "OTPQUEUE_WRONG_CODES_CLIENT_IP",
        "wrong codes per `client_ip` and client, before new requests are rejected",
    )
    wrong_codes_in_a_row: int = setting(
        100,
        "OTPQUEUE_WRONG_CODES_IN_A_ROW",
        "consecutive wrong codes that lock a number; NIST SP 800-63B allows up to 100",
        ge=20,
        le=100,
    )
    wrong_share: float = setting(
        0.5,
        "OTPQUEUE_WRONG_SHARE",
        "maximum share of wrong codes among a client's checks in one hour",
        used_by=API_AND_WORKERS,
        gt=0,
        le=1,
    )
    wrong_share_window_s: int = constant(
        3600, "OTPQUEUE_TUNING_WRONG_SHARE_WINDOW_S", "window of `OTPQUEUE_WRONG_SHARE`", ge=60, le=86400
    )
    wrong_share_min_checks: int = constant(
        100, "OTPQUEUE_TUNING_WRONG_SHARE_MIN_CHECKS", "minimum number of checks in that window", ge=1
    )
    wrong_share_refuses: bool = setting(
        False, "OTPQUEUE_WRONG_SHARE_REFUSES", "reject new requests of a client above that share"
    )
