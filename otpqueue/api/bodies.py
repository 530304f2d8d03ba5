"""What callers send: JSON bodies with their rules. Unknown fields are refused, types are not guessed."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Annotated, Literal, TypeVar

import falcon
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from otpqueue.api.http.bridge import MAX_BODY_BYTES
from otpqueue.api.http.errors import BodyTooLarge, MalformedJson, UnsupportedMediaType
from otpqueue.domain.checking import read_code
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.request import SHOWN
from otpqueue.domain.stats import Dimension
from otpqueue.domain.typed import control_character, named
from otpqueue.durations import parse_duration

MAX_DEPTH = 16
"""So deep may objects and lists stand in one another."""

_EARLIEST_YEAR, _LATEST_YEAR = 1970, 9998
"""In any time zone a moment that can be reckoned with."""

_WINDOW_UNITS = ("m", "h", "d", "w")
"""Statistics have a resolution of one minute."""

Model = TypeVar("Model", bound=BaseModel)


def _printable(text: str) -> str:
    character = control_character(text)
    if character is not None:
        raise ValueError(f"must not hold control characters, as {named(character)} is")
    return text


def _address(text: str) -> str:
    try:
        # A zone ("%eth0") means something only on one machine, and may hold any character.
        return str(ip_address("" if "%" in text else text))
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address") from None


def _code(text: str) -> str:
    code = read_code(_printable(text))
    if code is None:
        raise ValueError("must be six digits, 0 to 9")
    return code


def _country(text: str) -> str:
    if not (len(text) == 2 and text.isascii() and text.isalpha()):
        raise ValueError("must be two letters, ISO 3166 alpha-2, e.g. GB")
    return text.upper()


def _status(text: str) -> str:
    if text not in SHOWN:
        raise ValueError(f"must be one of {', '.join(sorted(SHOWN))}")
    return text


def _moment(text: object) -> datetime:
    try:
        # In a query a plus that was not encoded reads as a space.
        moment = datetime.fromisoformat(text.replace(" ", "+")) if isinstance(text, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or not _EARLIEST_YEAR <= moment.year <= _LATEST_YEAR:
        raise ValueError("must be ISO 8601 with a time zone, e.g. 2026-03-01T12:00:00Z")
    return moment.astimezone(UTC)


def parse_window(text: str) -> timedelta:
    """Return the window of statistics that a text like 15m, 1h or 7d says. Raises ValueError."""
    return parse_duration(text, units=_WINDOW_UNITS)


def dimensions(text: str | None) -> tuple[Dimension, ...]:
    """Return the dimensions that a text names, with commas between. Raises ValueError."""
    names = text.split(",") if text is not None else []
    known = [dimension.value for dimension in Dimension]
    if not set(names) <= set(known) or len(set(names)) < len(names):
        raise ValueError(f"must be some of {', '.join(known)}, each once, with commas between")
    return tuple(Dimension(name) for name in names)


def _window(text: str) -> str:
    parse_window(text)
    return text


def _dimensions(text: str) -> str:
    dimensions(text)
    return text


Moment = Annotated[datetime, BeforeValidator(_moment)]
Text = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
# Longer than a number is, for marks that nobody sees.
Number = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
Code = Annotated[str, AfterValidator(_code)]
Country = Annotated[str, AfterValidator(_country)]
Address = Annotated[str, Field(max_length=45), AfterValidator(_address)]


class Body(BaseModel):
    """A JSON object."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class NewOtpRequest(Body):
    """Ask for a code to be sent."""

    phone_number: Number = Field(
        description="E.164, e.g. `+447911123456`, as people write it; national if `country` is given",
        examples=["+447700900123"],
    )
    country: Country | None = Field(
        None, description="ISO 3166 alpha-2 country of a national number", examples=["GB"]
    )
    channel: Literal["sms", "voice"] = Field("sms", description="`sms`, or `voice`: a call that reads it out")
    language: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z]{2,4})?$")] | None = Field(
        None, description="language of the message, e.g. `de`; `en` where there is no text in it"
    )
    session_id: Text | None = Field(
        None, description="binds the code to a login session: the same must come with `verify`"
    )
    client_ip: Address | None = Field(None, description="address of the end user")
    client_reference: Text | None = Field(None, description="a text of yours that comes back in answers")


class CodeToVerify(Body):
    """A code as the end user typed it."""

    code: Code = Field(
        description="six digits; blanks and hyphens between them are ignored", examples=["123456"]
    )
    session_id: Text | None = Field(None, description="as given when the code was asked for")
    phone_number: Number | None = Field(
        None, description="E.164; if given, it must be the number the code went to"
    )
    client_ip: Address | None = Field(None, description="address of the end user")


class ResendWanted(Body):
    """Ask for the same code once more."""

    channel: Literal["sms", "voice"] | None = Field(None, description="as the first time unless given")


class Filtered(BaseModel):
    """What both searches take."""

    status: Annotated[str, AfterValidator(_status)] | None = Field(
        None, description="as it is shown, `sending` included", examples=["failed"]
    )
    created_after: Moment | None = Field(
        None, description="this moment or later, ISO 8601 with a time zone", examples=["2026-03-01T12:00:00Z"]
    )
    created_before: Moment | None = Field(None, description="before this moment")
    client: Text | None = Field(None, description="name of a client; of every one unless given")
    cursor: Annotated[str, Field(min_length=1, max_length=100)] | None = Field(
        None, description="`next_cursor` of the page before, with the same filters"
    )


class SearchQuery(Filtered):
    """The query of `GET /v1/otp-requests`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(20, ge=1, le=100, description="requests of a page, at most")


class SearchWanted(Filtered, Body):
    """Find the requests for a number."""

    phone_number: Number = Field(description="E.164", examples=["+447700900123"])
    limit: int = Field(20, ge=1, le=100, description="requests of a page, at most")


class StatsQuery(BaseModel):
    """The query of `GET /v1/stats`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window: Annotated[str, AfterValidator(_window)] = Field(
        "1h",
        description="how far back, in minutes, hours, days or weeks",
        json_schema_extra={"pattern": f"^0*[1-9][0-9]{{0,4}}[{''.join(_WINDOW_UNITS)}]$"},
        examples=["15m", "24h", "7d"],
    )
    by: Annotated[str, AfterValidator(_dimensions)] | None = Field(
        None,
        description="apart by `client`, `country`, `channel`, or several with commas between",
        examples=["country", "client,country"],
    )
    client: Text | None = Field(None, description="name of a client; all of them unless given")
    country: Country | None = Field(
        None, description="ISO 3166 alpha-2, or ZZ for numbers of no one country; all unless given"
    )


class NumberToErase(Body):
    """Erase all that concerns a phone number."""

    phone_number: Number = Field(
        description="E.164, e.g. `+447911123456`, as people write it; national if `country` is given",
        examples=["+447700900123"],
    )
    country: Country | None = Field(
        None, description="ISO 3166 alpha-2 country of a national number", examples=["GB"]
    )


class AlertsQuery(BaseModel):
    """The query of `GET /v1/alerts`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: Literal["open", "closed"] | None = Field(None, description="both unless given")
    rule: Text | None = Field(None, description="name of a rule", examples=["success_rate"])
    limit: int = Field(100, ge=1, le=500, description="alerts, at most; the newest")


class SilenceWanted(Body):
    """Send no notices about an alert for a time."""

    for_s: int = Field(3600, ge=60, le=7_776_000, description="seconds, up to 90 days")
    reason: Text | None = Field(None, description="why; it is kept and shown")
    every_subject: bool = Field(False, description="silence the alert's whole rule, not its subject alone")


class GuideRequest(Body):
    """The guide's `POST /request-otp`."""

    phone_number: Number = Field(alias="phoneNumber", description="E.164", examples=["+447700900123"])
    session_id: Text | None = Field(None, alias="sessionId")


class GuideVerify(Body):
    """The guide's `POST /verify-otp`."""

    phone_number: Number = Field(alias="phoneNumber", description="E.164", examples=["+447700900123"])
    otp: Code = Field(
        description="six digits; blanks and hyphens between them are ignored", examples=["123456"]
    )
    session_id: Text | None = Field(None, alias="sessionId")


def read(req: falcon.Request, model: type[Model]) -> Model:
    """Return the request's body as `model`.

    Raises UnsupportedMediaType, BodyTooLarge, MalformedJson, and InvalidRequest for fields that are wrong.
    """
    text = _text(req, limit=MAX_BODY_BYTES)
    value = _parse(text)
    if "\\u" in text and not _is_unicode(value):
        raise MalformedJson()
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise _refusal(error) from None


def read_query(req: falcon.Request, model: type[Model]) -> Model:
    """Return the request's query as `model`. Raises InvalidRequest."""
    try:
        return model.model_validate(req.params)
    except ValidationError as error:
        raise _refusal(error) from None


def read_json(req: falcon.Request, *, limit: int) -> object:
    """Return the value of a JSON body of at most `limit` bytes.

    Raises UnsupportedMediaType, BodyTooLarge, MalformedJson.
    """
    return _parse(_text(req, limit=limit))


def _text(req: falcon.Request, *, limit: int) -> str:
    _check_media_type(req)
    if (req.content_length or 0) > limit:
        raise BodyTooLarge()
    body = req.stream.read(limit + 1)
    if len(body) > limit:
        raise BodyTooLarge()
    try:
        return bytes(body).decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedJson("The body is not in UTF-8.") from None


def _check_media_type(req: falcon.Request) -> None:
    media_type, *parameters = (req.content_type or "").split(";")
    if media_type.strip().lower() != "application/json":
        raise UnsupportedMediaType()
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in {"utf-8", "utf8"}:
            raise UnsupportedMediaType("JSON is in UTF-8 and in no other charset.")
    if (req.get_header("Content-Encoding") or "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("A body that is compressed is not taken.")


def _parse(text: str) -> object:
    """Return the value of a JSON text that every reader of JSON reads alike: no field twice, no NaN."""
    try:
        value = _decode(text)
    except (ValueError, RecursionError):
        raise MalformedJson() from None
    # With so few brackets there is no need to look.
    if text.count("{") + text.count("[") > MAX_DEPTH and not _is_shallow(value):
        raise MalformedJson(f"The body is nested more than {MAX_DEPTH} deep.")
    return value


def _is_unicode(value: object) -> bool:
    """Return whether no text in `value` has half a surrogate pair: JSON can spell one, UTF-8 cannot."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise MalformedJson("A field of the body is given twice.")
    return fields


def _no_number(_name: str) -> float:
    raise MalformedJson("NaN and Infinity are no numbers of JSON.")


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _no_number(digits)


_decode = json.JSONDecoder(
    object_pairs_hook=_without_doubles, parse_constant=_no_number, parse_float=_finite
).decode


def _is_shallow(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        level = inner
    return not level


def _refusal(error: ValidationError) -> Exception:
    # Without the input: it may hold a number or a code.
    found = error.errors(include_input=False, include_url=False, include_context=False)
    if not found[0]["loc"]:  # no object
        return MalformedJson()
    return InvalidRequest(
        [FieldError(shown_name(str(one["loc"][0])), _message(one["type"], one["msg"])) for one in found]
    )


def shown_name(name: str) -> str:
    """Return the name of a field or parameter as an answer may repeat it: it could be a number or a code."""
    hidden = len(name) > 64 or any(character.isnumeric() for character in name)
    return "(a name with digits, or too long to show)" if hidden else name


def _message(kind: str, text: str) -> str:
    known = {
        "missing": "is required",
        "extra_forbidden": "is not a field of this call",
        "string_type": "must be a string",
    }
    return known.get(kind) or text.removeprefix("Value error, ").replace("String should", "should")
