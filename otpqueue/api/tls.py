"""The certificate and key that the API serves HTTPS with, looked at before anything is started with them."""

from __future__ import annotations

import ssl
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from otpqueue.logs import get_logger
from otpqueue.settings import Settings, SettingsError

log = get_logger(__name__)

_PKCS8 = (b"-----BEGIN PRIVATE KEY-----", b"-----BEGIN ENCRYPTED PRIVATE KEY-----")


def check(settings: Settings, *, now: datetime) -> None:
    """Raise SettingsError, which says how to mend it, unless the TLS files can be served with.

    A certificate that is not valid at `now` is logged: callers refuse it, but a restart must not make an
    outage of that for those who do not.
    """
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return
    certificate = _certificate(settings.tls_cert_file)
    password = settings.tls_key_password
    _check_key(settings.tls_key_file, password.get_secret_value() if password else None)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(
            settings.tls_cert_file, settings.tls_key_file, password.get_secret_value() if password else None
        )
    except ssl.SSLError:
        raise SettingsError(["OTPQUEUE_TLS_KEY_FILE is not the key of OTPQUEUE_TLS_CERT_FILE"]) from None
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        log.error("tls_certificate_not_valid", not_after=certificate.not_valid_after_utc.isoformat())


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(_read("OTPQUEUE_TLS_CERT_FILE", path))[0]
    except ValueError:
        raise SettingsError(["OTPQUEUE_TLS_CERT_FILE holds no certificate in PEM"]) from None


def _check_key(path: Path, password: str | None) -> None:
    content = _read("OTPQUEUE_TLS_KEY_FILE", path)
    if not content.lstrip().startswith(_PKCS8):
        raise SettingsError(
            ["OTPQUEUE_TLS_KEY_FILE must be in PKCS#8: `openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW_KEY`"]
        )
    try:
        load_pem_private_key(content, password.encode() if password else None)
    except TypeError:
        said = "has a password" if password is None else "has none"
        raise SettingsError([f"OTPQUEUE_TLS_KEY_PASSWORD does not fit: the key {said}"]) from None
    except ValueError:
        raise SettingsError(["OTPQUEUE_TLS_KEY_FILE cannot be read: wrong password, or damaged"]) from None


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError([f"{name} cannot be read: {error.strerror}"]) from None
