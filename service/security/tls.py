"""TLS of the service: a context from a certificate, its key and the authorities of clients."""

import ssl
from pathlib import Path
from typing import Any, NamedTuple, Self

from service.settings import Settings


class TlsError(Exception):
    """The TLS files cannot be used; the message names the file, the fault and the remedy."""


class Pem(NamedTuple):
    """The contents of the TLS files, for a server with its own OpenSSL."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None

    @classmethod
    def read(cls, settings: Settings) -> Self:
        """Read the files that `settings` name; raises TlsError for one that cannot be read."""
        assert settings.tls_certificate is not None
        assert settings.tls_key is not None
        paths = (settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
        try:
            certificate, key, client_ca = (None if path is None else Path(path).read_bytes() for path in paths)
        except OSError as error:
            raise TlsError(f"{error.filename}: {error.strerror}; give the PEM files of TLS") from error
        assert certificate is not None
        assert key is not None
        return cls(certificate, key, client_ca)


def server_context(settings: Settings) -> ssl.SSLContext:
    """Read the certificate and its key, which `settings` must name, and the authorities of clients if it names them.

    Raises TlsError.
    """
    assert settings.tls_certificate is not None
    assert settings.tls_key is not None
    certificate, key = Path(settings.tls_certificate), Path(settings.tls_key)
    _check_pem(certificate, "CERTIFICATE", "the certificate chain")
    _check_pem(key, "PRIVATE KEY", "the private key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password="")  # else OpenSSL could ask for one at the terminal
    except OSError as error:  # as ssl.SSLError is one
        if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
            raise TlsError(f"{key} is not the key of {certificate}: give the two that were made together") from error
        raise TlsError(f"{key} with {certificate}: OpenSSL says {_reason(error)}; make them again") from error
    if settings.tls_client_ca is not None:
        _require_clients_of(context, Path(settings.tls_client_ca))
    return context


def subject(peer_certificate: dict[str, Any] | None) -> str | None:
    """Find the common name in a client's certificate, in the form of Python's ssl."""
    parts = (part for parts in (peer_certificate or {}).get("subject", ()) for part in parts)
    return next((value for name, value in parts if name == "commonName"), None)


def _check_pem(path: Path, label: str, meaning: str) -> None:
    """Require a PEM file of that kind, since OpenSSL's errors do not name the file."""
    try:
        if path.is_fifo():  # reading a pipe would wait for its writer
            raise TlsError(f"{path} is not a regular file; give the PEM file of {meaning}")
        content = path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror}; give the PEM file of {meaning}") from error
    if b"-----BEGIN ENCRYPTED" in content or b"Proc-Type: 4,ENCRYPTED" in content:
        raise TlsError(f"{path} is encrypted: decrypt it with openssl pkey, for a service asks for no password")
    if f"{label}-----".encode() not in content or b"-----BEGIN " not in content:
        raise TlsError(f"{path} has no PEM block of a {label}: give the PEM file of {meaning}")


def _require_clients_of(context: ssl.SSLContext, authorities: Path) -> None:
    _check_pem(authorities, "CERTIFICATE", "the clients' authorities")
    try:
        context.load_verify_locations(authorities)
    except OSError as error:
        raise TlsError(f"{authorities} is not a certificate: OpenSSL says {_reason(error)}; make it again") from error
    if not context.cert_store_stats()["x509_ca"]:
        raise TlsError(f"{authorities} has no CA certificate, only others: give the CA that signed the clients'")
    context.verify_mode = ssl.CERT_REQUIRED


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error).replace("_", " ").lower()
