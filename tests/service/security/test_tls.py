"""HTTPS: whom the service speaks to, what it says of wrong files, and certificates that change while it serves."""

import http.client
import os
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from benchmarks.load.formats import RAW
from service.security.tls import TlsError, server_context, subject
from service.server.request_parser import SHUTDOWN_GRACE_S
from service.settings import Settings
from tests.artefacts import oracle, sample_events
from tests.live import TIMEOUT_S, LiveService, live_service, wait_until
from tests.service.security.certificates import HOST, CertificateFiles, client_context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Make the authority that clients trust."""
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> CertificateFiles:
    """Write a certificate of the service, and the authority of its clients."""
    return CertificateFiles.issue(authority, tmp_path)


def settings(files: CertificateFiles, client_ca: bool = False) -> Settings:
    """Name the files in settings, with or without the clients' authorities."""
    authorities = str(files.client_ca) if client_ca else None
    return Settings(tls_certificate=str(files.certificate), tls_key=str(files.key), tls_client_ca=authorities)


def score(service: LiveService, context: ssl.SSLContext) -> httpx.Response:
    """Score three events over a connection of its own."""
    return httpx.post(
        f"{service.base_url}/score/batch",
        content=RAW.write("", sample_events(3)),
        headers={"Content-Type": RAW.media_type},
        verify=context,
        timeout=TIMEOUT_S,
    )


def serial(service: LiveService, context: ssl.SSLContext) -> str:
    """Shake hands anew, and return the serial number of the certificate that the service has shown."""
    with service.connect() as connection, context.wrap_socket(connection, server_hostname=HOST) as secured:
        certificate = secured.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def shakes_hands(service: LiveService, context: ssl.SSLContext) -> bool:
    """Return whether the service answers this client at all; TLS 1.3 refuses clients after their handshake."""
    try:
        return httpx.get(f"{service.base_url}/health", verify=context, timeout=TIMEOUT_S).status_code == 200
    except (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
        return False


def all_from(connection: socket.socket) -> bytes:
    """Read until the other side is gone, in whatever way."""
    said = b""
    with suppress(ConnectionError):
        while piece := connection.recv(4096):
            said += piece
    return said


def assert_quiet(service: LiveService, after: int = 0) -> None:
    """Check that nothing in the log after so many lines is a fault of ours: clients that are turned away are none."""
    assert {line["level"] for line in service.log_lines[after:]} <= {"INFO", "DEBUG"}


def test_a_context_speaks_modern_tls_alone(files: CertificateFiles) -> None:
    """TLS 1.2 and 1.3, HTTP/1.1, no renegotiation, no client's certificate unless authorities are named."""
    context = server_context(settings(files))
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE
    assert server_context(settings(files, client_ca=True)).verify_mode == ssl.CERT_REQUIRED


def ways_to_break(authority: trustme.CA) -> list[tuple[str, Callable[[CertificateFiles], object], str]]:
    """Return a name for each way to break the files, what does so, and the start of the message."""
    der = ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())
    client = authority.issue_cert(HOST).cert_chain_pems[0].bytes()

    def directory(files: CertificateFiles) -> None:
        files.key.unlink()
        files.key.mkdir()

    def pipe(files: CertificateFiles) -> None:
        files.client_ca.unlink()
        os.mkfifo(files.client_ca)

    def swap(files: CertificateFiles) -> None:
        certificate = files.certificate.read_bytes()
        files.certificate.write_bytes(files.key.read_bytes())
        files.key.write_bytes(certificate)

    def cut(path: Path, n_bytes: int) -> None:
        path.write_bytes(path.read_bytes()[:n_bytes])

    def encrypt(form: PrivateFormat, files: CertificateFiles) -> None:
        loaded = load_pem_private_key(files.key.read_bytes(), None)
        files.key.write_bytes(loaded.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"x")))

    missing = "No such file or directory; give the PEM file of"
    no_certificate = "{certificate} has no PEM block of a CERTIFICATE: give the PEM file of the certificate"
    no_pem = "{client_ca} has no PEM block of a CERTIFICATE: give the PEM file of the clients'"
    no_authority = "{client_ca} has no CA certificate, only others: give the CA that signed the clients'"
    other_key = "{key} is not the key of {certificate}: give the two that were made together"
    encrypted = "{key} is encrypted: decrypt it with openssl pkey, for a service asks for no password"
    return [
        ("no certificate", lambda f: f.certificate.unlink(), f"{{certificate}}: {missing} the certificate chain"),
        ("no key", lambda f: f.key.unlink(), f"{{key}}: {missing} the private key"),
        ("no authorities", lambda f: f.client_ca.unlink(), f"{{client_ca}}: {missing} the clients' authorities"),
        ("a directory", directory, "{key}: Is a directory; give the PEM file of the private key"),
        ("a pipe", pipe, "{client_ca} is not a regular file; give the PEM file of the clients' authorities"),
        ("empty", lambda f: f.certificate.write_bytes(b""), no_certificate),
        ("DER", lambda f: f.certificate.write_bytes(der), no_certificate),
        ("swapped", swap, no_certificate),
        ("cut certificate", lambda f: cut(f.certificate, 300), "{key} with {certificate}: OpenSSL says"),
        ("cut key", lambda f: cut(f.key, 100), "{key} with {certificate}: OpenSSL says"),
        ("another key", lambda f: f.renew_key_alone(authority), other_key),
        ("encrypted key", partial(encrypt, PrivateFormat.PKCS8), encrypted),
        ("encrypted key, in the older form", partial(encrypt, PrivateFormat.TraditionalOpenSSL), encrypted),
        ("authorities are no PEM", lambda f: f.client_ca.write_bytes(b"\0"), no_pem),
        ("authorities are clients", lambda f: f.client_ca.write_bytes(client), no_authority),
    ]


def test_wrong_files_are_refused_in_words(tmp_path: Path, authority: trustme.CA, subtests: pytest.Subtests) -> None:
    """The message names the file, the fault and the remedy."""
    for name, damage, message in ways_to_break(authority):
        with subtests.test(msg=name):
            folder = tmp_path / name
            folder.mkdir()
            files = CertificateFiles.issue(authority, folder)
            damage(files)
            with pytest.raises(TlsError) as refused:
                server_context(settings(files, client_ca=True))
            assert str(refused.value).startswith(message.format(**files._asdict()))
            assert "PRIVATE KEY-----" not in str(refused.value)


def test_a_subject_is_its_common_name() -> None:
    """As Python's ssl gives a peer's certificate; without one, or without a name, there is none."""
    organisation, name = (("organizationName", "o"),), (("commonName", "alice"),)
    assert subject({"subject": (organisation, name)}) == "alice"
    assert {subject({"subject": (organisation,)}), subject({}), subject(None)} == {None}


Https = tuple[LiveService, CertificateFiles]


@pytest.fixture(scope="module")
def https(model_path: Path, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Https]:
    """Serve HTTPS, with the files that may be changed under it."""
    files = CertificateFiles.issue(authority, tmp_path_factory.mktemp("tls"))
    with live_service(model_path, *files.flags, "--header-s", "1") as service:
        yield service, files


@pytest.mark.process
def test_https_scores(https: Https, authority: trustme.CA) -> None:
    """Scores come over TLS 1.2 and 1.3, small and large, and the responses ask to stay with HTTPS."""
    service, _ = https
    assert service.base_url.startswith("https://")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = client_context(authority, version=version)
        response = score(service, context)
        np.testing.assert_allclose(RAW.read("", response.content), oracle(sample_events(3)), rtol=1e-5)
        many = sample_events(200_000)
        with httpx.Client(verify=context, base_url=service.base_url, timeout=TIMEOUT_S) as client:
            for _ in range(2):
                headers = {"Content-Type": RAW.media_type}
                scores = client.post("/score/batch", content=RAW.write("", many), headers=headers).content
                assert len(scores) == 4 * len(many)
            assert client.get("/model").headers["strict-transport-security"] == "max-age=31536000"
    assert_quiet(service)


@pytest.mark.process
def test_who_does_not_speak_tls_gets_no_answer(https: Https, authority: trustme.CA) -> None:
    """Noise, a client that leaves at once, old versions and silence are turned away, and plain HTTP is told why.

    A client that connects and says nothing is cut off after the time that a head may take.
    """
    service, _ = https
    noise = b"\x16\x03\x01\xff\xff" + b"\0" * 600
    with service.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"expected HTTPS on this port" in all_from(connection)
    for said in (noise, b"\x16" + os.urandom(999), b""):
        with service.connect() as connection:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            assert b"HTTP" not in all_from(connection)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(old)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        old.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    assert not shakes_hands(service, old)
    with service.connect() as silent:
        assert shakes_hands(service, client_context(authority))
        assert all_from(silent) == b""
    assert_quiet(service)


@pytest.mark.process
def test_a_renewed_certificate_is_shown_to_new_connections(https: Https, authority: trustme.CA) -> None:
    """After SIGHUP new handshakes see the new certificate, and a connection that was there is used on.

    A key of another certificate, which is what half of a renewal looks like, is refused in the log, and no more.
    """
    service, files = https
    context = client_context(authority)
    old = serial(service, context)
    kept = http.client.HTTPSConnection(*service.address, timeout=TIMEOUT_S, context=context)
    kept.request("GET", "/health")
    assert kept.getresponse().read() == b'{"status":"ok"}'
    end = kept.sock
    files.renew_key_alone(authority)
    service.signal(signal.SIGHUP)
    expected = f"{files.key} is not the key of {files.certificate}: give the two that were made together"
    assert service.wait_for("certificate refused")["detail"] == expected
    assert serial(service, context) == old
    assert score(service, context).status_code == 200
    n_lines = len(service.log_lines)
    files.renew(authority)
    service.signal(signal.SIGHUP)
    service.wait_for("certificate loaded")
    assert serial(service, context) != old
    kept.request("GET", "/health")
    assert kept.getresponse().read() == b'{"status":"ok"}'
    assert kept.sock is end  # else it would have connected again
    kept.close()
    assert_quiet(service, after=n_lines)


@pytest.mark.process
@pytest.mark.serial
def test_a_handshake_that_has_begun_survives_a_stop(
    model_path: Path, authority: trustme.CA, files: CertificateFiles
) -> None:
    """A client in the middle of its handshake when the service is stopped has its request answered."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(authority).wrap_bio(received, sent, server_hostname=HOST)
    with live_service(model_path, *files.flags) as service, service.connect() as connection:
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        connection.sendall(sent.read())
        received.write(connection.recv(65_536))
        service.signal(signal.SIGTERM)
        wait_until(partial(is_closed, service))
        time.sleep(SHUTDOWN_GRACE_S / 2)  # as a client that is far away
        client.do_handshake()
        client.write(b"GET /model HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.sendall(sent.read())
        received.write(all_from(connection))
        assert client.read(15) == b"HTTP/1.1 200 OK"
        assert service.process.wait(TIMEOUT_S) == 0


def is_closed(service: LiveService) -> bool:
    """Return whether the service takes no connections any more."""
    with suppress(ConnectionRefusedError), service.connect():
        return False
    return True


@pytest.mark.process
@pytest.mark.slow
def test_clients_have_to_show_their_certificates(
    model_path: Path, authority: trustme.CA, files: CertificateFiles
) -> None:
    """With authorities of clients, theirs are served, with their name in the log.

    Clients without a certificate, and with a stranger's of the same name, are turned away.
    """
    theirs = authority.issue_cert("alice@example.org", common_name="alice")
    stranger = trustme.CA().issue_cert("alice@example.org", common_name="alice")
    flags = [*files.flags, "--tls-client-ca", str(files.client_ca), "--access-log"]
    with live_service(model_path, *flags) as service:
        for count, version in enumerate((ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3), start=1):
            assert not shakes_hands(service, client_context(authority, None, version))
            assert not shakes_hands(service, client_context(authority, stranger, version))
            assert score(service, client_context(authority, theirs, version)).status_code == 200
            assert service.wait_for("request", count)["client_name"] == "alice"
        assert_quiet(service)
