"""A snapshot: one revision of the settings, with sealed copies of their files in memory."""

import fcntl
import os
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec

from service.model import artefact
from service.model.artefact import ArtefactError
from service.security.api_keys import KeysError
from service.security.tls import TlsError
from service.settings import Settings

KEYS, CERTIFICATE, MODEL = "keys", "certificate", "model"

FIELDS: Final = {
    KEYS: ("api_keys",),
    CERTIFICATE: ("tls_certificate", "tls_key", "tls_client_ca"),
    MODEL: ("model",),
}
"""The settings that name the files of each kind."""

FILE_FAULTS: Final[dict[type[Exception], str]] = {
    KeysError: "cannot use the keys",
    TlsError: "cannot use the certificate",
    ArtefactError: "cannot use the model",
}
"""Errors of files that keep a process from starting, as the log names them."""

SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class CopyError(Exception):
    """A file cannot be copied; the message names it, the fault and the remedy."""


class Snapshot(msgspec.Struct, frozen=True):
    """The configuration for all processes; a later revision replaces an earlier one."""

    revision: int
    settings: Settings
    """The settings, which name sealed copies of the files."""
    model: str
    """The model's identity."""
    file_revisions: dict[str, int]
    """The revision that last replaced the files of each kind."""
    refused: frozenset[str] = frozenset()
    """The kinds of files that were refused at their last read."""


class Applied(NamedTuple):
    """The revisions in use by a process."""

    received: int
    """The revision of the newest snapshot that it has received."""
    tried: dict[str, int]
    """By kind, the revision of the newest snapshot whose files it has loaded or failed to load."""
    loaded: dict[str, int]
    """By kind, the file revision in use, older than the snapshot's after a failure."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> Self:
        """Return the state of a process that starts with a snapshot."""
        kinds = snapshot.file_revisions
        return cls(snapshot.revision, dict.fromkeys(kinds, snapshot.revision), dict(kinds))


def add_copy(content: bytes) -> str:
    """Create a sealed copy in memory and return its path; raises CopyError.

    This process and its children can read it. It is in no directory, where others could read or remove it, and ends
    with this process.
    """
    try:
        descriptor = os.memfd_create("anomaly-snapshot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        raise CopyError(f"no copy of {len(content)} bytes in memory: {error.strerror}; raise the limits") from error
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def close_copy(path: str) -> None:
    """Free a copy of this process."""
    os.close(int(Path(path).name))


def files_of(settings: Settings) -> dict[str, dict[str, str]]:
    """Return the paths that the settings name, by kind of file and setting."""
    kinds = {
        kind: {field: path for field in fields if (path := getattr(settings, field))} for kind, fields in FIELDS.items()
    }
    return {kind: paths for kind, paths in kinds.items() if paths}


def read_file(path: str, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`; raises CopyError."""
    try:
        return artefact.read_file(path, max_bytes)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CopyError(f"cannot read {path!r}: {reason}; give the path of a file that can be read") from error
