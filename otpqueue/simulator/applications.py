"""2FA applications: their fields, bounds and defaults (Infobip OpenAPI 3.210.0)."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from otpqueue.simulator.durations import daily_limit_text, duration_text, limit_text
from otpqueue.simulator.templates import Template
from otpqueue.simulator.wire import RequestBody, parse_model

Attempts = Annotated[int, Field(ge=1, le=2**31 - 1)]
DurationText = Annotated[str, AfterValidator(duration_text)]
LimitText = Annotated[str, AfterValidator(limit_text)]
DailyLimitText = Annotated[str, AfterValidator(daily_limit_text)]


class Configuration(RequestBody):
    """Limits and lifetime of an application's PINs; the minimum of 1 for `pinAttempts` is INFERRED."""

    pin_attempts: Attempts = 10
    allow_multiple_pin_verifications: bool = True
    pin_time_to_live: DurationText = "15m"
    verify_pin_limit: DailyLimitText = "1/3s"
    send_pin_per_application_limit: LimitText = "10000/1d"
    send_pin_per_phone_number_limit: LimitText = "3/1d"


class ApplicationBody(RequestBody):
    """The body of an application; the default of `enabled` is from the 2015 API pages."""

    name: Annotated[str, Field(min_length=1)]
    enabled: bool = True
    configuration: Configuration = Configuration()


@dataclass(slots=True)
class Application:
    """A 2FA application with its message templates, by template id."""

    id: str
    body: ApplicationBody
    templates: dict[str, Template] = field(default_factory=dict)

    def reply(self) -> dict[str, Any]:
        """Return the application as the API shows it."""
        return {"applicationId": self.id, **self.body.model_dump(by_alias=True)}


def merge_application(old: ApplicationBody, new: ApplicationBody) -> ApplicationBody:
    """Return `old` updated by the fields that `new` sets explicitly.

    An update keeps omitted fields by the 2015 API pages; INFERRED for the current API.
    """
    before = old.model_dump(by_alias=True)
    given = new.model_dump(by_alias=True, exclude_unset=True)
    configuration = {**before["configuration"], **given.get("configuration", {})}
    return parse_model(ApplicationBody, {**before, **given, "configuration": configuration})
