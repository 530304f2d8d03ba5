"""Request bodies and queries, and how they are read. Unknown fields are rejected, types are not converted."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from otpqueue.domain.alerts import AlertState
from otpqueue.domain.checking import parse_code
from otpqueue.domain.request import SHOWN, Channel
from otpqueue.domain.stats import Dimension
from otpqueue.domain.typed import describe_character, find_control_character
from otpqueue.durations import parse_duration

_EARLIEST_YEAR, _LATEST_YEAR = 1970, 9998
"""Times in these years can be converted to every time zone."""

_WINDOW_UNITS = ("m", "h", "d", "w")
"""Statistics have a resolution of one minute."""

_LANGUAGE = "^[A-Za-z]{2,3}([-_][A-Za-z]{2,4})?$"

MAX_WAIT_S = 30
"""Longest `wait` of a poll."""


def _check_printable(text: str) -> str:
    character = find_control_character(text)
    if character is not None:
        raise ValueError(f"must not contain control characters such as {describe_character(character)}")
    return text


def _read_address(text: str) -> str:
    try:
        # A zone ("%eth0") has a meaning on one machine only, and may contain any character.
        return str(ip_address("" if "%" in text else text))
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address") from None


def _read_code(text: str) -> str:
    code = parse_code(_check_printable(text))
    if code is None:
        raise ValueError("must be six digits, 0 to 9")
    return code


def _read_country(text: str) -> str:
    if not (len(text) == 2 and text.isascii() and text.isalpha()):
        raise ValueError("must be an ISO 3166 alpha-2 code, for example GB")
    return text.upper()


def _check_language(text: str) -> str:
    if not re.fullmatch(_LANGUAGE, text):
        raise ValueError("must be a language tag, for example de or pt-BR")
    return text


def _check_status(text: str) -> str:
    if text not in SHOWN:
        raise ValueError(f"must be one of {', '.join(sorted(SHOWN))}")
    return text


def _read_moment(text: object) -> datetime:
    try:
        # In a query, an unencoded plus is a space.
        moment = datetime.fromisoformat(text.replace(" ", "+")) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not _EARLIEST_YEAR <= moment.year <= _LATEST_YEAR:
        raise ValueError("must be ISO 8601 with a time zone, for example 2026-03-01T12:00:00Z")
    return moment.astimezone(UTC)


def parse_window(text: str) -> timedelta:
    """Return the window of statistics that a text like 15m, 1h or 7d says. Raises ValueError."""
    return parse_duration(text, units=_WINDOW_UNITS)


def parse_dimensions(text: str | None) -> tuple[Dimension, ...]:
    """Return the dimensions in a comma-separated text. Raises ValueError."""
    names = text.split(",") if text is not None else []
    known = [dimension.value for dimension in Dimension]
    if not set(names) <= set(known) or len(set(names)) < len(names):
        raise ValueError(f"must be a comma-separated list of {', '.join(known)}, each at most once")
    return tuple(Dimension(name) for name in names)


def _check_window(text: str) -> str:
    parse_window(text)
    return text


def _check_dimensions(text: str) -> str:
    parse_dimensions(text)
    return text


def _read_wait(text: object) -> float:
    if not isinstance(text, str) or not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,3})?", text):
        raise ValueError(f"must be seconds, 0 to {MAX_WAIT_S}")
    return float(text)


Moment = Annotated[datetime, BeforeValidator(_read_moment)]
Text = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_check_printable)]
# Longer than any number: a pasted one may contain invisible marks.
Number = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_check_printable)]
Code = Annotated[str, AfterValidator(_read_code)]
Language = Annotated[str, AfterValidator(_check_language), Field(json_schema_extra={"pattern": _LANGUAGE})]
Country = Annotated[str, AfterValidator(_read_country)]
Address = Annotated[str, Field(max_length=45), AfterValidator(_read_address)]


ChannelName = Annotated[
    Literal["sms", "voice"],
    # A strict model would accept only the enum's members, not their names.
    WithJsonSchema({"type": "string", "enum": [channel.value for channel in Channel], "title": "Channel"}),
]
StatusName = Annotated[
    str,
    AfterValidator(_check_status),
    WithJsonSchema({"type": "string", "enum": sorted(SHOWN), "title": "RequestStatus"}),
]
StateName = Annotated[
    Literal["open", "closed"],
    WithJsonSchema({"type": "string", "enum": [state.value for state in AlertState], "title": "AlertState"}),
]


class JsonBody(BaseModel):
    """A JSON object with these fields and no others."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NationalNumber(JsonBody):
    """A phone number in E.164, or with its country."""

    phone_number: Number = Field(
        description="E.164, for example `+447911123456`; a national number if `country` is given",
        examples=["+447700900123"],
    )
    country: Country | None = Field(
        None, description="country of a national number, ISO 3166 alpha-2", examples=["GB"]
    )


class NewOtpRequest(NationalNumber):
    """A request for a code."""

    channel: ChannelName = Field("sms", description="`sms`, or `voice`, a call that reads out the code")
    language: Language | None = Field(
        None,
        description="language of the message, for example `de`; else `en`",
    )
    session_id: Text | None = Field(
        None, description="binds the code to a login session; `verify` needs the same value"
    )
    client_ip: Address | None = Field(None, description="IP address of the end user")
    client_reference: Text | None = Field(None, description="your own reference, returned with the request")


class CodeToVerify(JsonBody):
    """A code that the end user entered."""

    code: Code = Field(description="six digits; spaces and hyphens are ignored", examples=["123456"])
    session_id: Text | None = Field(None, description="the value sent with the request for the code")
    phone_number: Number | None = Field(
        None, description="E.164; if given, it must be the number of the request"
    )
    client_ip: Address | None = Field(None, description="IP address of the end user")


class ResendWanted(JsonBody):
    """A request to resend the code."""

    channel: ChannelName | None = Field(None, description="the request's channel unless given")


class StatusQuery(BaseModel):
    """The query of `GET /v1/otp-requests/{request_id}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wait: Annotated[float, BeforeValidator(_read_wait)] = Field(
        0, ge=0, le=MAX_WAIT_S, description="seconds to wait for a change of the status"
    )


class FilterFields(BaseModel):
    """The filters of both searches."""

    status: StatusName | None = Field(
        None, description="status of the request, including `sending`", examples=["failed"]
    )
    created_after: Moment | None = Field(
        None,
        description="at or after this time; ISO 8601, with a zone",
        examples=["2026-03-01T12:00:00Z"],
    )
    created_before: Moment | None = Field(None, description="before this time")
    client: Text | None = Field(None, description="name of a client; all clients unless given")
    cursor: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        None, description="`next_cursor` of the previous page; needs the same filters"
    )


class SearchQuery(FilterFields):
    """The query of `GET /v1/otp-requests`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(20, ge=1, le=100, description="maximum number of requests on a page")


class SearchWanted(FilterFields, JsonBody):
    """A search for the requests of a number."""

    phone_number: Number = Field(description="E.164", examples=["+447700900123"])
    limit: int = Field(20, ge=1, le=100, description="maximum number of requests on a page")


class StatsQuery(BaseModel):
    """The query of `GET /v1/stats`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: Annotated[str, AfterValidator(_check_window)] = Field(
        "1h",
        description="length of the time window, in minutes, hours, days or weeks",
        json_schema_extra={"pattern": f"^0*[1-9][0-9]{{0,4}}[{''.join(_WINDOW_UNITS)}]$"},
        examples=["15m", "24h", "7d"],
    )
    by: Annotated[str, AfterValidator(_check_dimensions)] | None = Field(
        None,
        description="break down by `client`, `country` or `channel`; several are separated by commas",
        examples=["country", "client,country"],
    )
    client: Text | None = Field(None, description="name of a client; all clients unless given")
    country: Country | None = Field(
        None,
        description="ISO 3166 alpha-2, or ZZ for numbers that belong to no single country; all countries "
        "unless given",
    )


class NumberToErase(NationalNumber):
    """A phone number to erase."""


class AlertsQuery(BaseModel):
    """The query of `GET /v1/alerts`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: StateName | None = Field(None, description="state of the alerts; all unless given")
    rule: Text | None = Field(None, description="name of a rule", examples=["success_rate"])
    limit: int = Field(100, ge=1, le=500, description="maximum number of alerts; the newest are returned")


class SilenceWanted(JsonBody):
    """How to silence an alert."""

    for_s: int = Field(3600, ge=60, le=7_776_000, description="how long, in seconds; up to 90 days")
    reason: Text | None = Field(None, description="the reason, which is stored and shown")
    every_subject: bool = Field(False, description="silence every subject of the alert's rule")
