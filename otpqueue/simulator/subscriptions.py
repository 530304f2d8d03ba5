"""Subscriptions: which webhook gets the delivery reports of a channel.

Fields and bounds: Infobip OpenAPI 3.210.0, Subscriptions. All are stored and shown. Of a profile the
simulator uses the URL, BASIC credentials, headers, `maxBucketSize` and `readTimeout`, of a subscription the
channel, `events` and `resources`. `criteria` and `users` do not filter, because 2FA messages carry neither.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import Field, StringConstraints, field_validator, model_validator

from otpqueue.simulator.errors import ApiError, make_field_error
from otpqueue.simulator.faults import HeaderName, HeaderValue
from otpqueue.simulator.options import WebhookUrl
from otpqueue.simulator.wire import RequestBody

SubscriptionChannel = Literal[
    "AGENT_OS",
    "APPLE_MESSAGES_FOR_BUSINESS",
    "BLOCKLIST",
    "CUSTOMER_ENGAGEMENT",
    "EMAIL",
    "FACEBOOK",
    "KAKAO_ALIM",
    "KAKAO_BRAND_MESSAGE",
    "LINE",
    "MMS",
    "MOBILE_IDENTITY",
    "MOBILE_PUSH",
    "NUMBER_LOOKUP",
    "OPEN_CHANNEL",
    "RCS",
    "REGISTRATION",
    "SMS",
    "VIBER",
    "VOICE_VIDEO",
    "WEB_PUSH",
    "WHATSAPP",
    "ZALO",
]
CHANNELS: Final[frozenset[str]] = frozenset(get_args(SubscriptionChannel))

# An id is part of a path and must not need encoding.
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._~-]{1,255}$")]
Name = Annotated[str, Field(min_length=1, max_length=255)]
Word = Annotated[str, Field(max_length=255)]


class FormattedEvent(RequestBody):
    """An event with the format of its reports; the formats are not published."""

    event: Name
    format: Name


class Webhook(RequestBody):
    """Where reports go; an empty URL is refused, which is INFERRED."""

    notify_url: WebhookUrl
    content_type: Word | None = None


class Security(RequestBody):
    """Authentication of pushes to the webhook; only BASIC is implemented."""

    auth_id: Id
    type: Literal["BASIC", "HMAC", "OAUTH", "CUSTOM"] | None = None
    credentials: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _complete(self) -> "Security":
        given = self.credentials or {}
        if self.type == "BASIC" and not all(isinstance(given.get(name), str) for name in _BASIC):
            raise ValueError("credentials of BASIC need username and password")
        return self


_BASIC: Final = ("username", "password")


class Profile(RequestBody):
    """A notification profile; only an id refers to an existing profile."""

    profile_id: Id
    webhook: Webhook | None = None
    security: Security | None = None
    client_certificate_id: Word | None = None
    max_bucket_size: Annotated[int, Field(ge=1, le=2000)] | None = None
    window_size: Annotated[int, Field(ge=20, le=10_000)] | None = None
    connect_timeout: Annotated[int, Field(ge=300, le=30_000)] | None = None
    read_timeout: Annotated[int, Field(ge=1000, le=90_000)] | None = None
    enabled_ssl_protocols: Annotated[
        list[Literal["TLSv1.2", "TLSv1.3"]] | None, Field(alias="enabledSSLProtocols")
    ] = None
    headers: dict[HeaderName, HeaderValue] | None = None
    response_regex: str | None = None
    response_body_regex: str | None = None
    rate_limit: Annotated[int, Field(ge=1, le=5000)] | None = None

    def only_ids(self) -> dict[str, Any]:
        """Return the profile as a subscription shows it: its id and that of its security settings."""
        shown: dict[str, Any] = {"profileId": self.profile_id}
        if self.security is not None:
            shown["security"] = {"authId": self.security.auth_id}
        return shown

    def as_json(self) -> dict[str, Any]:
        """Return the profile without its secrets."""
        return {**self.model_dump(by_alias=True, exclude_none=True), **self.only_ids()}


class Criterion(RequestBody):
    """A pair of CPaaS X ids, which are no 2FA applications."""

    application_id: Name | None = None
    entity_id: Name | None = None


class SubscriptionBody(RequestBody):
    """The body that creates a subscription."""

    subscription_id: Id
    name: Name | None = None
    events: Annotated[list[Name | FormattedEvent], Field(max_length=255)]
    profile: Profile
    criteria: Annotated[list[Criterion], Field(max_length=255)] | None = None
    resources: Annotated[list[Word], Field(max_length=255)] | None = None
    users: Annotated[list[Word], Field(max_length=255)] | None = None

    @field_validator("events", mode="after")
    @classmethod
    def _not_none(cls, events: list[str | FormattedEvent]) -> list[str | FormattedEvent]:
        if not events:
            raise ValueError("must not be empty")
        return events

    def as_json(self) -> dict[str, Any]:
        """Return the subscription as get and list show it."""
        return {**self.model_dump(by_alias=True, exclude_none=True), "profile": self.profile.only_ids()}

    def wants(self, event: str, sender: str | None) -> bool:
        """Return whether it covers an event of a message from `sender`."""
        names = {entry if isinstance(entry, str) else entry.event for entry in self.events}
        return event in names and (not self.resources or sender in self.resources)


@dataclass(frozen=True, slots=True)
class Target:
    """A webhook, with its headers and the bounds of a push."""

    url: str
    headers: dict[str, str]
    batch: int
    timeout_s: float


@dataclass(slots=True)
class Subscriptions:
    """Subscriptions by channel and id, in order of creation, and their profiles by id."""

    by_channel: dict[str, dict[str, SubscriptionBody]] = field(default_factory=dict)
    profiles: dict[str, Profile] = field(default_factory=dict)

    def add(self, channel: str, body: SubscriptionBody) -> None:
        """Store a subscription.

        Raises `ApiError` 400 when the id is taken, when a profile is neither complete nor known, or when it
        is complete and known; that these are 400 is INFERRED.
        """
        of_channel = self.by_channel.setdefault(channel, {})
        if body.subscription_id in of_channel:
            raise make_field_error("subscriptionId", "already exists")
        profile = body.profile
        known = profile.profile_id in self.profiles
        if profile.webhook is None and not known:
            raise make_field_error("profile.webhook", "must not be null")
        if profile.webhook is not None and known:
            raise make_field_error("profile.profileId", "already exists")
        if not known:
            self.profiles[profile.profile_id] = profile
        stored = self.profiles[profile.profile_id]
        of_channel[body.subscription_id] = body.model_copy(update={"profile": stored})

    def find(self, channel: str, subscription_id: str) -> SubscriptionBody:
        """Return one subscription; raises `ApiError` 404."""
        found = self.by_channel.get(channel, {}).get(subscription_id)
        if found is None:
            raise ApiError(404)
        return found

    def targets(
        self, channel: str, event: str, sender: str | None, *, batch: int, timeout_s: float
    ) -> Iterator[Target]:
        """Yield the webhooks that want an event; `batch` and `timeout_s` are for profiles that set none."""
        for subscription in self.by_channel.get(channel, {}).values():
            profile = subscription.profile
            if profile.webhook is not None and subscription.wants(event, sender):
                read_ms = profile.read_timeout
                yield Target(
                    profile.webhook.notify_url,
                    {**(profile.headers or {}), **_authorization(profile.security)},
                    profile.max_bucket_size or batch,
                    timeout_s if read_ms is None else read_ms / 1000,
                )


def make_basic_header(user_and_password: str) -> dict[str, str]:
    """Return the header of Basic authorization for `USER:PASSWORD`."""
    return {"Authorization": "Basic " + base64.b64encode(user_and_password.encode()).decode()}


def _authorization(security: Security | None) -> dict[str, str]:
    if security is None or security.type != "BASIC" or security.credentials is None:
        return {}
    return make_basic_header(":".join(str(security.credentials[name]) for name in _BASIC))
