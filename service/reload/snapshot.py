"""One revision of what is served: settings whose files are sealed copies in memory."""

import fcntl
import os
from typing import Final, NamedTuple

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
"""The settings that name the files of each kind; the model is last, for its verification takes longest."""

FILE_FAULTS: Final[dict[type[Exception], str]] = {
    KeysError: "cannot use the keys",
    TlsError: "cannot use the certificate",
    ArtefactError: "cannot use the model",
}
"""Errors of files that keep a process from starting, as the log names them."""

SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class CopyError(Exception):
    """A file cannot be copied: the message names it, the fault and the remedy."""


class Snapshot(msgspec.Struct, frozen=True):
    """What every process is to serve; a later revision replaces an earlier one."""

    revision: int
    settings: Settings
    """They name sealed copies of the files."""
    model: str
    """The model's identity."""
    file_revisions: dict[str, int]
    """The revision that last replaced the files of each kind."""
    refused: frozenset[str] = frozenset()
    """The kinds of files that were refused when they were last read."""


class Applied(NamedTuple):
    """What a process serves: the revision that it has applied, and the file revision of its model.

    The model is older than the snapshot's where the process could not load that.
    """

    revision: int
    model: int


class SealedFiles:
    """Copies of files in memory that nothing can change; this process and its children read them by path.

    They lie in no directory, where others could read or remove them, and end with this process.
    """

    def __init__(self) -> None:
        self._open: dict[str, tuple[int, int]] = {}
        """Descriptor and revision of each path."""

    def add(self, content: bytes, revision: int) -> str:
        """Give the path of a new copy; raises CopyError."""
        try:
            descriptor = os.memfd_create("anomaly-snapshot", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            path = f"/proc/{os.getpid()}/fd/{descriptor}"
            self._open[path] = (descriptor, revision)
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        except OSError as error:
            raise CopyError(f"no copy of {len(content)} bytes in memory: {error.strerror}; raise the limits") from error
        return path

    def close_replaced(self, snapshot: Snapshot) -> None:
        """Close the copies that this snapshot and later ones have no use for."""
        used = {path for paths in files_of(snapshot.settings).values() for path in paths.values()}
        for path, (descriptor, revision) in list(self._open.items()):
            if path not in used and revision <= snapshot.revision:
                del self._open[path]  # first: another thread may get the descriptor, and so the path, at once
                os.close(descriptor)


def files_of(settings: Settings) -> dict[str, dict[str, str]]:
    """Give the paths that the settings name, by kind of file and setting."""
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
