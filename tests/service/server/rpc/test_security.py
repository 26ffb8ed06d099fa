"""API keys, TLS and client certificates over gRPC, and their reload."""

import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.security.api_keys import add_key, remove_keys
from tests.artefacts import oracle, sample_events
from tests.live import TIMEOUT_S, LiveService, wait_until
from tests.service.security.certificates import CertificateFiles
from tests.service.server.rpc.client import CODES, Client, connect, grpc_service

pytestmark = [pytest.mark.process, pytest.mark.slow]

EVENTS = sample_events(3)


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata with a key."""
    return (("authorization", f"Bearer {key}"),)


def code(client: Client, name: str, *metadata: tuple[str, str]) -> grpc.StatusCode:
    """Make a call, and return how it ended."""
    try:
        client.call(name, metadata=metadata)
    except grpc.RpcError as error:
        found: grpc.StatusCode = error.code()
        return found
    return CODES.OK


def test_calls_need_a_key(model_path: Path, tmp_path: Path) -> None:
    """All but the checks of health do; one that is removed is refused after the reload; the log has its owner."""
    keys = tmp_path / "keys"
    key = add_key("atlas", keys)
    with (
        grpc_service(model_path, "--api-keys", str(keys), "--access-log") as (service, address),
        connect(address) as client,
    ):
        wrong = (), bearer("wrong"), bearer(""), (("authorization", key),), (*bearer(key), *bearer(key))
        for name in ("ServerMetadata", "RepositoryIndex", "ModelInfer"):
            assert {code(client, name, *metadata) for metadata in wrong} == {CODES.UNAUTHENTICATED}, name
        for lower in ("bearer", "Bearer"):
            assert code(client, "ServerMetadata", ("authorization", f"{lower} {key}")) is CODES.OK
        for name in ("ServerLive", "ServerReady"):
            assert code(client, name) is CODES.OK
        health = health_pb2_grpc.HealthStub(client.channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S).status == 1
        wait_until(lambda: any(line.get("client_name") == "atlas" for line in service.events("request")))
        assert {line["status"] for line in service.events("request")} == {200, 401}
        assert {line["client"] for line in service.events("request")} == {"127.0.0.1"}
        assert key not in service.log_text
        add_key("cms", keys)
        assert remove_keys("atlas", keys) == 1
        service.signal(signal.SIGHUP)
        wait_until(lambda: code(client, "ServerMetadata", *bearer(key)) is CODES.UNAUTHENTICATED)


def test_the_id_of_a_call_is_in_the_log(model_path: Path) -> None:
    """As `x-request-id` in its metadata, given once; nothing else of the metadata is."""
    with grpc_service(model_path, "--access-log") as (service, address), connect(address) as client:
        key = "x-request-id"
        for metadata in (((key, "a1"), ("other", "b")), (), ((key, "x" * 129),), ((key, "a"), (key, "b"))):
            assert code(client, "ServerMetadata", *metadata) is CODES.OK
        service.wait_for("request", 4)
        assert [line.get("request_id") for line in service.events("request")] == ["a1", None, None, None]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Make the authority that clients trust."""
    return trustme.CA()


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> CertificateFiles:
    """Write a certificate of the service, and the authority of its clients."""
    return CertificateFiles.issue(authority, tmp_path)


@pytest.fixture
def secured(model_path: Path, files: CertificateFiles) -> Iterator[tuple[LiveService, str]]:
    """Serve with TLS, to clients that have a certificate."""
    flags = [*files.flags, "--tls-client-ca", str(files.client_ca), "--access-log"]
    with grpc_service(model_path, *flags) as (service, address):
        yield service, address


def credentials(authority: trustme.CA, client: trustme.LeafCert | None = None) -> grpc.ChannelCredentials:
    """Trust the authority, and show a certificate where there is one."""
    root = authority.cert_pem.bytes()
    if client is None:
        return grpc.ssl_channel_credentials(root)
    chain = b"".join(blob.bytes() for blob in client.cert_chain_pems)
    return grpc.ssl_channel_credentials(root, client.private_key_pem.bytes(), chain)


def serial(address: str, authority: trustme.CA, client: trustme.LeafCert) -> str:
    """Shake hands anew, and return the serial number of the certificate that the service shows."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    client.configure_cert(context)
    context.set_alpn_protocols(["h2"])
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)), TIMEOUT_S)
    with context.wrap_socket(connection, server_hostname=host) as shaken:
        certificate = shaken.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def test_clients_need_a_certificate_of_the_authority(secured: tuple[LiveService, str], authority: trustme.CA) -> None:
    """Others have no connection, nor has one that does not speak TLS; the log has the name in the certificate."""
    service, address = secured
    known = authority.issue_cert("127.0.0.1", common_name="trigger")
    stranger = trustme.CA().issue_cert("127.0.0.1")
    with connect(address, credentials(authority, known)) as client:
        np.testing.assert_allclose(client.scores(EVENTS), oracle(EVENTS), rtol=1e-5)
    for other in (credentials(authority), credentials(authority, stranger), None):
        with connect(address, other) as client, pytest.raises(grpc.RpcError) as caught:
            client.call("ServerLive", timeout_s=TIMEOUT_S)
        assert caught.value.code() is CODES.UNAVAILABLE
    wait_until(lambda: [line["client_name"] for line in service.events("request")] == ["trigger"])


def test_a_new_certificate_is_shown_to_new_connections(
    secured: tuple[LiveService, str], authority: trustme.CA, files: CertificateFiles
) -> None:
    """It is taken at SIGHUP, with the new authority of clients; a connection from before goes on."""
    service, address = secured
    known = authority.issue_cert("127.0.0.1", common_name="trigger")
    first = serial(address, authority, known)
    with connect(address, credentials(authority, known)) as client:
        assert client.call("ServerLive").live
        files.renew_key_alone(authority)
        service.signal(signal.SIGHUP)
        service.wait_for("certificate refused")
        assert serial(address, authority, known) == first
        files.renew(authority)
        other = trustme.CA()
        files.client_ca.write_bytes(other.cert_pem.bytes())
        service.signal(signal.SIGHUP)
        service.wait_for("certificate loaded")
        new_client = other.issue_cert("127.0.0.1")
        assert serial(address, authority, new_client) != first
        with connect(address, credentials(authority, new_client)) as another:
            assert another.call("ServerLive").live
        with connect(address, credentials(authority, known)) as old, pytest.raises(grpc.RpcError):
            old.call("ServerLive")
        assert client.call("ServerLive").live
