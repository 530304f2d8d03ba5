"""Settings of the HTTP API: addresses, HTTPS, capacity and pages."""

from __future__ import annotations

import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator

from otpqueue.settings.fields import (
    API,
    API_AND_WORKERS,
    Optional,
    Seconds,
    SettingsSubject,
    Text,
    TypeName,
    constant,
    match_form,
    setting,
)

TrustedProxies = int | tuple[IPv4Network | IPv6Network, ...]
"""The number of proxies in front of the API, or their networks."""

PublicUrl = Annotated[
    str | None,
    Optional,
    match_form(
        r"https?://[^\s/?#@]+(/[\w.~/-]*)?",
        "an address like `https://otp.example`: with https:// or http://, without a user, and with nothing "
        "behind a ? or #",
        url=True,
    ),
    TypeName("URL"),
]


def _count_usable_cores() -> int:
    """Return how many cores this process may use, up to 8: each API process has Postgres connections."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def _parse_proxies(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.strip().isdecimal():
        return int(value)
    try:
        networks = tuple(ip_network(text.strip()) for text in value.split(",") if text.strip())
    except ValueError:
        raise ValueError("must be a number of proxies, or their networks: `10.0.0.0/8, ::1`") from None
    if any(network.prefixlen == 0 for network in networks):
        raise ValueError("must not include every address")
    return networks


class ApiSettings(SettingsSubject):
    """How the API serves calls."""

    TITLE: ClassVar[str] = "API"
    USED_BY: ClassVar[str] = API

    host: str = setting("127.0.0.1", "OTPQUEUE_HOST", "address the API listens on")
    port: int = setting(8000, "PORT", "port the API listens on", ge=1, le=65535)
    require_https: bool = setting(
        False,
        "OTPQUEUE_REQUIRE_HTTPS",
        "reject plain HTTP except on `/health`, and send HSTS ([security.md](security.md#https))",
    )
    trusted_proxies: Annotated[
        TrustedProxies, BeforeValidator(_parse_proxies), TypeName("integer or list")
    ] = setting(
        (),
        "OTPQUEUE_TRUSTED_PROXIES",
        "number of proxies in front of the API (`1`), or their networks (`10.0.0.0/8, ::1`)",
    )
    tls_cert_file: Annotated[Path | None, Optional] = setting(
        None, "OTPQUEUE_TLS_CERT_FILE", "certificate chain (PEM); the API then serves HTTPS itself"
    )
    tls_key_file: Annotated[Path | None, Optional] = setting(
        None, "OTPQUEUE_TLS_KEY_FILE", "private key of the certificate (PEM, without a password)"
    )
    header_timeout_s: Seconds = setting(
        30,
        "OTPQUEUE_HEADER_TIMEOUT_S",
        "timeout for a request's headers, and idle timeout of a connection",
        le=60,
    )
    body_timeout_s: Seconds = constant(
        10, "OTPQUEUE_TUNING_BODY_TIMEOUT_S", "timeout for a request's body; then 408", le=60
    )
    api_processes: int = setting(
        _count_usable_cores,
        "OTPQUEUE_API_PROCESSES",
        "API processes on this machine",
        shown_default="cores, up to `8`",
        ge=1,
    )
    api_threads: int = setting(
        8,
        "OTPQUEUE_API_THREADS",
        "concurrent calls per API process; `verify` has four times as many of its own, `wait` twice as many",
        ge=2,
        le=256,
    )
    api_queue_ms: int = constant(
        250,
        "OTPQUEUE_TUNING_API_QUEUE_MS",
        "how long a call waits for a thread before it is answered 503",
        ge=10,
        le=10_000,
    )
    access_cache_s: float = constant(
        1,
        "OTPQUEUE_TUNING_ACCESS_CACHE_S",
        "how long an API process caches API keys, client settings, stops and daily counts; a revoked key or "
        "a stop takes effect within it",
        ge=0,
        le=5,
    )
    idempotency_keep_s: Seconds = setting(
        86_400,
        "OTPQUEUE_IDEMPOTENCY_KEEP_S",
        "how long the response to an `Idempotency-Key` is kept",
        ge=60,
        le=604_800,
    )
    guide_client: Text = setting(
        None,
        "OTPQUEUE_GUIDE_CLIENT",
        "client of calls without an API key to `/request-otp` and `/verify-otp`; such calls are rejected "
        "unless set",
    )
    console: bool = setting(True, "OTPQUEUE_CONSOLE", "serve `/console` ([console.md](console.md))")
    try_page: bool = setting(
        False,
        "OTPQUEUE_TRY_PAGE",
        "serve `/try`, a demo of the verification page with the simulator's inbox; on in `otpqueue dev`",
    )
    developer_hints: bool = setting(
        False,
        "OTPQUEUE_DEVELOPER_HINTS",
        "problem details say which `session_id` or number a check needs, which also helps an attacker; on in "
        "`otpqueue dev`",
    )
    public_url: PublicUrl = setting(
        None,
        "OTPQUEUE_PUBLIC_URL",
        "public address of this deployment, `https://otp.example`, for links in notifications and to "
        "verification pages",
        used_by=API_AND_WORKERS,
    )
    page_lifetime_s: Seconds = setting(
        900,
        "OTPQUEUE_PAGE_LIFETIME_S",
        "how long the link to a verification page works ([verification-page.md](verification-page.md))",
        ge=60,
        le=3600,
    )
    page_token_s: Seconds = constant(
        300,
        "OTPQUEUE_TUNING_PAGE_TOKEN_S",
        "how long the token of a verified page can be redeemed",
        ge=10,
        le=600,
    )

    deployment_name: Annotated[
        str,
        match_form(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}", "1 to 40 letters, digits, spaces, dots and dashes"),
    ] = setting(
        "otpqueue",
        "OTPQUEUE_DEPLOYMENT_NAME",
        "name of this deployment, for example `production`, in notifications and in the console",
        used_by=API_AND_WORKERS,
    )

    @property
    def api_checks(self) -> int:
        """How many codes an API process checks concurrently. A check waits for the provider."""
        return 4 * self.api_threads

    @property
    def api_waiters(self) -> int:
        """How many calls with `wait` an API process holds open concurrently."""
        return 2 * self.api_threads

    def find_problems(self) -> list[str]:
        """Return a line for each combination of values that cannot work."""
        problems = super().find_problems()
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            problems.append("OTPQUEUE_TLS_CERT_FILE and OTPQUEUE_TLS_KEY_FILE must be given together")
        if self.require_https and not (self.tls_cert_file or self.trusted_proxies):
            problems.append(
                "OTPQUEUE_REQUIRE_HTTPS would reject every call: set OTPQUEUE_TRUSTED_PROXIES, or "
                "OTPQUEUE_TLS_CERT_FILE"
            )
        return problems
