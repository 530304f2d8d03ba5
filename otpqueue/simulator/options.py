"""Every choice the simulator leaves to its user, with the advised default."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

DEFAULT_API_KEY = "simulator-api-key"

ApiKey = Annotated[str, StringConstraints(min_length=1)]
UserAndPassword = Annotated[str, StringConstraints(pattern=r"^[^:]+:")]


class Options(BaseModel):
    """How the simulator behaves; the descriptions are also the help of the command line.

    A choice marked INFERRED is one that Infobip's documents leave open.
    Raises `pydantic.ValidationError` on unknown names and impossible values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_keys: tuple[ApiKey, ...] = Field(
        (DEFAULT_API_KEY,), repr=False, description="An API key accepted as 'Authorization: App KEY'."
    )
    basic_users: tuple[UserAndPassword, ...] = Field(
        (), repr=False, description="USER:PASSWORD accepted as Basic authorization."
    )
    inbox_size: int = Field(100_000, ge=1, description="Messages kept in the inbox; the oldest go first.")
    pins_kept: int = Field(200_000, ge=1, description="PINs remembered; the oldest become unknown first.")

    create_status: Literal[201, 200] = Field(
        201, description="Answer to a created application (201 in OpenAPI 3.210.0, 200 in the Python client)."
    )
    update_replaces: bool = Field(
        False, description="Updating an application resets what the body leaves out. INFERRED"
    )
    default_pin_length: int = Field(
        4, ge=1, le=8, description="PIN length of a template that gives none. INFERRED"
    )

    not_found_message_id: Literal["RESOURCE_NOT_FOUND", "NOT_FOUND"] = Field(
        "RESOURCE_NOT_FOUND", description="Error id when sending with an unknown application or template."
    )
    pin_not_found_message_id: Literal["NOT_FOUND", "RESOURCE_NOT_FOUND"] = Field(
        "NOT_FOUND", description="Error id when verifying or resending an unknown pinId."
    )
    throttle_message_id: Literal["TOO_MANY_REQUESTS", "THROTTLE_EXCEPTION"] = Field(
        "TOO_MANY_REQUESTS", description="Error id of 429 when an application's limit is reached. INFERRED"
    )
    retry_after: bool = Field(False, description="Send a Retry-After header, in seconds, with 429. INFERRED")
    unauthorized_text: Literal["Invalid login details", "Unauthorized"] = Field(
        "Invalid login details", description="Text of 401."
    )
    disabled_application_status: Literal[400, 403, 404] = Field(
        400, description="Status when sending through a disabled application. INFERRED"
    )
    limit_window: Literal["sliding", "fixed"] = Field(
        "sliding", description="Kind of window of the send and verify limits. INFERRED"
    )

    accept_plus: bool = Field(True, description="Accept a leading '+' in phone numbers. INFERRED")
    skipped_nc_status: Literal["omit", "null"] = Field(
        "omit", description="What ncStatus looks like with ncNeeded=false. INFERRED"
    )
    missing_placeholder: Literal["keep", "reject"] = Field(
        "keep", description="A placeholder without a value: keep '{{name}}' or answer 400. INFERRED"
    )
    new_pin_replaces_old: bool = Field(
        False, description="A new PIN makes the earlier ones of its number unknown. INFERRED"
    )
    resend_new_pin_id: bool = Field(
        False, description="Resending moves the PIN to a new pinId, answered instead of the old. INFERRED"
    )
    resend_counts: bool = Field(True, description="Resending counts against the send limits. INFERRED")
    resend_restarts_ttl: bool = Field(False, description="Resending restarts pinTimeToLive. INFERRED")
    resend_resets_attempts: bool = Field(False, description="Resending gives all attempts back. INFERRED")
    resend_expired: Literal["404", "send"] = Field(
        "404", description="Resending an expired PIN: answer 404, or send it. INFERRED"
    )

    success_uses_attempt: bool = Field(
        True, description="A right PIN uses up an attempt as a wrong one does. INFERRED"
    )
    success_attempts_remaining: Literal["zero", "remaining"] = Field(
        "zero", description="attemptsRemaining of a success (the official sample shows 0)."
    )
    success_pin_error: Literal["omit", "NO_ERROR"] = Field(
        "omit", description="pinError of a success (absent from the official sample)."
    )
    last_wrong_attempt: Literal["WRONG_PIN", "NO_MORE_PIN_ATTEMPTS"] = Field(
        "WRONG_PIN", description="pinError of the wrong PIN that uses the last attempt. INFERRED"
    )
    second_verification: Literal["NO_MORE_PIN_ATTEMPTS", "404"] = Field(
        "NO_MORE_PIN_ATTEMPTS",
        description="Verifying a verified PIN when allowMultiplePinVerifications is false. INFERRED",
    )
    throttled_verify_uses_attempt: bool = Field(
        False, description="A verification refused by verifyPinLimit uses up an attempt. INFERRED"
    )
    forget_expired_after_s: float | None = Field(
        None, ge=0, description="Seconds after expiry when a PIN becomes unknown; never if absent. INFERRED"
    )
    verification_times: Literal["ms", "s"] = Field(
        "ms", description="Unit of verifiedAt and sentAt (described as ms, sampled as s)."
    )
