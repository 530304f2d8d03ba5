"""HTTPS: plain HTTP is refused where it must not be, trusted proxies are believed, TLS files are served."""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from otpqueue import clock
from otpqueue.cli import main
from tests.api.conftest import Caller, MakeCaller
from tests.api.serving import serving, settings_over_a_database
from tests.conftest import Engines, Provider

ASK = "/v1/otp-requests"
HSTS = "max-age=31536000"


def proxied(
    caller: Caller, path: str = ASK, *, peer: str = "127.0.0.1", **headers: str
) -> tuple[int, str | None]:
    """Ask over plain HTTP, as a proxy at `peer` passes it on; return status and HSTS."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = caller.post(path, json={"phone_number": caller.number}, headers=named, remote_addr=peer)
    return answer.status_code, answer.headers.get("Strict-Transport-Security")


def test_plain_http_is_refused(make_caller: MakeCaller) -> None:
    """Nothing is looked at of what came by plain HTTP, and no redirect has it sent again."""
    caller = make_caller(OTPQUEUE_REQUIRE_HTTPS="true", OTPQUEUE_TRUSTED_PROXIES="1")

    answers = [
        caller.post(ASK, json={"phone_number": caller.number}),
        caller.get("/docs/api"),
        caller.post("/v1/infobip/receipts", json={"results": []}),
        caller.post("/request-otp", json={"phoneNumber": caller.number}),
    ]

    for answer in answers:
        assert (answer.status_code, answer.json["code"]) == (403, "https_required")
        assert "Location" not in answer.headers
        assert "Strict-Transport-Security" not in answer.headers
    assert answers[-1].json["success"] is False
    assert not caller.stored("otp_requests")


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_probes_come_by_plain_http(make_caller: MakeCaller, path: str) -> None:
    """A load balancer probes past itself."""
    caller = make_caller(OTPQUEUE_REQUIRE_HTTPS="true", OTPQUEUE_TRUSTED_PROXIES="1")

    assert caller.get(path).status_code in {200, 503}


def test_https_is_not_required_by_default(caller: Caller) -> None:
    """Without the setting plain HTTP is served, and nobody is told to come by HTTPS."""
    assert proxied(caller) == (202, None)
    assert proxied(caller, X_Forwarded_Proto="https") == (202, None)


@pytest.mark.parametrize(
    ("trusted", "peer", "proto", "served"),
    [
        ("1", "127.0.0.1", "https", True),
        ("1", "203.0.113.9", "HTTPS", True),
        ("2", "127.0.0.1", "https, https", True),
        ("1", "127.0.0.1", "http", False),
        ("1", "127.0.0.1", "", False),
        ("1", "127.0.0.1", "https, http", False),
        ("1", "127.0.0.1", "http, https", False),
        ("1", "127.0.0.1", "https,", False),
        ("1", "127.0.0.1", "httpsx", False),
        ("10.0.0.0/8, ::1", "10.1.2.3", "https", True),
        ("10.0.0.0/8, ::1", "::1", "https", True),
        ("10.0.0.0/8, ::1", "::ffff:10.1.2.3", "https", True),
        ("10.0.0.0/8, ::1", "11.1.2.3", "https", False),
        ("10.0.0.0/8, ::1", "127.0.0.1", "https", False),
        ("10.0.0.0/8, ::1", "nonsense", "https", False),
    ],
)
def test_forwarded_proto(make_caller: MakeCaller, trusted: str, peer: str, proto: str, served: bool) -> None:
    """`X-Forwarded-Proto` counts from a trusted proxy, and only if it says nothing but https."""
    caller = make_caller(OTPQUEUE_REQUIRE_HTTPS="true", OTPQUEUE_TRUSTED_PROXIES=trusted)

    assert proxied(caller, peer=peer, X_Forwarded_Proto=proto) == ((202, HSTS) if served else (403, None))


def test_https_to_us_and_not_to_the_proxy(make_caller: MakeCaller) -> None:
    """A trusted proxy's word is about the whole way: HTTPS on the last stretch does not mend the first."""
    caller = make_caller(OTPQUEUE_REQUIRE_HTTPS="true", OTPQUEUE_TRUSTED_PROXIES="1")

    plain = caller.get("/docs/api", protocol="https", headers={"X-Forwarded-Proto": "http"})
    direct = caller.get("/docs/api", protocol="https")

    assert (plain.status_code, direct.status_code) == (403, 200)
    assert direct.headers["Strict-Transport-Security"] == HSTS


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded_for", "logged"),
    [
        ("", "198.51.100.7", "203.0.113.9", "198.51.100.0/24"),
        ("0", "198.51.100.7", "203.0.113.9", "198.51.100.0/24"),
        ("1", "198.51.100.7", "203.0.113.9", "203.0.113.0/24"),
        ("1", "198.51.100.7", "192.0.2.1, 203.0.113.9", "203.0.113.0/24"),
        ("2", "198.51.100.7", "192.0.2.1, 203.0.113.9", "192.0.2.0/24"),
        ("2", "198.51.100.7", "203.0.113.9", "203.0.113.0/24"),
        ("1", "198.51.100.7", "203.0.113.9:4711", "203.0.113.0/24"),
        ("1", "198.51.100.7", "[2001:db8:1:2::3]:4711", "2001:db8:1::/48"),
        ("1", "198.51.100.7", "2001:db8:1:2::3", "2001:db8:1::/48"),
        ("1", "198.51.100.7", "192.0.2.1, +447700900123", "198.51.100.0/24"),
        ("1", "198.51.100.7", "", "198.51.100.0/24"),
        ("10.0.0.0/8", "10.0.0.1", "192.0.2.1, 203.0.113.9, 10.9.9.9", "203.0.113.0/24"),
        ("10.0.0.0/8", "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.0/24"),
        ("10.0.0.0/8", "198.51.100.7", "203.0.113.9", "198.51.100.0/24"),
    ],
)
def test_peer_in_the_log(
    make_caller: MakeCaller, capsys: Any, trusted: str, peer: str, forwarded_for: str, logged: str
) -> None:
    """The log has the network of who called, as far as proxies are trusted, and never a whole address."""
    caller = make_caller(OTPQUEUE_TRUSTED_PROXIES=trusted)
    capsys.readouterr()

    proxied(caller, peer=peer, X_Forwarded_For=forwarded_for)

    said = capsys.readouterr().out
    assert f"peer={logged} " in said
    for whole in (peer, "203.0.113.9", "192.0.2.1", "2001:db8:1:2", "7700900123"):
        assert f"{whole} " not in said


def make_certificate(
    folder: Path,
    *,
    password: bytes | None = None,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
) -> tuple[Path, Path]:
    """Return the files of a certificate for localhost, trusted by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now = clock.now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, sealed))
    return cert_file, key_file


def tls(cert: Path, key: Path, **more: str) -> dict[str, str]:
    """Return the settings that serve these files."""
    return {"OTPQUEUE_TLS_CERT_FILE": str(cert), "OTPQUEUE_TLS_KEY_FILE": str(key), **more}


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
def test_served_by_https(engines: Engines, module_provider: Provider, tmp_path: Path, form: str) -> None:
    """`otpqueue api` serves HTTPS with the files it is given, from TLS 1.2 on, and nothing by plain HTTP."""
    cert, key = make_certificate(tmp_path / "tls", form=getattr(serialization.PrivateFormat, form))
    with (
        settings_over_a_database(engines, provider_url=module_provider.url) as settings,
        serving(settings | tls(cert, key, OTPQUEUE_REQUIRE_HTTPS="true"), tmp_path, authority=cert) as served,
    ):
        path, code = served.sent("+447700900777")
        verified = served.call("POST", f"{path}/verify", json={"code": code})
        port = int(served.url.rpartition(":")[2])
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/health/live", timeout=5)
        spoken = []
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context(cafile=str(cert))
            context.minimum_version = context.maximum_version = version
            context.set_alpn_protocols(["h2", "http/1.1"])
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as connection,
            ):
                spoken.append((connection.version(), connection.selected_alpn_protocol()))

    assert verified.json()["verified"] is True
    assert verified.headers["Strict-Transport-Security"] == HSTS
    assert [version for version, _ in spoken] == ["TLSv1.2", "TLSv1.3"]
    assert "h2" not in {protocol for _, protocol in spoken}


def test_tls_files_that_cannot_be_served(
    engines: Engines, module_provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with the files is said before anything starts, with what to do."""
    monkeypatch.chdir(tmp_path)
    cert, key = make_certificate(tmp_path / "one")
    _, other = make_certificate(tmp_path / "other")
    _, sealed = make_certificate(tmp_path / "sealed", password=b"right")
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    wrong = [
        (tls(tmp_path / "missing", key), "OTPQUEUE_TLS_CERT_FILE cannot be read: No such file"),
        (tls(cert, tmp_path), "OTPQUEUE_TLS_KEY_FILE cannot be read: Is a directory"),
        (tls(nothing, key), "OTPQUEUE_TLS_CERT_FILE contains no PEM certificate"),
        (tls(key, key), "OTPQUEUE_TLS_CERT_FILE contains no PEM certificate"),
        (tls(cert, nothing), "OTPQUEUE_TLS_KEY_FILE contains no PEM private key"),
        (tls(cert, cert), "OTPQUEUE_TLS_KEY_FILE contains no PEM private key"),
        (tls(cert, other), "OTPQUEUE_TLS_KEY_FILE is not the key of OTPQUEUE_TLS_CERT_FILE"),
        (tls(cert, sealed), "openssl pkcs8 -topk8 -nocrypt"),
        ({"OTPQUEUE_TLS_CERT_FILE": str(cert)}, "must be given together"),
        ({"OTPQUEUE_REQUIRE_HTTPS": "true"}, "would reject every call"),
        ({"OTPQUEUE_TRUSTED_PROXIES": "10.0.0.1/8"}, "must be a number of proxies, or their networks"),
        ({"OTPQUEUE_TRUSTED_PROXIES": "0.0.0.0/0"}, "must not include every address"),
        ({"OTPQUEUE_TRUSTED_PROXIES": "-1"}, "must be a number of proxies, or their networks"),
    ]
    with settings_over_a_database(engines, provider_url=module_provider.url) as settings:
        for differing, said in wrong:
            result = CliRunner().invoke(main, ["api"], env=settings | differing)
            assert result.exit_code == 3, differing
            assert said in result.output, result.output
            assert "Traceback" not in result.output
