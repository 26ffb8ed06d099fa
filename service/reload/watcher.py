"""The watcher: reads the files of the settings at SIGHUP or when they change, and makes the next snapshot."""

import logging
import math
import multiprocessing
import signal
import threading
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from service.model.artefact import Artefact, ArtefactError
from service.reload.snapshot import KEYS, MODEL, Applied, CopyError, Snapshot, add_copy, close_copy, files_of, read_file
from service.reload.verification import verify
from service.security.api_keys import KeysError, read_keys
from service.security.tls import TlsError, server_context
from service.settings import Settings

logger = logging.getLogger(__name__)

HANDLED_SIGNALS: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""The signals that stay blocked while the service has no handler for them."""

MAX_SMALL_FILE_BYTES: Final = 16 * 2**20
"""Maximum size of a file of keys or certificates."""

FileState = tuple[int, int, int] | None
"""Modification time, size and inode of a file, None without a file; a different state means a change."""


class Reading(msgspec.Struct, frozen=True):
    """The result of reading the files of one kind."""

    kind: str
    changed: bool = False
    """Whether there is something to apply: new copies, a refusal, or a retry."""
    refused: bool = False
    copies: dict[str, str] = {}
    """The paths of new copies, by setting."""
    model: str = ""
    """The identity of a new model."""


class Watcher:
    """Reads changed files, in a thread per kind so that keys do not wait for a model, and keeps the newest snapshot."""

    def __init__(self, settings: Settings, states: dict[str, list[FileState]], artefact: Artefact) -> None:
        """Start from checked files: `settings` name the originals, which had these `states` before they were read.

        Raises KeysError, TlsError and CopyError.
        """
        self.news, self._sender = multiprocessing.Pipe(duplex=False)
        """Readable once there are results for `receive`."""
        self._sending = threading.Lock()
        self._settings = settings
        self._states = states
        self._model_sha256 = artefact.sha256
        copies = {"model": add_copy(artefact.graph)}
        for kind in states.keys() - {MODEL}:
            copies |= self._copy(kind)
        in_use = msgspec.structs.replace(settings, **copies)
        self.snapshot = Snapshot(0, in_use, artefact.identity, dict.fromkeys(states, 0))
        self._confirmed = self.snapshot
        self._logged, self._logged_model = dict.fromkeys(states, 0), artefact.identity
        self._replaced: list[str] = []
        """Copies that processes may not have loaded yet."""
        self._reading: set[str] = set()
        self._read_again: set[str] = set()
        self._next_at = time.monotonic() + settings.watch_s if settings.watch_s else math.inf

    @property
    def wait_s(self) -> float:
        """Seconds until changed files are due to be read."""
        return max(self._next_at - time.monotonic(), 0)

    def read(self, *, changed_only: bool = False) -> None:
        """Read all files, or the changed ones, in threads; files that are being read are read again afterwards."""
        for kind in self._states:
            if kind not in self._reading:
                self._start_reading(kind, changed_only)
            elif not changed_only:
                self._read_again.add(kind)

    def read_when_due(self) -> None:
        """Read the changed files once the polling interval has passed."""
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + self._settings.watch_s
            self.read(changed_only=True)

    def receive(self) -> None:
        """Add the result of reading the files of one kind to a new snapshot."""
        reading: Reading = self.news.recv()
        kind, before = reading.kind, self.snapshot
        self._reading.discard(kind)
        if reading.changed:
            revision = before.revision + 1
            self._replaced += [getattr(before.settings, field) for field in reading.copies]
            self.snapshot = Snapshot(
                revision,
                msgspec.structs.replace(before.settings, **reading.copies),
                reading.model or before.model,
                {**before.file_revisions, kind: revision} if reading.copies else before.file_revisions,
                before.refused | {kind} if reading.refused else before.refused - {kind},
            )
        if kind in self._read_again:
            self._read_again.discard(kind)
            self._start_reading(kind, changed_only=False)

    def confirm(self, applied: Sequence[Applied]) -> None:
        """Log what all processes have loaded, and close replaced copies once they have applied the newest snapshot."""
        snapshot = self.snapshot
        if snapshot is self._confirmed:
            return
        for kind, revision in snapshot.file_revisions.items():
            n_loaded = sum(one.loaded[kind] == revision for one in applied)
            if revision != self._logged[kind] and n_loaded and all(one.tried[kind] >= revision for one in applied):
                self._logged[kind] = revision
                self._log_loaded(kind, n_loaded)
        if all(min(one.tried.values()) >= snapshot.revision for one in applied):
            self._confirmed = snapshot
            while self._replaced:
                close_copy(self._replaced.pop())

    def _log_loaded(self, kind: str, n_loaded: int) -> None:
        if kind != MODEL:
            logger.info(f"{kind} loaded")
            return
        logger.info("model loaded", extra={"from": self._logged_model, "to": self.snapshot.model, "workers": n_loaded})
        self._logged_model = self.snapshot.model

    def _start_reading(self, kind: str, changed_only: bool) -> None:
        self._reading.add(kind)
        thread = threading.Thread(target=self._read, args=(kind, changed_only), daemon=True)
        # Only the main thread handles signals, and none may end the verifying child.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        try:
            thread.start()
        except RuntimeError:  # no thread could be started
            self._reading.discard(kind)
            logger.exception("cannot read the files")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _read(self, kind: str, changed_only: bool) -> None:
        reading = Reading(kind)
        try:
            # The states come first: a file that changes while it is read is read again.
            states = file_states(self._settings)[kind]
            if not changed_only or states != self._states[kind]:
                reading = self._read_kind(kind)
            self._states[kind] = states
        except Exception:  # without a result, no file would ever be read again
            logger.exception("cannot read the files")
        with self._sending:
            self._sender.send(reading)

    def _read_kind(self, kind: str) -> Reading:
        """Read the files of one kind, and log the reason if they are refused."""
        try:
            if kind != MODEL:
                copies = self._copy(kind)
                if kind == KEYS and not read_keys(Path(copies["api_keys"])):
                    logger.warning("no key is left", extra={"detail": "every request but /health gets 401"})
                return Reading(kind, changed=True, copies=copies)
            if new := self._copy_model():
                copy, identity = new
                return Reading(kind, changed=True, copies={"model": copy}, model=identity)
        except (ArtefactError, KeysError, TlsError, CopyError) as error:
            logger.error(f"{kind} refused", extra={"detail": str(error)})
            return Reading(kind, changed=True, refused=True)
        logger.info("model unchanged", extra={"model": self.snapshot.model})
        return Reading(kind, changed=True)

    def _copy(self, kind: str) -> dict[str, str]:
        """Check and copy the keys or the certificate, and give the paths of the copies by setting."""
        check(self._settings, kind)
        originals = files_of(self._settings)[kind]
        contents = {field: read_file(path, MAX_SMALL_FILE_BYTES) for field, path in originals.items()}
        copies: dict[str, str] = {}
        try:
            for field, content in contents.items():
                copies[field] = add_copy(content)
            check(msgspec.structs.replace(self._settings, **copies), kind)
        except (KeysError, TlsError, CopyError) as error:
            for copy in copies.values():
                close_copy(copy)
            if isinstance(error, CopyError):
                raise
            changed = f"{' or '.join(originals.values())} changed while it was read: send SIGHUP when it is complete"
            raise type(error)(changed) from error
        return copies

    def _copy_model(self) -> tuple[str, str] | None:
        """Return the path of a verified copy of the model and its identity, or None for the model in use.

        Raises ArtefactError and CopyError.
        """
        path, pinned = self._settings.model, self._settings.model_sha256
        content = read_file(path, self._settings.max_model_bytes)
        digest = sha256(content).hexdigest()
        if digest == self._model_sha256:
            return None
        in_use = None if self._settings.reload_any_model else self.snapshot.settings.model
        try:
            if pinned not in {None, digest}:
                raise ArtefactError(f"SHA-256 is {digest}, expected {pinned}, as --model-sha256 says")
            copy = add_copy(content)
            try:
                identity = verify(copy, in_use)
            except ArtefactError:
                close_copy(copy)
                raise
        except ArtefactError as error:
            raise ArtefactError(f"{path!r} is not a usable artefact: {error}") from error
        self._model_sha256 = digest
        return copy, identity


def file_states(settings: Settings) -> dict[str, list[FileState]]:
    """Read the states of all files that the settings name, by kind."""
    return {kind: list(map(_state, paths.values())) for kind, paths in files_of(settings).items()}


def check(settings: Settings, kind: str) -> None:
    """Check the keys or the certificate that the settings name; raises KeysError and TlsError."""
    if kind == KEYS:
        read_keys(Path(settings.api_keys or ""))
    else:
        server_context(settings)


def _state(path: str) -> FileState:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
