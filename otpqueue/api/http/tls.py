"""The certificate and key for HTTPS, checked before the server starts."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from otpqueue.settings import Settings, SettingsError
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


def check(settings: Settings, *, now: datetime) -> None:
    """Raise SettingsError, which says how to fix it, unless the TLS files can be used.

    A certificate that is not valid at `now` is only logged: some callers accept it, and a restart must not
    become an outage for them.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return
    certificate = _read_certificate(settings.tls_cert_file)
    _check_key(settings.tls_key_file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_cert_file, settings.tls_key_file)
    except ssl.SSLError:
        raise SettingsError(["OTPQUEUE_TLS_KEY_FILE is not the key of OTPQUEUE_TLS_CERT_FILE"]) from None
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        log.error("tls_certificate_not_valid", not_after=certificate.not_valid_after_utc.isoformat())


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(_read_file("OTPQUEUE_TLS_CERT_FILE", path))[0]
    except ValueError:
        raise SettingsError(["OTPQUEUE_TLS_CERT_FILE contains no PEM certificate"]) from None


def _check_key(path: Path) -> None:
    try:
        load_pem_private_key(_read_file("OTPQUEUE_TLS_KEY_FILE", path), None)
    except TypeError:
        # granian has an option for a password, but cannot read OpenSSL's encrypted keys.
        way_out = "remove it with `openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW_KEY`"
        raise SettingsError(
            [f"OTPQUEUE_TLS_KEY_FILE has a password, which is not supported: {way_out}"]
        ) from None
    except ValueError:
        raise SettingsError(["OTPQUEUE_TLS_KEY_FILE contains no PEM private key"]) from None


def _read_file(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError([f"{name} cannot be read: {error.strerror}"]) from None
