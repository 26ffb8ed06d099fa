"""HTTPS: whom the service speaks to, what it says of wrong files, and certificates that change while it serves."""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec
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
from service.security.api_keys import add_key
from service.security.tls import TlsError, server_context, subject
from service.settings import Settings
from tests.artefacts import oracle, sample_events
from tests.live import TIMEOUT_S, LiveService, live_service

HOST = "127.0.0.1"


class Files(NamedTuple):
    """The PEM files that a service is given."""

    certificate: Path
    key: Path
    client_ca: Path

    @property
    def settings(self) -> Settings:
        """Name the certificate and its key."""
        return Settings(tls_certificate=str(self.certificate), tls_key=str(self.key))

    @property
    def flags(self) -> list[str]:
        """Name them on the command line."""
        return ["--tls-certificate", str(self.certificate), "--tls-key", str(self.key)]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Make the authority that clients trust."""
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> Files:
    """Write a certificate of the service, and the authority of its clients."""
    return write(Files(tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "clients.pem"), authority)


def write(files: Files, authority: trustme.CA) -> Files:
    """Write a new certificate and its key, aside and renamed, as an authority's tool does."""
    issued = authority.issue_cert(HOST, "localhost")
    contents = {
        files.certificate: b"".join(blob.bytes() for blob in issued.cert_chain_pems),
        files.key: issued.private_key_pem.bytes(),
        files.client_ca: authority.cert_pem.bytes(),
    }
    for path, content in contents.items():
        aside = path.with_suffix(".new")
        aside.write_bytes(content)
        aside.rename(path)
    return files


def client_context(
    authority: trustme.CA, client: trustme.LeafCert | None = None, version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """Make a client that trusts the authority, has a certificate where one is given, and speaks one version."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if client is not None:
        client.configure_cert(context)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def score(service: LiveService, context: ssl.SSLContext, **headers: str) -> httpx.Response:
    """Have three events scored over a connection of its own."""
    return httpx.post(
        f"{service.base_url}/score/batch",
        content=RAW.write("", sample_events(3)),
        headers={"Content-Type": RAW.media_type, **headers},
        verify=context,
        timeout=TIMEOUT_S,
    )


def serial(service: LiveService, context: ssl.SSLContext) -> str:
    """Shake hands anew, and give the serial number of the certificate that the service has shown."""
    with (
        service.connect() as connection,
        context.wrap_socket(connection, server_hostname=HOST) as secured,
    ):
        certificate = secured.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def shakes_hands(service: LiveService, context: ssl.SSLContext) -> bool:
    """Tell whether the service answers this client at all; TLS 1.3 refuses clients after their handshake."""
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


def assert_quiet(service: LiveService) -> None:
    """Check that nothing in the log is a fault of ours: clients that are turned away are none."""
    assert not service.log_levels & {"ERROR", "CRITICAL", "WARNING"}
    assert "Traceback" not in service.log_text


def test_a_context_speaks_modern_tls_alone(files: Files) -> None:
    """TLS 1.2 and 1.3, HTTP/1.1, no client's certificate unless authorities are named."""
    context = server_context(files.settings)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE
    mutual = msgspec.structs.replace(files.settings, tls_client_ca=str(files.client_ca))
    assert server_context(mutual).verify_mode == ssl.CERT_REQUIRED


def write_encrypted(files: Files) -> None:
    """Encrypt the private key with a password."""
    loaded = load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))


def ways_to_break(authority: trustme.CA) -> list[tuple[str, Callable[[Files], object], str]]:
    """Give a name for each way to break the files, what does so, and the start of the message."""
    missing = "No such file or directory; give the PEM file of"
    der = ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode())
    other = authority.issue_cert(HOST)

    def directory(files: Files) -> None:
        files.key.unlink()
        files.key.mkdir()

    def pipe(files: Files) -> None:
        files.client_ca.unlink()
        os.mkfifo(files.client_ca)

    def swap(files: Files) -> None:
        certificate = files.certificate.read_bytes()
        files.certificate.write_bytes(files.key.read_bytes())
        files.key.write_bytes(certificate)

    def cut(path: Path, n_bytes: int) -> None:
        path.write_bytes(path.read_bytes()[:n_bytes])

    no_certificate = "{certificate} has no PEM block of a CERTIFICATE: give the PEM file of the certificate"
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
        (
            "another key",
            lambda f: f.key.write_bytes(other.private_key_pem.bytes()),
            "{key} is not the key of {certificate}: give the two that were made together",
        ),
        (
            "encrypted key",
            write_encrypted,
            "{key} is encrypted: decrypt it with openssl pkey, for a service asks for no password",
        ),
        (
            "authorities are no PEM",
            lambda f: f.client_ca.write_bytes(b"\0"),
            "{client_ca} has no PEM block of a CERTIFICATE: give the PEM file of the clients'",
        ),
        (
            "authorities are clients",
            lambda f: f.client_ca.write_bytes(other.cert_chain_pems[0].bytes()),
            "{client_ca} has no authority's certificate, but others: give what signs the clients'",
        ),
    ]


def test_wrong_files_are_refused_in_words(tmp_path: Path, authority: trustme.CA, subtests: pytest.Subtests) -> None:
    """The message names the file, the fault and the remedy."""
    for name, damage, message in ways_to_break(authority):
        with subtests.test(msg=name):
            folder = tmp_path / name
            folder.mkdir()
            files = write(Files(folder / "chain.pem", folder / "key.pem", folder / "clients.pem"), authority)
            damage(files)
            with pytest.raises(TlsError) as refused:
                server_context(msgspec.structs.replace(files.settings, tls_client_ca=str(files.client_ca)))
            assert str(refused.value).startswith(message.format(**files._asdict()))
            assert "PRIVATE KEY-----" not in str(refused.value)


def test_an_encrypted_key_does_not_wait_at_the_terminal(files: Files) -> None:
    """Whatever form the encryption has, no password is asked for: a service has no terminal."""
    write_encrypted(files)
    script = (
        "import sys; from service.settings import Settings\n"
        "from service.security.tls import TlsError, server_context\n"
        "try: server_context(Settings(tls_certificate=sys.argv[1], tls_key=sys.argv[2]))\n"
        "except TlsError as error: print(error)"
    )
    arguments = [sys.executable, "-c", script, str(files.certificate), str(files.key)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    assert "is encrypted" in done.stdout


def test_a_subject_is_its_common_name() -> None:
    """As Python's ssl gives a peer's certificate; without one, or without a name, there is none."""
    assert subject({"subject": ((("organizationName", "o"),), (("commonName", "alice"),))}) == "alice"
    assert subject({"subject": ((("organizationName", "o"),),)}) is None
    assert subject({}) is None
    assert subject(None) is None


@pytest.fixture(scope="module")
def https(
    model_path: Path, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LiveService, Files]]:
    """Serve HTTPS, with the files that may be changed under it."""
    directory = tmp_path_factory.mktemp("tls")
    files = write(Files(directory / "chain.pem", directory / "key.pem", directory / "clients.pem"), authority)
    with live_service(model_path, *files.flags, "--header-s", "1") as service:
        yield service, files


@pytest.mark.process
def test_https_scores(https: tuple[LiveService, Files], authority: trustme.CA) -> None:
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
def test_who_does_not_speak_tls_gets_no_answer(https: tuple[LiveService, Files], authority: trustme.CA) -> None:
    """Plain HTTP, noise, a client that leaves at once and old versions are turned away; the others are served."""
    service, _ = https
    for said in (
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + b"\0" * 600,
        os.urandom(999),
        b"",
    ):
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
    assert shakes_hands(service, client_context(authority))
    assert_quiet(service)


@pytest.mark.process
def test_a_handshake_that_never_ends_delays_no_other_client(
    https: tuple[LiveService, Files], authority: trustme.CA
) -> None:
    """A client that connects and says nothing is cut off after the time that a head may take; others are served."""
    service, _ = https
    with service.connect() as silent:
        assert shakes_hands(service, client_context(authority))
        assert all_from(silent) == b""
    assert_quiet(service)


@pytest.mark.process
def test_a_renewed_certificate_is_shown_to_new_connections(
    https: tuple[LiveService, Files], authority: trustme.CA
) -> None:
    """After SIGHUP new handshakes see the new certificate, and a connection that was there is used on."""
    service, files = https
    context = client_context(authority)
    old = serial(service, context)
    kept = http.client.HTTPSConnection(*service.address, timeout=TIMEOUT_S, context=context)
    kept.request("GET", "/health")
    assert kept.getresponse().read() == b'{"status":"ok"}'
    end = kept.sock
    write(files, authority)
    service.signal(signal.SIGHUP)
    service.wait_for("certificate loaded")
    assert serial(service, context) != old
    kept.request("GET", "/health")
    assert kept.getresponse().read() == b'{"status":"ok"}'
    assert kept.sock is end  # else it would have connected again
    kept.close()
    assert_quiet(service)


@pytest.mark.process
def test_a_wrong_new_certificate_leaves_the_old_one(https: tuple[LiveService, Files], authority: trustme.CA) -> None:
    """A key of another certificate, which is what half of a renewal looks like, is refused in the log, and no more."""
    service, files = https
    context = client_context(authority)
    old, good, n_loaded = serial(service, context), files.key.read_bytes(), len(service.events("certificate loaded"))
    files.key.write_bytes(authority.issue_cert(HOST).private_key_pem.bytes())
    service.signal(signal.SIGHUP)
    refused = service.wait_for("certificate refused")
    expected = f"{files.key} is not the key of {files.certificate}: give the two that were made together"
    assert refused["detail"] == expected
    assert serial(service, context) == old
    assert score(service, context).status_code == 200
    files.key.write_bytes(good)
    service.signal(signal.SIGHUP)
    service.wait_for("certificate loaded", n_loaded + 1)
    assert score(service, context).status_code == 200


@pytest.mark.process
@pytest.mark.slow
def test_clients_have_to_show_their_certificates(model_path: Path, authority: trustme.CA, files: Files) -> None:
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


@pytest.mark.process
def test_keys_and_tls_go_together(model_path: Path, authority: trustme.CA, files: Files, tmp_path: Path) -> None:
    """Over HTTPS a key is asked for as over HTTP; the log has the name of the key."""
    key = add_key("alice", tmp_path / "keys")
    context = client_context(authority)
    with live_service(model_path, *files.flags, "--api-keys", str(tmp_path / "keys"), "--access-log") as service:
        assert score(service, context).status_code == 401
        assert score(service, context, Authorization=f"Bearer {key}").status_code == 200
        service.wait_for("request", 2)
        lines = [(line["status"], line.get("client_name")) for line in service.events("request")]
        assert lines == [(401, None), (200, "alice")]
        assert key not in service.log_text
