"""What is wrong with a field of the input, and how to fix it, in the words of the API.

pydantic reports a type and the limits of each error. Its own texts are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

Context = Mapping[str, Any]

_TEXTS: dict[str, Callable[[Context], str]] = {
    "missing": lambda _: "is required",
    "string_type": lambda _: "must be a string, in quotation marks",
    "string_too_short": lambda context: _describe_shortest(context["min_length"]),
    "string_too_long": lambda context: f"must have at most {context['max_length']} characters",
    "literal_error": lambda context: f"must be {context['expected'].replace(chr(39), '')}",
    "int_type": lambda _: "must be a whole number, without quotation marks",
    "int_parsing": lambda _: "must be a whole number, for example 20",
    "int_parsing_size": lambda _: "must be a whole number of a few digits",
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "less_than_equal": lambda context: f"must be at most {int(context['le'])}",
    "bool_type": lambda _: "must be true or false, without quotation marks",
    "value_error": lambda context: str(context["error"]),
}
"""By pydantic's type of error. A validator of `bodies` raises ValueError with a text of its own."""

_UNKNOWN = "is not valid; the API reference describes it"
"""For a type without a text. A test ensures that no constraint in use has one."""


def describe_fault(kind: str, context: Context, *, name: str, known: Iterable[str]) -> str:
    """Return what is wrong with a field, for a person, from a type of error and its context.

    `known` are the names of the fields of the call, one of which may have been meant.
    """
    if kind == "extra_forbidden":
        return describe_unknown_name(name, known, what="field")
    text = _TEXTS.get(kind)
    return text(context) if text else _UNKNOWN


def describe_unknown_name(name: str, known: Iterable[str], *, what: str) -> str:
    """Return that a call has no such field or parameter, with the name that was probably meant."""
    names = {_simplify(one): one for one in known}
    close = get_close_matches(_simplify(name), names, n=1, cutoff=0.75)
    hint = f"did you mean {names[close[0]]}?" if close else "remove it"
    return f"is not a {what} of this call; {hint}"


def _simplify(name: str) -> str:
    # `phoneNumber` and `phone_number` are the same word.
    return name.replace("_", "").replace("-", "").lower()[:64]


def _describe_shortest(length: int) -> str:
    return "must not be empty" if length == 1 else f"must have at least {length} characters"
