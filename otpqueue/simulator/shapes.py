"""Reshapes replies: adds unknown fields, removes optional fields."""

from typing import Any, Final, Literal

from otpqueue.simulator.options import Options

# Fields that the schema makes optional (Infobip OpenAPI 3.210.0). Optional ids and statuses stay:
# without them a reply is useless.
_OPTIONAL: Final = frozenset(
    {
        "attemptsRemaining",
        "configuration",
        "description",
        "enabled",
        "language",
        "msisdn",
        "ncStatus",
        "pinLength",
        "pinPlaceholder",
        "regional",
        "repeatDTMF",
        "senderId",
        "speechRate",
        "to",
        "validationErrors",
        "verifiedAt",
        "voiceName",
    }
)
_UNKNOWN: Final = {"unknownField": {"since": "3.999.0", "values": [1, None, "x"]}, "verificationTimeout": 0}


def reshape(media: Any, options: Options) -> Any:
    """Return a reply reshaped by the options `optional_fields` and `extra_fields`."""
    if options.optional_fields != "keep":
        media = _reduced(media, options.optional_fields)
    if options.extra_fields:
        media = _extended(media)
    return media


def is_reshaped(options: Options) -> bool:
    """Return whether the options change replies."""
    return options.extra_fields or options.optional_fields != "keep"


def _reduced(value: Any, how: Literal["omit", "null"]) -> Any:
    if isinstance(value, list):
        return [_reduced(entry, how) for entry in value]
    if not isinstance(value, dict):
        return value
    if how == "null":
        return {name: None if name in _OPTIONAL else _reduced(entry, how) for name, entry in value.items()}
    return {name: _reduced(entry, how) for name, entry in value.items() if name not in _OPTIONAL}


def _extended(value: Any) -> Any:
    if isinstance(value, list):
        return [_extended(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    return {**{name: _extended(entry) for name, entry in value.items()}, **_UNKNOWN}
