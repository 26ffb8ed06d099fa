"""Keys, certificates and Unix domain sockets: a client reaches every service that there can be."""

import shutil
from pathlib import Path

import pytest
import trustme

from service.client import Client, Options, RefusedError, TlsError, UnavailableError
from service.security.api_keys import add_key
from tests.live import live_service
from tests.service.client.events import EVENTS, IN_PARTS, check
from tests.service.security.certificates import CertificateFiles

pytestmark = [pytest.mark.process, pytest.mark.slow]


def test_an_api_key_over_a_unix_domain_socket(model_path: Path, tmp_path: Path) -> None:
    """The key is sent, over a socket too; another one, or none, is refused at once."""
    key = add_key("farm", tmp_path / "keys.txt")
    flags = ("--uds", str(tmp_path / "socket"), "--api-keys", str(tmp_path / "keys.txt"))
    with live_service(model_path, *flags) as service:
        assert service.base_url == f"unix:{tmp_path}/socket"
        with Client(service.base_url, options=Options(request_events=IN_PARTS.request_events, api_key=key)) as client:
            check(client.score(EVENTS), model_path)
        assert key not in repr(Options(api_key=key))
        refused = pytest.raises(RefusedError, match=r"401: .*give an API key that the server knows")
        for wrong in (None, "other"):
            with Client(service.base_url, options=Options(api_key=wrong)) as client, refused:
                client.score(EVENTS)


def test_certificates(model_path: Path, tmp_path: Path) -> None:
    """Server and client prove who they are; a missing or foreign certificate is named with what to check."""
    authority = trustme.CA()
    files = CertificateFiles.issue(authority, tmp_path)
    ca, own, own_key = tmp_path / "ca.pem", tmp_path / "own.pem", tmp_path / "own_key.pem"
    shutil.copy(files.client_ca, ca)
    leaf = authority.issue_cert("client")
    own.write_bytes(leaf.cert_chain_pems[0].bytes())
    own_key.write_bytes(leaf.private_key_pem.bytes())
    with live_service(model_path, *files.flags, "--tls-client-ca", str(files.client_ca)) as service:
        with Client(service.base_url, options=Options(ca=ca, certificate=own, key=own_key)) as client:
            check(client.score(EVENTS), model_path)
        with (
            Client(service.base_url) as client,
            pytest.raises(TlsError, match=r"certificate verify failed.*; check .*ca"),
        ):
            client.score(EVENTS)
        # The connection may end before the reason is read.
        asked = pytest.raises((TlsError, UnavailableError), match="certificate")
        with Client(service.base_url, options=Options(ca=ca, retries=1)) as client, asked:
            client.score(EVENTS)
        plain = service.base_url.replace("https:", "http:")
        with Client(plain) as client, pytest.raises(RefusedError, match="400: "):
            client.score(EVENTS)
    with pytest.raises(TlsError, match=r"absent\.pem: No such file"):
        Client("https://a", options=Options(ca=tmp_path / "absent.pem"))
