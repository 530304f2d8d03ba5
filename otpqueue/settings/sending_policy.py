"""Settings of the sending policy: daily caps, countries and number types."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from otpqueue.settings.fields import API, API_AND_WORKERS, FromJson, SettingsSubject, Words, none_if, setting

_NoneIfNone = BeforeValidator(none_if("", "none"))
Cap = Annotated[int | None, Field(ge=0, le=1_000_000_000), _NoneIfNone]
Share = Annotated[float | None, Field(gt=0, le=1), _NoneIfNone]


class SendingPolicySettings(SettingsSubject):
    """Where codes are sent, and how many a day."""

    TITLE: ClassVar[str] = "Sending policy"
    USED_BY: ClassVar[str] = API_AND_WORKERS
    INTRODUCTION: ClassVar[str] = "[sending-policy.md](sending-policy.md) explains these."

    daily_cap: Cap = setting(
        10_000, "OTPQUEUE_DAILY_CAP", "maximum codes sent per day (UTC); `none` for no cap"
    )
    daily_cap_per_client: Cap = setting(
        None, "OTPQUEUE_DAILY_CAP_PER_CLIENT", "the same for each client without a `daily_cap` of its own"
    )
    daily_cap_client_share: Share = setting(
        0.5,
        "OTPQUEUE_DAILY_CAP_CLIENT_SHARE",
        "with several clients: maximum share of `OTPQUEUE_DAILY_CAP` for each client without another cap; "
        "`none` for no share",
    )
    daily_caps_by_country: Annotated[dict[str, Annotated[int, Field(ge=0)]], FromJson] = setting(
        {},
        "OTPQUEUE_DAILY_CAPS_BY_COUNTRY",
        'the same by country: `{"GB": 5000, "*": 200}`; `*` is each other country, `001` international '
        "numbers",
    )
    countries_allowed: Words = setting(
        (),
        "OTPQUEUE_COUNTRIES_ALLOWED",
        "the only countries to send to; international numbers need `001`. All countries, without `001`, "
        "unless set",
        used_by=API,
    )
    countries_blocked: Words = setting(
        (), "OTPQUEUE_COUNTRIES_BLOCKED", "countries never to send to", used_by=API
    )
    refused_lines: Words = setting(
        ("pager", "premium_rate", "shared_cost", "toll_free", "uan", "voicemail"),
        "OTPQUEUE_REFUSED_LINES",
        "number types never to send to; also `fixed_line`, `mobile`, `fixed_line_or_mobile`, `voip`, "
        "`personal_number`, `unknown`; `none` for no restriction",
        used_by=API,
    )
