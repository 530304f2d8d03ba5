"""A broker over TLS must have a valid certificate for its host."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from otpqueue import clock
from tests.conftest import MakeParts

Greeted = list[bytes]
GREETINGS = {"amqps": b"AMQP", "rediss": b"*"}


def certificate(folder: Path, host: str) -> Path:
    """Create a self-signed certificate for one address. The file also has its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(clock.now() - timedelta(hours=1))
        .not_valid_after(clock.now() + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "broker.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


@contextmanager
def tls_server(pem: Path) -> Iterator[tuple[int, Greeted]]:
    """Yield the port of a server that records the first bytes of each client, and never answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    greeted: Greeted = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as client:
                    client.settimeout(5)
                    greeted.append(client.recv(16))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], greeted
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


@pytest.fixture
def greetings(
    make_parts: MakeParts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, str], Greeted]:
    """Return a function that wakes through a broker with a trusted certificate for some address."""

    def wake(scheme: str, host: str) -> Greeted:
        pem = certificate(tmp_path, host)
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        with tls_server(pem) as (port, greeted):
            url = f"{scheme}://:s3cret@127.0.0.1:{port}/0"
            assert not make_parts(OTPQUEUE_BROKER_URL=url).waker.wake()
        return greeted

    return wake


@pytest.mark.parametrize("scheme", sorted(GREETINGS))
def test_broker_with_a_valid_certificate_is_used(
    greetings: Callable[[str, str], Greeted], scheme: str
) -> None:
    """The protocol begins once the certificate is verified."""
    (greeting,) = greetings(scheme, "127.0.0.1")[:1]

    assert greeting.startswith(GREETINGS[scheme])


@pytest.mark.parametrize("scheme", sorted(GREETINGS))
def test_certificate_of_another_host_is_refused(
    greetings: Callable[[str, str], Greeted], scheme: str
) -> None:
    """Nothing is sent to a server with a trusted certificate for another address."""
    with structlog.testing.capture_logs() as logged:
        assert [greeting for greeting in greetings(scheme, "127.0.0.2") if greeting] == []
    assert [record["event"] for record in logged] == ["wake_failed"]
