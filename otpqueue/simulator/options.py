"""The options of the simulator, with their defaults."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

DEFAULT_API_KEY = "simulator-api-key"

ApiKey = Annotated[str, StringConstraints(min_length=1)]
UserAndPassword = Annotated[str, StringConstraints(pattern=r"^[^:]+:")]
KeyAndScopes = Annotated[str, StringConstraints(pattern=r"^[^=]+=[^=]*$")]
WebhookUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#]+\S*$", max_length=512)]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


class OptionGroup(BaseModel):
    """Options that belong together, under one `heading` of the command's help."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heading: ClassVar[str]


class AccessOptions(OptionGroup):
    """Credentials, and the errors of calls without them."""

    heading = "Access"

    api_keys: tuple[ApiKey, ...] = Field(
        (DEFAULT_API_KEY,), repr=False, description="An API key accepted as 'Authorization: App KEY'."
    )
    scoped_keys: tuple[KeyAndScopes, ...] = Field(
        (),
        repr=False,
        description="KEY=SCOPE,SCOPE: an API key that is refused with 403 beyond its scopes, for example "
        "'k=2fa:pin:send'.",
    )
    basic_users: tuple[UserAndPassword, ...] = Field(
        (), repr=False, description="USER:PASSWORD accepted as Basic authorization and to open a session."
    )
    oauth_clients: tuple[UserAndPassword, ...] = Field(
        (), repr=False, description="CLIENT_ID:CLIENT_SECRET that may ask for an OAuth2 access token."
    )
    session_idle_s: float = Field(
        3600, gt=0, description="Seconds without use after which an IBSSO session ends. INFERRED"
    )
    token_lifetime_s: int = Field(
        3600, gt=0, description="Lifetime of an OAuth2 access token in seconds (expires_in). INFERRED"
    )
    unauthorized_text: Literal["Invalid login details", "Unauthorized"] = Field(
        "Invalid login details", description="Text of 401."
    )
    forbidden_message_id: Literal["FORBIDDEN", "UNAUTHORIZED"] = Field(
        "FORBIDDEN",
        description="Error id of 403; UNAUTHORIZED has the text 'Unauthorized access', as in some samples.",
    )


class ReplyOptions(OptionGroup):
    """The shape of responses."""

    heading = "Responses"

    create_status: Literal[201, 200] = Field(
        201, description="Answer to a created application (201 in OpenAPI 3.210.0, 200 in the Python client)."
    )
    error_format: Literal["old", "new", "platform", "html", "empty"] = Field(
        "old",
        description="Body of errors: requestError (old), errorCode E400... (new), new for 401, 403 and 429 "
        "only (platform), a page (html), or nothing (empty). INFERRED",
    )
    optional_fields: Literal["keep", "omit", "null"] = Field(
        "keep", description="Fields of 2FA replies and reports that their schema makes optional. INFERRED"
    )
    extra_fields: bool = Field(False, description="Add undocumented fields to every reply. INFERRED")
    not_found_message_id: Literal["RESOURCE_NOT_FOUND", "NOT_FOUND"] = Field(
        "RESOURCE_NOT_FOUND", description="Error id when sending with an unknown application or template."
    )
    not_found_status: Literal[404, 400] = Field(
        404, description="Status when sending with an unknown application or template. INFERRED"
    )
    pin_not_found_message_id: Literal["NOT_FOUND", "RESOURCE_NOT_FOUND"] = Field(
        "NOT_FOUND", description="Error id when verifying or resending an unknown pinId."
    )
    throttle_message_id: Literal["TOO_MANY_REQUESTS", "THROTTLE_EXCEPTION"] = Field(
        "TOO_MANY_REQUESTS", description="Error id of 429 when an application's limit is reached. INFERRED"
    )
    throttle_status: Literal[429, 400] = Field(
        429, description="Status when an application's limit is reached. INFERRED"
    )
    retry_after: bool = Field(False, description="Send a Retry-After header, in seconds, with 429. INFERRED")
    disabled_application_status: Literal[400, 403, 404] = Field(
        400, description="Status when sending through a disabled application. INFERRED"
    )


class SendOptions(OptionGroup):
    """Applications, templates, limits, sending and resending."""

    heading = "Sending"

    update_replaces: bool = Field(
        False, description="Updating an application resets what the body leaves out. INFERRED"
    )
    default_pin_length: int = Field(
        4, ge=1, le=8, description="PIN length of a template that gives none. INFERRED"
    )
    config_throttles: bool = Field(
        False,
        description="Enforce the published throttles of applications and templates, such as 20 in 10 min.",
    )
    limit_window: Literal["sliding", "fixed"] = Field(
        "sliding", description="Kind of window of the send and verify limits. INFERRED"
    )
    magic_numbers: bool = Field(True, description="Enable the magic numbers (see below).")
    accept_plus: bool = Field(True, description="Accept a leading '+' in phone numbers. INFERRED")
    skipped_nc_status: Literal["omit", "null"] = Field(
        "omit", description="ncStatus with ncNeeded=false. INFERRED"
    )
    missing_placeholder: Literal["keep", "reject"] = Field(
        "keep", description="A placeholder without a value: keep '{{name}}' or answer 400. INFERRED"
    )
    new_pin_replaces_old: bool = Field(
        False, description="A new PIN invalidates the earlier PINs of its number. INFERRED"
    )
    resend_new_pin_id: bool = Field(
        False, description="Resending moves the PIN to a new pinId, answered instead of the old. INFERRED"
    )
    resend_counts: bool = Field(True, description="Resending counts against the send limits. INFERRED")
    resend_restarts_ttl: bool = Field(False, description="Resending restarts pinTimeToLive. INFERRED")
    resend_resets_attempts: bool = Field(False, description="Resending resets the attempts. INFERRED")
    resend_expired: Literal["404", "send"] = Field(
        "404", description="Resending an expired PIN: answer 404, or send it. INFERRED"
    )


class VerifyOptions(OptionGroup):
    """Verifying PINs, and listing verifications."""

    heading = "Verifying"

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


class ReceiptOptions(OptionGroup):
    """Delivery reports of messages sent with trackDelivery; times are of the simulator's clock."""

    heading = "Delivery reports"

    receipts_url: WebhookUrl | None = Field(
        None, description="Webhook that gets all reports, besides those of subscriptions."
    )
    receipts_user: UserAndPassword | None = Field(
        None, repr=False, description="USER:PASSWORD for Basic authorization at --receipts-url."
    )
    receipts_shape: Literal["v3", "legacy"] = Field(
        "v3", description="Shape of pushed reports; 2FA subscriptions may yield either. INFERRED"
    )
    receipts_before_final: Literal["both", "pending", "operator", "none"] = Field(
        "both",
        description="Reports before the final one: PENDING_ENROUTE, DELIVERED_TO_OPERATOR. INFERRED",
    )
    receipts_delay_ms: int = Field(
        1000, ge=0, description="Milliseconds from sending to the final report; the first comes at once."
    )
    receipts_batch: int = Field(100, ge=1, le=2000, description="Most reports in one push (maxBucketSize).")
    receipts_linger_ms: int = Field(
        10, ge=0, description="Milliseconds of real time in which reports are gathered into one push."
    )
    receipts_timeout_s: float = Field(
        10.0, gt=0, description="Seconds of real time a webhook has for its answer."
    )
    receipts_retry_scale: float = Field(
        1.0, gt=0, description="Factor on the retry delays, 1 min + 1 min*n*n; 0.001 makes minutes of 60 ms."
    )
    receipts_retries: int = Field(
        20,
        ge=0,
        description="Retries of a push before it is given up (20 is reported by third parties). INFERRED",
    )
    receipts_price: float = Field(0.01, ge=0, description="pricePerMessage in reports; 0 when rejected.")
    receipts_currency: Currency = Field("EUR", description="Currency in reports.")


class MemoryOptions(OptionGroup):
    """Bounds of the state."""

    heading = "Memory"

    inbox_size: int = Field(
        100_000, ge=1, description="Messages kept in the inbox; the oldest are dropped first."
    )
    pins_kept: int = Field(200_000, ge=1, description="PINs kept; the oldest are dropped first.")


class Options(AccessOptions, ReplyOptions, SendOptions, VerifyOptions, ReceiptOptions, MemoryOptions):
    """How the simulator behaves; the descriptions are also the help of the command line.

    A choice marked INFERRED is one that Infobip's documents leave open.
    Raises `pydantic.ValidationError` on unknown names and impossible values.
    """

    heading = "All"


GROUPS: tuple[type[OptionGroup], ...] = (
    AccessOptions,
    ReplyOptions,
    SendOptions,
    VerifyOptions,
    ReceiptOptions,
    MemoryOptions,
)
