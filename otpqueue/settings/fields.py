"""How a setting is declared, and the types and checks that several subjects share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo

TUNING = "OTPQUEUE_TUNING_"
"""Prefix of the variables that override constants in tests and benchmarks."""


class SettingsError(Exception):
    """The settings cannot be used; `problems` has one line for each problem."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("settings cannot be used:\n" + "\n".join(f"  - {problem}" for problem in problems))


@dataclass(frozen=True, kw_only=True)
class FieldFacts:
    """Documentation of a setting, in addition to its name, type, default and description."""

    used_by: str | None
    """None: the processes of the subject."""
    default: str | None = None
    """The documented default in Markdown, where it is not a fixed value."""
    example: str | None = None
    """Value in `.env.example`. A setting with an example is required, except for `otpqueue dev`."""
    example_comment: str = ""
    constant: bool = False


@dataclass(frozen=True)
class TypeName:
    """The documented type of an annotated field."""

    name: str


def setting(
    default: object,
    name: str,
    description: str,
    *,
    used_by: str | None = None,
    shown_default: str | None = None,
    example: str | None = None,
    example_comment: str = "",
    **options: Any,
) -> Any:
    """Return the field of the setting that is read from the environment variable `name`.

    default      a value, or a function without parameters that returns it
    description  a phrase in Markdown, for docs/settings.md
    used_by      the processes on which the setting has an effect, if not those of its subject
    options      pydantic's constraints
    """
    facts = FieldFacts(
        used_by=used_by, default=shown_default, example=example, example_comment=example_comment
    )
    return _make_field(default, name, description, facts, options)


def constant(default: object, name: str, description: str, **options: Any) -> Any:
    """Return the field of a constant, which only `OTPQUEUE_TUNING_...` overrides, for tests and benchmarks.

    `name` starts with TUNING. docs/contributing.md lists constants; docs/settings.md does not.
    """
    return _make_field(default, name, description, FieldFacts(used_by=None, constant=True), options)


def _make_field(
    default: object, name: str, description: str, facts: FieldFacts, options: dict[str, Any]
) -> Any:
    source = {"default_factory": default} if callable(default) else {"default": default}
    extra = cast("Any", {"facts": facts})
    return Field(alias=name, description=description, json_schema_extra=extra, **source, **options)


def get_facts(field: FieldInfo) -> FieldFacts:
    """Return the facts that `setting` or `constant` was given."""
    return cast("dict[str, FieldFacts]", field.json_schema_extra)["facts"]


class SettingsSubject(BaseModel):
    """The settings of one subject: fields, their types and their combinations."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)

    TITLE: ClassVar[str] = ""
    USED_BY: ClassVar[str] = ""
    """The processes on which most settings of the subject have an effect."""
    INTRODUCTION: ClassVar[str] = ""
    """A line in Markdown above the table of the subject."""

    def find_problems(self) -> list[str]:
        """Return a line for each combination of values that cannot work. Subjects extend the list."""
        return []

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        problems = self.find_problems()
        if problems:
            raise ValueError("\n".join(problems))
        return self


def is_one_word(secret: SecretStr | None) -> bool:
    """Return whether a secret can be part of a header: printable ASCII without spaces."""
    return secret is None or re.fullmatch(r"[!-~]+", secret.get_secret_value()) is not None


def is_url(secret: SecretStr | None, schemes: set[str]) -> bool:
    """Return whether a secret is an absolute URL with one of the schemes."""
    if secret is None:
        return True
    url = secret.get_secret_value()
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:  # an invalid port
        return False


def has_valid_port(url: str) -> bool:
    """Return whether the port of a URL is valid or absent."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def match_form(pattern: str, words: str, *, url: bool = False) -> AfterValidator:
    """Return a check that rejects other text with a message in words. Pydantic would show the pattern."""

    def check(text: str | None) -> str | None:
        if text is None:
            return None
        if not re.fullmatch(pattern, text) or (url and not has_valid_port(text)):
            raise ValueError(f"must be {words}")
        return text

    return AfterValidator(check)


def _parse_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("must be a JSON object") from None


def _split_words(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(word.strip() for word in value.split(",") if word.strip())


def none_if(*texts: str) -> Callable[[object], object]:
    """Return a function that replaces each of the texts (in lower case) with None."""

    def replace(value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() in texts else value

    return replace


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Optional = BeforeValidator(none_if(""))
FromJson = BeforeValidator(_parse_json)
Words = Annotated[tuple[str, ...], BeforeValidator(_split_words)]
Secret = Annotated[SecretStr | None, Optional]
Text = Annotated[str | None, Optional]

API = "API"
WORKERS = "workers"
BEAT = "beat"
API_AND_WORKERS = "API, workers"
ALL = "all"
PROVISION = "`provision`"
