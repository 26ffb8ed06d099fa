"""Certificates for tests: the files that a service is given, and clients that trust the authority that issued them."""

import ssl
from pathlib import Path
from typing import NamedTuple

import trustme

HOST = "127.0.0.1"


class CertificateFiles(NamedTuple):
    """The PEM files of a service with HTTPS."""

    certificate: Path
    key: Path
    client_ca: Path

    @classmethod
    def issue(cls, authority: trustme.CA, folder: Path) -> "CertificateFiles":
        """Write a certificate of the service, its key, and the authority as that of its clients."""
        files = cls(folder / "chain.pem", folder / "key.pem", folder / "clients.pem")
        files.renew(authority)
        return files

    def renew(self, authority: trustme.CA) -> None:
        """Write a new certificate and its key, aside and renamed, as an authority's tool does."""
        issued = authority.issue_cert(HOST, "localhost")
        contents = {
            self.certificate: b"".join(blob.bytes() for blob in issued.cert_chain_pems),
            self.key: issued.private_key_pem.bytes(),
            self.client_ca: authority.cert_pem.bytes(),
        }
        for path, content in contents.items():
            aside = path.with_suffix(".new")
            aside.write_bytes(content)
            aside.rename(path)

    def renew_key_alone(self, authority: trustme.CA) -> None:
        """Write the key of another certificate, as half of a renewal does."""
        self.key.write_bytes(authority.issue_cert(HOST).private_key_pem.bytes())

    @property
    def flags(self) -> tuple[str, ...]:
        """Name the certificate and its key on the command line."""
        return ("--tls-certificate", str(self.certificate), "--tls-key", str(self.key))


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
