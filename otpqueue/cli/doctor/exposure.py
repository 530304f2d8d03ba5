"""Checks HTTPS, the console and pages for development, and the disk of embedded engines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta

from cryptography import x509

from otpqueue import clock
from otpqueue.api.http import tls
from otpqueue.cli.beside_dev import find_own_instance
from otpqueue.cli.doctor.findings import (
    FindingDraft,
    report_failure,
    report_ok,
    report_skipped,
    report_warning,
)
from otpqueue.cli.doctor.provider import is_simulated
from otpqueue.settings import Settings, SettingsError
from otpqueue.wiring import Parts

RENEW_BEFORE = timedelta(days=14)
LEAST_FREE_BYTES = 1 << 30
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def check_https(parts: Parts) -> Iterator[FindingDraft]:
    """Check the certificate, and that no API key travels over the network in plain text."""
    settings = parts.settings
    if settings.tls_cert_file is not None:
        yield from _check_certificate(settings)
    elif settings.require_https:
        yield report_ok("plain HTTP is rejected; a proxy must terminate TLS")
    elif settings.host in _LOOPBACK:
        yield report_ok("the API listens on this machine only")
    else:
        yield report_warning(
            f"the API listens on {settings.host} and accepts plain HTTP",
            "Set OTPQUEUE_REQUIRE_HTTPS=true, with a proxy or OTPQUEUE_TLS_CERT_FILE.",
        )


def _check_certificate(settings: Settings) -> Iterator[FindingDraft]:
    now = clock.now()
    try:
        tls.check(settings, now=now)
    except SettingsError as error:
        yield report_failure(error.problems[0], "Correct the file.")
        return
    assert settings.tls_cert_file is not None  # noqa: S101 - the caller has checked
    certificate = x509.load_pem_x509_certificates(settings.tls_cert_file.read_bytes())[0]
    ends = certificate.not_valid_after_utc
    if not certificate.not_valid_before_utc <= now <= ends:
        yield report_failure("the TLS certificate is not valid now", "Renew it.")
    elif ends - now < RENEW_BEFORE:
        yield report_warning(f"the TLS certificate expires on {ends:%Y-%m-%d}", "Renew it.")
    else:
        yield report_ok(f"the TLS certificate is valid until {ends:%Y-%m-%d}")


def check_pages(parts: Parts) -> Iterator[FindingDraft]:
    """Check that pages and callers for development are not on the network."""
    settings = parts.settings
    is_public = settings.host not in _LOOPBACK
    if settings.console and is_public and not (settings.require_https or settings.tls_cert_file):
        yield report_warning(
            "the console is served over plain HTTP, and so are its log-ins",
            "Set OTPQUEUE_REQUIRE_HTTPS=true, or OTPQUEUE_CONSOLE=false.",
        )
    else:
        yield report_ok(f"the console is {'on' if settings.console else 'off'}")
    if settings.try_page and is_public:
        yield report_failure(
            "the page /try, which anyone can use, is on the network", "Set OTPQUEUE_TRY_PAGE=false."
        )
    if settings.guide_client and is_public:
        yield report_warning(
            f"callers without an API key act as the client {settings.guide_client}",
            "Unset OTPQUEUE_GUIDE_CLIENT unless the API is behind your own back end.",
        )
    if not is_simulated(parts):
        yield from _check_test_aids(settings)


def _check_test_aids(settings: Settings) -> Iterator[FindingDraft]:
    if settings.test_numbers:
        yield report_warning(
            f"{len(settings.test_numbers)} test numbers accept a fixed code", "Unset OTPQUEUE_TEST_NUMBERS."
        )
    if settings.allow_documentation_numbers:
        yield report_warning(
            "codes are sent to numbers that are reserved for documentation",
            "Set OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS=false.",
        )


def check_disk(_parts: Parts) -> Iterator[FindingDraft]:
    """Check the free space of the folder with the embedded engines."""
    instance = find_own_instance()
    if instance is None:
        yield report_skipped("no embedded engines: watch the disks of Postgres and Redis there")
        return
    usage = shutil.disk_usage(instance.folder)
    free = f"{usage.free / (1 << 30):.1f} GiB"
    if usage.free < LEAST_FREE_BYTES:
        yield report_warning(f"only {free} are free for {instance.folder}", "Free some space.")
    else:
        yield report_ok(f"{free} are free for {instance.folder}")
