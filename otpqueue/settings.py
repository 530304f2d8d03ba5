"""Settings: read once from the environment and `.env`, typed, every problem reported at once.

Each setting is a field here: its alias is the environment variable, its description the line of help that
docs/settings.md repeats. A secret may also be given as a file: `NAME_FILE=/run/secrets/name`.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from datetime import date
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from otpqueue import envfile

GUIDE_TEMPLATE = "Your verification code is {{pin}}. It is valid for 5 minutes. Do not share it with anyone."

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SettingsError(Exception):
    """The settings are not usable; `problems` has one line for each thing to mend."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("settings are not usable:\n" + "\n".join(f"  - {problem}" for problem in problems))


def _usable_cores() -> int:
    """Return how many cores this process may use, up to 8: each API process has Postgres connections."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def _none_if_blank(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _decode_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    if len(key) != 32:
        raise ValueError("must be 32 bytes, as `openssl rand -base64 32` makes them")
    return key


def _is_one_word(secret: SecretStr | None) -> bool:
    return secret is None or re.fullmatch(r"[!-~]+", secret.get_secret_value()) is not None


def _is_database(secret: SecretStr | None) -> bool:
    if secret is None:
        return True
    url = secret.get_secret_value()
    return re.match(r"postgres(ql(\+psycopg)?)?://", url) is not None and _has_port_or_none(url)


def _is_redis(secret: SecretStr | None) -> bool:
    if secret is None:
        return True
    try:
        parts = urlsplit(secret.get_secret_value())
        return parts.scheme == "unix" or (
            parts.scheme in {"redis", "rediss"}
            and parts.port != 0
            and re.fullmatch(r"/?[0-9]*", parts.path) is not None
        )
    except ValueError:  # a port that is none
        return False


def _is_broker(secret: SecretStr | None) -> bool:
    # More than one may be given, with semicolons between: the nodes of a cluster.
    return secret is None or all(_is_broker_url(url) for url in secret.get_secret_value().split(";"))


def _is_broker_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_amqp = parts.scheme in {"amqp", "amqps", "pyamqp"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False
    return is_amqp or _is_redis(SecretStr(url))


def _is_url(secret: SecretStr | None, schemes: set[str]) -> bool:
    if secret is None:
        return True
    url = secret.get_secret_value()
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:  # a port that is none
        return False


def _is_webhook(secret: SecretStr | None) -> bool:
    return _is_url(secret, {"http", "https"}) and (secret is None or "@" not in secret.get_secret_value())


def _is_mail_server(secret: SecretStr | None) -> bool:
    if secret is None:
        return True
    if not _is_url(secret, {"smtp", "smtps"}):
        return False
    parts = urlsplit(secret.get_secret_value())
    try:
        unquote(parts.netloc, errors="strict")
    except UnicodeDecodeError:
        return False
    return bool(parts.username) == bool(parts.password) and not parts.path.strip("/")


def _from_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError("must be a JSON object") from None


def _proxies(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.strip().isdecimal():
        return int(value)
    try:
        networks = tuple(ip_network(text.strip()) for text in value.split(",") if text.strip())
    except ValueError:
        raise ValueError("must be a number of proxies, or their networks: `10.0.0.0/8, ::1`") from None
    if any(network.prefixlen == 0 for network in networks):
        raise ValueError("must not be everybody")
    return networks


def _words(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _none_if_none(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() in {"", "none"} else value


_ESCAPED = "has a backslash and an n where a line break was meant (docs/settings.md says how to write one)"


def _has_escape(text: str) -> bool:
    return "\\n" in text or "\\r" in text


def _form(pattern: str, words: str, *, url: bool = False) -> AfterValidator:
    """Refuse text that does not match, in words; pydantic would show the expression."""

    def check(text: str | None) -> str | None:
        if text is None:
            return None
        if not re.fullmatch(pattern, text) or (url and not _has_port_or_none(text)):
            raise ValueError(f"must be {words}")
        return text

    return AfterValidator(check)


def _has_port_or_none(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


Optional = BeforeValidator(_none_if_blank)
TrustedProxies = int | tuple[IPv4Network | IPv6Network, ...]
"""How many proxies stand before us, or in which networks they are."""
FromJson = BeforeValidator(_from_json)
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Cap = Annotated[int | None, Field(ge=0, le=1_000_000_000), BeforeValidator(_none_if_none)]
Share = Annotated[float | None, Field(gt=0, le=1), BeforeValidator(_none_if_none)]
ProviderLimit = Annotated[
    str, _form(r"[0-9]{1,9}/[0-9]{0,6}(ms|s|m|h|d)", "like `100/1d` (units ms, s, m, h, d)")
]
QuotaText = Annotated[
    str,
    _form(r"off|[1-9][0-9]{0,4}/([1-9][0-9]{0,4})?[smhd]", "like `3/15m` (units s, m, h, d) or `off`"),
]
BaseUrl = Annotated[
    str | None,
    Optional,
    _form(
        r"(https://[A-Za-z0-9.-]+|http://(127\.0\.0\.1|localhost|\[::1\]|simulator))(:[0-9]{1,5})?(/[\w.~/-]*)?",
        "an address like `https://xxxxx.api.infobip.com`: with https:// (http:// only for a simulator on "
        "this machine), without a user, and with nothing behind a ? or #",
        url=True,
    ),
]
PublicUrl = Annotated[
    str | None,
    Optional,
    _form(
        r"https?://[^\s/?#@]+(/[\w.~/-]*)?",
        "an address like `https://otp.example`: with https:// or http://, without a user, and with nothing "
        "behind a ? or #",
        url=True,
    ),
]


class GivenTestNumber(BaseModel):
    """One of OTPQUEUE_TEST_NUMBERS."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    code: SecretStr
    until: date


class GivenAlertRule(BaseModel):
    """One of OTPQUEUE_ALERT_RULES; what is not given stays as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    window_s: Annotated[int, Field(ge=0, le=604_800)] | None = None
    min_sample: Annotated[int, Field(ge=0)] | None = None
    opens_after: Annotated[int, Field(ge=1, le=1000)] | None = None
    closes_after: Annotated[int, Field(ge=1, le=1000)] | None = None
    off: bool | None = None


class Settings(BaseModel):
    """Everything that can be set, from the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)

    infobip_api_key: Annotated[SecretStr | None, Optional] = Field(
        None, alias="INFOBIP_API_KEY", description="API key of the Infobip account (`Authorization: App`)"
    )
    infobip_base_url: BaseUrl = Field(
        None,
        alias="INFOBIP_BASE_URL",
        description="base URL, `https://xxxxx.api.infobip.com`; plain http only for a local simulator",
    )
    infobip_application_id: Annotated[str | None, Optional] = Field(
        None,
        alias="INFOBIP_APPLICATION_ID",
        description="2FA application to use; wins over the provisioned one",
    )
    infobip_message_id: Annotated[str | None, Optional] = Field(
        None, alias="INFOBIP_MESSAGE_ID", description="message template to use; wins over the provisioned one"
    )
    infobip_app_name: str = Field(
        "otpqueue",
        alias="INFOBIP_APP_NAME",
        min_length=1,
        description="name of the 2FA application that `otpqueue provision` finds or makes",
    )
    infobip_sender_id: Annotated[str | None, Optional] = Field(
        None, alias="INFOBIP_SENDER_ID", max_length=16, description="sender that the message template shows"
    )
    infobip_message_template: str = Field(
        GUIDE_TEMPLATE, alias="INFOBIP_MESSAGE_TEMPLATE", description="text of the SMS; must hold `{{pin}}`"
    )

    templates: Annotated[dict[str, str], FromJson] = Field(
        {},
        alias="OTPQUEUE_TEMPLATES",
        description='texts in other languages, JSON: `{"de": "Ihr Code ist {{pin}}.", "pt-br": "..."}`',
    )
    senders: Annotated[dict[str, str], FromJson] = Field(
        {},
        alias="OTPQUEUE_SENDERS",
        description='senders by country, JSON: `{"US": "18335550100", "IN": "MYBRND"}`',
    )
    india_principal_entity_id: Annotated[str | None, Optional] = Field(
        None,
        alias="INDIA_DLT_PRINCIPAL_ENTITY_ID",
        max_length=30,
        description="India's DLT registration of the sender; used for numbers of India alone",
    )
    india_content_template_id: Annotated[str | None, Optional] = Field(
        None,
        alias="INDIA_DLT_CONTENT_TEMPLATE_ID",
        max_length=30,
        description="India's DLT registration of the text",
    )
    provider_pin_attempts: int = Field(
        10,
        alias="OTPQUEUE_PROVIDER_PIN_ATTEMPTS",
        ge=1,
        le=10,
        description="checks per code that Infobip allows; not under OTPQUEUE_MAX_CHECKS",
    )
    provider_verify_limit: ProviderLimit = Field(
        "20/1s",
        alias="OTPQUEUE_PROVIDER_VERIFY_LIMIT",
        description="checks per number that Infobip allows, `attempts/duration`",
    )
    provider_sends_per_number: ProviderLimit = Field(
        "100/1d",
        alias="OTPQUEUE_PROVIDER_SENDS_PER_NUMBER",
        description="codes per number that Infobip sends; its own default, 3 a day, is a trap for logins",
    )
    provider_sends: ProviderLimit = Field(
        "10000000/1d",
        alias="OTPQUEUE_PROVIDER_SENDS",
        description="codes in all that Infobip sends; its own default is 10000 a day",
    )
    track_delivery: bool = Field(
        True, alias="OTPQUEUE_TRACK_DELIVERY", description="ask Infobip for delivery reports"
    )
    receipts_user: Annotated[str | None, Optional] = Field(
        None,
        alias="OTPQUEUE_RECEIPTS_USER",
        description="Basic user of `POST /v1/infobip/receipts`; nothing is taken there unless set",
    )
    receipts_password: Annotated[SecretStr | None, Optional] = Field(
        None, alias="OTPQUEUE_RECEIPTS_PASSWORD", description="Basic password of the same"
    )
    poll_receipts_every_s: Annotated[Seconds | None, Optional] = Field(
        None,
        alias="OTPQUEUE_POLL_RECEIPTS_EVERY_S",
        description="pull delivery reports so often, where no webhook can reach us; off unless set",
    )

    database_url: Annotated[SecretStr | None, Optional] = Field(
        None, alias="DATABASE_URL", description="Postgres 15 or newer, `postgresql://user:password@host/name`"
    )
    redis_url: Annotated[SecretStr | None, Optional] = Field(
        None, alias="REDIS_URL", description="Redis or Valkey, `redis://:password@host:6379/0`"
    )
    broker_url: Annotated[SecretStr | None, Optional] = Field(
        None,
        alias="OTPQUEUE_BROKER_URL",
        description="Celery's broker; `REDIS_URL` unless set; RabbitMQ: `amqp://user:password@host/vhost`",
    )

    seal_keys: Annotated[SecretStr | None, Optional] = Field(
        None,
        alias="OTPQUEUE_SEAL_KEYS",
        description="keys that seal phone numbers: `id:base64`, commas between; the first one seals",
    )
    hash_key: Annotated[SecretStr | None, Optional] = Field(
        None,
        alias="OTPQUEUE_HASH_KEY",
        description="key of the look-up hashes of numbers, sessions and API keys: 32 bytes in base64; while "
        "it is replaced two, a comma between: docs/privacy.md",
    )

    host: str = Field("127.0.0.1", alias="OTPQUEUE_HOST", description="address the API listens on")
    port: int = Field(8000, alias="PORT", ge=1, le=65535, description="port the API listens on")
    require_https: bool = Field(
        False,
        alias="OTPQUEUE_REQUIRE_HTTPS",
        description="refuse calls over plain HTTP, but for `/health`, and send HSTS",
    )
    trusted_proxies: Annotated[TrustedProxies, BeforeValidator(_proxies)] = Field(
        (),
        alias="OTPQUEUE_TRUSTED_PROXIES",
        description="whose `X-Forwarded-Proto` and `-For` count: how many proxies stand before the API "
        "(`1`), or their networks (`10.0.0.0/8, ::1`)",
    )
    tls_cert_file: Annotated[Path | None, Optional] = Field(
        None,
        alias="OTPQUEUE_TLS_CERT_FILE",
        description="certificate (PEM, with its chain): the API serves HTTPS itself",
    )
    tls_key_file: Annotated[Path | None, Optional] = Field(
        None, alias="OTPQUEUE_TLS_KEY_FILE", description="its private key (PEM, without a password)"
    )
    header_timeout_s: Seconds = Field(
        30,
        alias="OTPQUEUE_HEADER_TIMEOUT_S",
        le=60,
        description="a connection that brings no whole request head in that time is cut, an idle one too",
    )
    body_timeout_s: Seconds = Field(
        10,
        alias="OTPQUEUE_BODY_TIMEOUT_S",
        le=60,
        description="a call whose body is not there in that time is answered 408 and cut",
    )
    api_processes: int = Field(
        default_factory=_usable_cores,
        alias="OTPQUEUE_API_PROCESSES",
        ge=1,
        description="API processes on this machine; unless given, one for each core it may use, up to 8",
    )
    api_threads: int = Field(
        8,
        alias="OTPQUEUE_API_THREADS",
        ge=2,
        le=256,
        description="concurrent calls per API process; `verify` and `wait` have separate pools, four times "
        "and twice as large",
    )
    api_queue_ms: int = Field(
        250,
        alias="OTPQUEUE_API_QUEUE_MS",
        ge=10,
        le=10_000,
        description="how long a call may wait for a thread; then it is answered 503",
    )
    database_pool: int = Field(
        8,
        alias="OTPQUEUE_DATABASE_POOL",
        ge=2,
        le=200,
        description="maximum Postgres connections per process, plus one for health and heartbeats; an API "
        "process adds one for metrics and three for the console",
    )
    database_wait_s: Seconds = Field(
        2,
        alias="OTPQUEUE_DATABASE_WAIT_S",
        le=30,
        description="a call waits so long for a Postgres connection, then is answered 503",
    )
    database_statement_timeout_s: Seconds = Field(
        5,
        alias="OTPQUEUE_DATABASE_STATEMENT_TIMEOUT_S",
        le=15,
        description="Postgres gives a statement up after that; not set through PgBouncer",
    )
    database_lock_timeout_s: Seconds = Field(
        2,
        alias="OTPQUEUE_DATABASE_LOCK_TIMEOUT_S",
        le=15,
        description="Postgres gives up waiting for a lock after that; not set through PgBouncer",
    )
    database_idle_in_transaction_s: Seconds = Field(
        10,
        alias="OTPQUEUE_DATABASE_IDLE_IN_TRANSACTION_S",
        le=300,
        description="Postgres ends a session that pauses so long in a transaction; not set through PgBouncer",
    )
    database_pgbouncer: bool = Field(
        False,
        alias="OTPQUEUE_DATABASE_PGBOUNCER",
        description="`DATABASE_URL` is a PgBouncer in transaction mode: rely on no session",
    )
    guide_client: Annotated[str | None, Optional] = Field(
        None,
        alias="OTPQUEUE_GUIDE_CLIENT",
        description="client that keyless calls to `/request-otp` and `/verify-otp` count as; off unless set",
    )
    allow_documentation_numbers: bool = Field(
        False,
        alias="OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS",
        description="accept numbers set aside for documentation and drama (on in `otpqueue dev`)",
    )
    daily_cap: Cap = Field(
        10_000,
        alias="OTPQUEUE_DAILY_CAP",
        description="codes sent a day (UTC), at most; `none` for no cap",
    )
    daily_cap_per_client: Cap = Field(
        None,
        alias="OTPQUEUE_DAILY_CAP_PER_CLIENT",
        description="the same for each client that has no `daily_cap` of its own; no cap unless set",
    )
    daily_cap_client_share: Share = Field(
        0.5,
        alias="OTPQUEUE_DAILY_CAP_CLIENT_SHARE",
        description="with several clients: maximum share of `OTPQUEUE_DAILY_CAP` for each client without "
        "another cap; `none` for no share",
    )
    daily_caps_by_country: Annotated[dict[str, Annotated[int, Field(ge=0)]], FromJson] = Field(
        {},
        alias="OTPQUEUE_DAILY_CAPS_BY_COUNTRY",
        description='the same by country, JSON: `{"GB": 5000, "*": 200}`; `*` is each one not named, `001` '
        "numbers of no one country",
    )
    countries_allowed: Words = Field(
        (),
        alias="OTPQUEUE_COUNTRIES_ALLOWED",
        description="the only countries codes are sent to, commas between, `001` for numbers of no one "
        "country; every country, but not `001`, unless set",
    )
    countries_blocked: Words = Field(
        (), alias="OTPQUEUE_COUNTRIES_BLOCKED", description="countries no code is sent to, commas between"
    )
    refused_lines: Words = Field(
        ("pager", "premium_rate", "shared_cost", "toll_free", "uan", "voicemail"),
        alias="OTPQUEUE_REFUSED_LINES",
        description="kinds of line no code is sent to, commas between; also `fixed_line`, `mobile`, "
        "`fixed_line_or_mobile`, `voip`, `personal_number`, `unknown`; `none` refuses none",
    )
    test_numbers: Annotated[dict[str, GivenTestNumber], FromJson] = Field(
        {},
        alias="OTPQUEUE_TEST_NUMBERS",
        repr=False,
        description="numbers with a fixed code, to which nothing is sent, JSON: "
        '`{"+447700900001": {"code": "123456", "until": "2027-01-31"}}`; 90 days at most',
    )
    allow_test_numbers: bool = Field(
        False,
        alias="OTPQUEUE_ALLOW_TEST_NUMBERS",
        description="take OTPQUEUE_TEST_NUMBERS although the provider is not a local simulator",
    )
    try_page: bool = Field(
        False,
        alias="OTPQUEUE_TRY_PAGE",
        description="serve `/try`, a page that reads the simulator's inbox (on in `otpqueue dev`)",
    )
    console: bool = Field(
        True, alias="OTPQUEUE_CONSOLE", description="serve `/console`, the operators' pages (docs/console.md)"
    )

    limit_number_15m: QuotaText = Field(
        "3/15m",
        alias="OTPQUEUE_LIMIT_NUMBER_15M",
        description="requests for one number, per client: `3/15m` (units s, m, h, d), as all limits here, or "
        "`off`; docs/limits.md",
    )
    limit_number_day: QuotaText = Field(
        "10/d",
        alias="OTPQUEUE_LIMIT_NUMBER_DAY",
        description="codes to one number, resends too, per client",
    )
    limit_number_day_all: QuotaText = Field(
        "20/d",
        alias="OTPQUEUE_LIMIT_NUMBER_DAY_ALL",
        description="codes to one number, resends too, over all clients",
    )
    limit_client_ip_15m: QuotaText = Field(
        "10/15m",
        alias="OTPQUEUE_LIMIT_CLIENT_IP_15M",
        description="requests from one `client_ip`, per client",
    )
    limit_key_rate: QuotaText = Field(
        "100/s", alias="OTPQUEUE_LIMIT_KEY_RATE", description="calls with one API key"
    )
    limit_keyless_peer: QuotaText = Field(
        "60/15m",
        alias="OTPQUEUE_LIMIT_KEYLESS_PEER",
        description="calls without a key from one address (OTPQUEUE_GUIDE_CLIENT); off: such calls have no "
        "`client_ip` either (off in `otpqueue dev`)",
    )
    limit_keyless_network: QuotaText = Field(
        "600/15m",
        alias="OTPQUEUE_LIMIT_KEYLESS_NETWORK",
        description="calls without a key from one network, /24 or /48 of IPv6 (off in `otpqueue dev`)",
    )
    wrong_codes_number: QuotaText = Field(
        "10/h",
        alias="OTPQUEUE_WRONG_CODES_NUMBER",
        description="wrong codes for one number, per client; then no new request for it is taken",
    )
    wrong_codes_client_ip: QuotaText = Field(
        "20/h",
        alias="OTPQUEUE_WRONG_CODES_CLIENT_IP",
        description="wrong codes from one `client_ip`, per client; then no new request of it is taken",
    )
    wrong_codes_in_a_row: int = Field(
        100,
        alias="OTPQUEUE_WRONG_CODES_IN_A_ROW",
        ge=20,
        le=100,
        description="wrong codes in a row that lock a number, per client; NIST SP 800-63B allows 100 at most",
    )
    wrong_share: float = Field(
        0.5,
        alias="OTPQUEUE_WRONG_SHARE",
        gt=0,
        le=1,
        description="ceiling of the share of wrong codes among a client's checks",
    )
    wrong_share_window_s: int = Field(
        3600,
        alias="OTPQUEUE_WRONG_SHARE_WINDOW_S",
        ge=60,
        le=86400,
        description="the time over which that share is looked at",
    )
    wrong_share_min_checks: int = Field(
        100,
        alias="OTPQUEUE_WRONG_SHARE_MIN_CHECKS",
        ge=1,
        description="with fewer checks in that time nothing is concluded",
    )
    wrong_share_refuses: bool = Field(
        False,
        alias="OTPQUEUE_WRONG_SHARE_REFUSES",
        description="take no new requests of a client above that ceiling",
    )
    send_within_s: Seconds = Field(
        90, alias="OTPQUEUE_SEND_WITHIN_S", le=600, description="a code that has not left by then is given up"
    )
    code_lifetime_s: Seconds = Field(
        300,
        alias="OTPQUEUE_CODE_LIFETIME_S",
        ge=30,
        le=600,
        description="a sent code is good for so long; NIST SP 800-63B allows 10 minutes at most",
    )
    max_checks: int = Field(
        5,
        alias="OTPQUEUE_MAX_CHECKS",
        ge=1,
        # With those given back, the provider's own 10 must never be the fewer.
        le=7,
        description="checks of a code per request",
    )
    max_attempts: int = Field(
        6, alias="OTPQUEUE_MAX_ATTEMPTS", ge=1, le=20, description="attempts to send per request"
    )
    unknown_resends: int = Field(
        1,
        alias="OTPQUEUE_UNKNOWN_RESENDS",
        ge=0,
        le=5,
        description="how often a code is sent again after an attempt whose outcome nobody knows",
    )
    backoff_base_s: Seconds = Field(
        0.5,
        alias="OTPQUEUE_BACKOFF_BASE_S",
        description="ceiling of the first back-off; it doubles each time",
    )
    backoff_max_s: Seconds = Field(
        15, alias="OTPQUEUE_BACKOFF_MAX_S", description="ceiling of every back-off"
    )
    circuit_failures: int = Field(
        10,
        alias="OTPQUEUE_CIRCUIT_FAILURES",
        ge=1,
        description="after so many sends in a row without a good answer all workers pause",
    )
    circuit_pause_s: Seconds = Field(
        1,
        alias="OTPQUEUE_CIRCUIT_PAUSE_S",
        description="the first such pause; it doubles with every probe that fails",
    )
    circuit_pause_max_s: Seconds = Field(
        15, alias="OTPQUEUE_CIRCUIT_PAUSE_MAX_S", description="ceiling of every such pause"
    )
    sender_threads: int = Field(
        64,
        alias="OTPQUEUE_SENDER_THREADS",
        ge=1,
        le=512,
        description="sends in flight per worker process, and pooled connections to the provider",
    )
    connect_timeout_s: Seconds = Field(
        3, alias="OTPQUEUE_PROVIDER_CONNECT_TIMEOUT_S", description="time to connect to the provider"
    )
    provider_timeout_s: Seconds = Field(
        15, alias="OTPQUEUE_PROVIDER_TIMEOUT_S", description="one call to the provider, all in all"
    )
    send_lease_s: Seconds = Field(
        30, alias="OTPQUEUE_SEND_LEASE_S", description="how long a worker may hold a request it has claimed"
    )
    check_lease_s: Seconds = Field(
        20, alias="OTPQUEUE_CHECK_LEASE_S", description="how long one check may hold back the next one"
    )
    job_s: Seconds = Field(
        10,
        alias="OTPQUEUE_JOB_S",
        description="maximum run time of a `send_codes` job; it enqueues its successor before it ends",
    )
    job_linger_s: float = Field(
        1,
        alias="OTPQUEUE_JOB_LINGER_S",
        ge=0,
        le=60,
        description="how long a `send_codes` job waits for more after its last code; `0` ends it at once",
    )
    stop_within_s: Seconds = Field(
        20,
        alias="OTPQUEUE_STOP_WITHIN_S",
        description="how long a worker told to stop finishes what it is sending; a second SIGTERM ends that",
    )
    idempotency_keep_s: Seconds = Field(
        86_400,
        alias="OTPQUEUE_IDEMPOTENCY_KEEP_S",
        ge=60,
        le=604_800,
        description="the answer to a call with an `Idempotency-Key` is replayed for so long",
    )
    access_cache_s: float = Field(
        1,
        alias="OTPQUEUE_ACCESS_CACHE_S",
        ge=0,
        le=5,
        description="how long an API process caches API keys, client settings, stops and the day's counts: a "
        "revoked key or a stop takes effect within it",
    )
    sweep_every_s: Seconds = Field(5, alias="OTPQUEUE_SWEEP_EVERY_S", description="how often `sweep` runs")
    expire_every_s: Seconds = Field(
        15, alias="OTPQUEUE_EXPIRE_EVERY_S", description="how often `expire` runs"
    )
    webhooks_every_s: Seconds = Field(
        10,
        alias="OTPQUEUE_WEBHOOKS_EVERY_S",
        description="how often `send_webhooks` looks for webhooks that are due; new ones wake it besides",
    )
    webhook_timeout_s: Seconds = Field(
        10,
        alias="OTPQUEUE_WEBHOOK_TIMEOUT_S",
        le=60,
        description="how long a receiver of webhooks may take for its answer, all in all",
    )
    webhook_allow_private: bool = Field(
        False,
        alias="OTPQUEUE_WEBHOOK_ALLOW_PRIVATE",
        description="send webhooks to private addresses, plain http and any port too "
        "([docs/webhooks.md](docs/webhooks.md))",
    )
    webhook_disable_after_s: Seconds = Field(
        86_400,
        alias="OTPQUEUE_WEBHOOK_DISABLE_AFTER_S",
        ge=60,
        description="an endpoint is disabled after so long of nothing but failures",
    )
    retention_days: int = Field(
        30,
        alias="OTPQUEUE_RETENTION_DAYS",
        ge=1,
        le=90,
        description="requests are deleted, with all that belongs to them, so long after they ended",
    )
    purge_every_s: Seconds = Field(
        3600, alias="OTPQUEUE_PURGE_EVERY_S", description="how often `purge` deletes what is too old"
    )
    roll_up_every_s: Seconds = Field(
        10,
        alias="OTPQUEUE_ROLL_UP_EVERY_S",
        description="how often `roll_up` adds what happened to the statistics",
    )

    guard: Literal["off", "shadow", "enforce"] = Field(
        "shadow",
        alias="OTPQUEUE_GUARD",
        description="the pumping guard: `off`, `shadow` (only says what it would refuse) or `enforce`",
    )
    guard_share: float = Field(
        0.5,
        alias="OTPQUEUE_GUARD_SHARE",
        ge=0,
        le=10,
        description="budgets of sends that nobody verifies: a floor, and this share of the verified ones",
    )
    guard_block_floor: int = Field(
        3,
        alias="OTPQUEUE_GUARD_BLOCK_FLOOR",
        ge=0,
        description="floor a day of a block of 10 000 numbers in which somebody verified in the last 14 days",
    )
    guard_country_floor_hour: int = Field(
        5,
        alias="OTPQUEUE_GUARD_COUNTRY_FLOOR_HOUR",
        ge=0,
        description="floor an hour of the other blocks of one country, all together",
    )
    guard_country_floor_day: int = Field(
        10, alias="OTPQUEUE_GUARD_COUNTRY_FLOOR_DAY", ge=0, description="the same a day"
    )
    guard_total_floor_hour: int = Field(
        15,
        alias="OTPQUEUE_GUARD_TOTAL_FLOOR_HOUR",
        ge=0,
        description="floor an hour of the other blocks of all countries, all together",
    )
    guard_total_floor_day: int = Field(
        40, alias="OTPQUEUE_GUARD_TOTAL_FLOOR_DAY", ge=0, description="the same a day"
    )
    guard_address_floor: int = Field(
        2,
        alias="OTPQUEUE_GUARD_ADDRESS_FLOOR",
        ge=0,
        description="floor a day of the other blocks for one `client_ip`",
    )

    alert_rules: Annotated[dict[str, GivenAlertRule], FromJson] = Field(
        {},
        alias="OTPQUEUE_ALERT_RULES",
        description="what differs of the rules of alerts, JSON: "
        '`{"success_rate": {"threshold": 0.9, "min_sample": 50}, "request_spike": {"off": true}}`; '
        "`otpqueue alerts rules` shows what is in force",
    )
    evaluate_alerts_every_s: Seconds = Field(
        60, alias="OTPQUEUE_EVALUATE_ALERTS_EVERY_S", description="how often the rules are evaluated"
    )
    notify_every_s: Seconds = Field(
        10, alias="OTPQUEUE_NOTIFY_EVERY_S", description="how often notices of alerts are sent off"
    )
    alert_webhook_url: Annotated[SecretStr | None, Optional] = Field(
        None,
        alias="OTPQUEUE_ALERT_WEBHOOK_URL",
        description="alerts are posted there as Slack's incoming webhooks take them",
    )
    alert_email_to: Words = Field(
        (), alias="OTPQUEUE_ALERT_EMAIL_TO", description="alerts are mailed to these, commas between"
    )
    alert_email_from: Annotated[str | None, Optional] = Field(
        None, alias="OTPQUEUE_ALERT_EMAIL_FROM", description="the sender of those mails"
    )
    smtp_url: Annotated[SecretStr | None, Optional] = Field(
        None,
        alias="OTPQUEUE_SMTP_URL",
        description="mail server, `smtp://user:password@host:587` (STARTTLS) or `smtps://user:password@host`",
    )
    public_url: PublicUrl = Field(
        None,
        alias="OTPQUEUE_PUBLIC_URL",
        description="where people reach this deployment, `https://otp.example`; for links in notices",
    )
    metrics_token: Annotated[SecretStr | None, Optional] = Field(
        None,
        alias="OTPQUEUE_METRICS_TOKEN",
        description="bearer token of `/metrics`, 16 characters or more; unless set, an API key with `admin`",
    )
    worker_metrics_port: Annotated[int | None, Optional, Field(ge=1, le=65535)] = Field(
        None,
        alias="OTPQUEUE_WORKER_METRICS_PORT",
        description="port on which a worker answers `/metrics`, each one its own; off unless set",
    )
    worker_metrics_host: str = Field(
        "127.0.0.1", alias="OTPQUEUE_WORKER_METRICS_HOST", description="address it listens on for that"
    )

    log_format: Literal["json", "readable"] = Field(
        "json", alias="OTPQUEUE_LOG_FORMAT", description="`json` or `readable`"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", alias="OTPQUEUE_LOG_LEVEL", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`"
    )
    traces: bool = Field(
        False,
        alias="OTPQUEUE_TRACES",
        description="send traces by OpenTelemetry, which `otpqueue[otel]` installs; docs/traces.md",
    )

    @property
    def api_checks(self) -> int:
        """How many codes an API process checks at a time: a check waits for the provider."""
        return 4 * self.api_threads

    @property
    def api_waiters(self) -> int:
        """How many callers with `wait` an API process lets wait at a time."""
        return 2 * self.api_threads

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        problems = [
            text
            for wrong, text in (
                (
                    self.send_lease_s < 2 * self.provider_timeout_s,
                    "OTPQUEUE_SEND_LEASE_S must be at least twice OTPQUEUE_PROVIDER_TIMEOUT_S",
                ),
                (
                    self.check_lease_s <= self.provider_timeout_s,
                    "OTPQUEUE_CHECK_LEASE_S must be longer than OTPQUEUE_PROVIDER_TIMEOUT_S",
                ),
                (
                    "{{pin}}" not in self.infobip_message_template,
                    "INFOBIP_MESSAGE_TEMPLATE must hold {{pin}}",
                ),
                (
                    bool(self.infobip_application_id) != bool(self.infobip_message_id),
                    "INFOBIP_APPLICATION_ID and INFOBIP_MESSAGE_ID must be given together",
                ),
                (
                    not _is_database(self.database_url),
                    "DATABASE_URL must be `postgresql://user:password@host:port/name`",
                ),
                (
                    not _is_redis(self.redis_url),
                    "REDIS_URL must be `redis://:password@host:port/number`",
                ),
                (
                    not _is_broker(self.broker_url),
                    "OTPQUEUE_BROKER_URL must be `amqp(s)://user:password@host:port/vhost`, or as REDIS_URL",
                ),
                (
                    # Anything else cannot stand in a header, and the refusal would print the key.
                    not _is_one_word(self.infobip_api_key),
                    "INFOBIP_API_KEY must be printable ASCII without spaces",
                ),
            )
            if wrong
        ]
        problems += [
            *self._key_problems(),
            *self._message_problems(),
            *self._text_problems(),
            *self._https_problems(),
            *self._test_number_problems(),
            *self._alert_problems(),
            *self._metrics_problems(),
        ]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _https_problems(self) -> list[str]:
        problems = []
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            problems.append("OTPQUEUE_TLS_CERT_FILE and OTPQUEUE_TLS_KEY_FILE must be given together")
        if self.require_https and not (self.tls_cert_file or self.trusted_proxies):
            problems.append(
                "OTPQUEUE_REQUIRE_HTTPS would refuse every call: set OTPQUEUE_TRUSTED_PROXIES, or "
                "OTPQUEUE_TLS_CERT_FILE"
            )
        return problems

    def _metrics_problems(self) -> list[str]:
        problems = []
        token = self.metrics_token
        if not _is_one_word(token) or (token and len(token.get_secret_value()) < 16):
            problems.append(
                "OTPQUEUE_METRICS_TOKEN must be 16 or more characters of printable ASCII without spaces"
            )
        if self.worker_metrics_port and not token:
            problems.append("OTPQUEUE_WORKER_METRICS_PORT needs OTPQUEUE_METRICS_TOKEN")
        return problems

    def _message_problems(self) -> list[str]:
        problems = []
        if self.provider_pin_attempts < self.max_checks:
            problems.append("OTPQUEUE_PROVIDER_PIN_ATTEMPTS must not be under OTPQUEUE_MAX_CHECKS")
        if bool(self.receipts_user) != bool(self.receipts_password):
            problems.append("OTPQUEUE_RECEIPTS_USER and OTPQUEUE_RECEIPTS_PASSWORD must be given together")
        if self.india_content_template_id and not self.india_principal_entity_id:
            problems.append("INDIA_DLT_CONTENT_TEMPLATE_ID needs INDIA_DLT_PRINCIPAL_ENTITY_ID")
        for country, sender in self.senders.items():
            if not re.fullmatch(r"[A-Z]{2}", country):
                problems.append(f"OTPQUEUE_SENDERS: {country!r} must be a country like `US`")
            if not re.fullmatch(r"[A-Za-z0-9 +]{3,16}", sender):
                problems.append(
                    f"OTPQUEUE_SENDERS: {sender!r} must be a number or at most 11 letters and digits"
                )
        return problems

    def _text_problems(self) -> list[str]:
        problems = []
        for language, text in self.templates.items():
            if not re.fullmatch(r"[a-z]{2,3}(-[a-z]{2,4})?", language):
                problems.append(f"OTPQUEUE_TEMPLATES: {language!r} must be a language like `de` or `pt-br`")
            if "{{pin}}" not in text:
                problems.append(f"OTPQUEUE_TEMPLATES: the text for {language!r} must hold {{{{pin}}}}")
            if _has_escape(text):
                problems.append(f"OTPQUEUE_TEMPLATES: the text for {language!r} {_ESCAPED}")
        if _has_escape(self.infobip_message_template):
            problems.append(f"INFOBIP_MESSAGE_TEMPLATE {_ESCAPED}")
        return problems

    def _test_number_problems(self) -> list[str]:
        problems = [
            f"OTPQUEUE_TEST_NUMBERS: each number must be in E.164, unlike number {place}"
            for place, number in enumerate(self.test_numbers, 1)
            if not re.fullmatch(r"\+[1-9][0-9]{6,14}", number)
        ]
        codes = (one.code.get_secret_value() for one in self.test_numbers.values())
        if not all(re.fullmatch(r"[0-9]{6}", code) for code in codes):
            problems.append("OTPQUEUE_TEST_NUMBERS: each code must be six digits")
        is_local = (self.infobip_base_url or "http:").startswith("http:")
        if self.test_numbers and not is_local and not self.allow_test_numbers:
            problems.append(
                "OTPQUEUE_TEST_NUMBERS needs OTPQUEUE_ALLOW_TEST_NUMBERS=true beside a real provider: "
                "whoever knows such a number and its code passes for its owner"
            )
        return problems

    def _alert_problems(self) -> list[str]:
        problems = []
        if not _is_webhook(self.alert_webhook_url):
            problems.append("OTPQUEUE_ALERT_WEBHOOK_URL must be a URL, without a user in it")
        if not _is_mail_server(self.smtp_url):
            problems.append("OTPQUEUE_SMTP_URL must be `smtp://user:password@host:port` or `smtps://...`")
        given = [bool(self.alert_email_to), bool(self.alert_email_from), self.smtp_url is not None]
        if any(given) and not all(given):
            problems.append(
                "OTPQUEUE_ALERT_EMAIL_TO, OTPQUEUE_ALERT_EMAIL_FROM and OTPQUEUE_SMTP_URL must be given "
                "together"
            )
        for name, addresses in (
            ("OTPQUEUE_ALERT_EMAIL_TO", self.alert_email_to),
            ("OTPQUEUE_ALERT_EMAIL_FROM", (self.alert_email_from,) if self.alert_email_from else ()),
        ):
            if not all(re.fullmatch(r"[!-~]+@[A-Za-z0-9.-]+", one) for one in addresses):
                problems.append(f"{name} must be like `alerts@example.com`")
        return problems

    def _key_problems(self) -> list[str]:
        problems = []
        for name, read in (
            ("OTPQUEUE_SEAL_KEYS", self.sealing_keys),
            ("OTPQUEUE_HASH_KEY", self.hashing_keys),
        ):
            try:
                read()
            except SettingsError:
                continue  # not given: only the commands that need it complain
            except ValueError as problem:
                problems.append(f"{name} {problem}")
        return problems

    def sealing_keys(self) -> dict[str, bytes]:
        """Return the sealing keys by id, the one that seals first.

        Raises SettingsError when none is given, ValueError when one is not `id:base64` of 32 bytes.
        """
        keys: dict[str, bytes] = {}
        for pair in self.require("seal_keys").split(","):
            key_id, colon, encoded = pair.strip().partition(":")
            if not colon or not key_id.isalnum() or key_id in keys:
                raise ValueError("must be `id:base64` pairs with ids of their own, e.g. k1:AAAA...=")
            keys[key_id] = _decode_key(encoded)
        return keys

    def hashing_keys(self) -> list[bytes]:
        """Return the keys of the look-up hashes, the one that new hashes are made with first.

        Raises SettingsError when none is given, ValueError when they are not one or two of 32 bytes.
        """
        keys = [_decode_key(encoded.strip()) for encoded in self.require("hash_key").split(",")]
        if len(keys) > 2 or len(set(keys)) < len(keys):
            raise ValueError("must be one key, or two that differ with a comma between")
        return keys

    def require(self, field: str) -> str:
        """Return the value of an optional setting, secrets unwrapped.

        Raises SettingsError when it is not set.
        """
        value = getattr(self, field)
        if value is None:
            name = type(self).model_fields[field].alias
            raise SettingsError(
                [f"{name} is not set; set it, or start with `otpqueue dev`, which brings its own"]
            )
        return value.get_secret_value() if isinstance(value, SecretStr) else str(value)

    @property
    def broker(self) -> str:
        """Celery's broker URL."""
        url = self.require("broker_url" if self.broker_url else "redis_url")
        if not url.startswith("unix://"):
            return url
        # Celery has a name of its own for a Redis behind a Unix socket.
        return re.sub(r"([?&])db=", r"\1virtual_host=", url.replace("unix", "redis+socket", 1))


def _from_dotenv(path: Path, names: set[str]) -> tuple[dict[str, str], list[str]]:
    def is_ours(name: str) -> bool:
        return name in names or name.removesuffix("_FILE") in names or name.startswith("OTPQUEUE_")

    as_json = {str(field.alias) for field in Settings.model_fields.values() if FromJson in field.metadata}
    return envfile.read(path, is_ours=is_ours, escaped=as_json)


def _quoted(environment: Mapping[str, str], names: set[str]) -> list[str]:
    """Return a problem for each value in quotes: a shell removes them, `docker run --env-file` does not."""
    return [
        f"{name} is in quotes, which are part of the value here; remove them"
        for name in sorted(names & environment.keys())
        if re.fullmatch(r"(['\"]).*\1", environment[name], re.DOTALL)
    ]


def _from_files(environment: Mapping[str, str], names: set[str]) -> tuple[dict[str, str], list[str]]:
    values, problems = {}, []
    for name in sorted(names):
        path = environment.get(f"{name}_FILE")
        if not path:
            continue
        if environment.get(name):
            problems.append(f"{name} and {name}_FILE are both set; keep one")
            continue
        try:
            values[name] = Path(path).read_text(encoding="utf-8-sig").strip()
        except OSError as error:
            problems.append(f"{name}_FILE cannot be read: {error.strerror}")
        except UnicodeError:
            problems.append(f"{name}_FILE cannot be read: it is not text in UTF-8")
    return values, problems


# Kubernetes describes a Service called `otpqueue` or `otpqueue-api` to every pod in such variables.
_SERVICE_LINK = re.compile(
    r"OTPQUEUE_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)"
)


def _is_service_link(name: str, value: str) -> bool:
    # A plain OTPQUEUE_PORT=8000 is somebody's mistake.
    return _SERVICE_LINK.fullmatch(name) is not None and (name != "OTPQUEUE_PORT" or "://" in value)


def _unknown(environment: Mapping[str, str], names: set[str]) -> list[str]:
    ours = {name for name in environment if name.startswith("OTPQUEUE_")}
    known = names | {f"{name}_FILE" for name in names} | {"OTPQUEUE_URL", "OTPQUEUE_API_KEY"}
    known |= {"OTPQUEUE_PG_BIN", "OTPQUEUE_VALKEY_SERVER"}
    return [
        f"{name} is not a setting"
        for name in sorted(ours - known)
        if not _is_service_link(name, environment[name])
    ]


def _explain(error: ValidationError) -> list[str]:
    problems: list[str] = []
    for item in error.errors(include_input=False, include_url=False):
        where = str(item["loc"][0]) + ": " if item["loc"] else ""
        problems += [where + line for line in item["msg"].removeprefix("Value error, ").splitlines()]
    return problems


def _combination_problems(error: ValidationError, values: Mapping[str, Any]) -> list[str]:
    # pydantic looks at combinations only when each value is good. They are looked at again without the bad
    # ones, whose defaults stand in; a problem that names one of those is not a finding.
    bad = {str(item["loc"][0]) for item in error.errors(include_input=False) if item["loc"]}
    if not bad:
        return []
    try:
        Settings.model_validate({name: value for name, value in values.items() if name not in bad})
    except ValidationError as more:
        return [problem for problem in _explain(more) if not any(name in problem for name in bad)]
    return []


def load(environment: Mapping[str, str] | None = None, *, dotenv: Path | None = Path(".env")) -> Settings:
    """Read the settings from `environment` (default: the process's own) over `dotenv` (default: `./.env`).

    Raises SettingsError naming every problem at once; it never holds a secret's value.
    """
    given, written = dict(os.environ if environment is None else environment), dict[str, str]()
    names = {str(field.alias) for field in Settings.model_fields.values()}
    problems = _quoted(given, names)
    if dotenv is not None and dotenv.is_file():
        written, unreadable = _from_dotenv(dotenv, names)
        problems += unreadable
    unseen = sorted(name for name in written.keys() - given.keys() if name.startswith("OTEL_"))
    given = written | given
    files, unreadable = _from_files(given, names)
    problems += unreadable + _unknown(given, names)
    values: dict[str, Any] = {name: given[name] for name in names if name in given and given[name] != ""}
    try:
        settings = Settings.model_validate(values | files)
    except ValidationError as error:
        problems += _explain(error) + _combination_problems(error, values | files)
        raise SettingsError(problems) from None
    if settings.traces:
        problems += [
            f"{name} must be in the environment: OpenTelemetry does not read .env" for name in unseen
        ]
    if problems:
        raise SettingsError(problems)
    return settings
