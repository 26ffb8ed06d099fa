"""The files of the settings, read again at SIGHUP or when they change, and the snapshot that follows."""

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
from service.reload.snapshot import KEYS, MODEL, Applied, CopyError, SealedFiles, Snapshot, files_of, read_file
from service.reload.verification import verify
from service.security.api_keys import KeysError, read_keys
from service.security.tls import TlsError, server_context
from service.settings import Settings

logger = logging.getLogger(__name__)

HANDLED_SIGNALS: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""The signals that stay blocked wherever the service has no handler for them."""

MAX_SMALL_FILE_BYTES: Final = 16 * 2**20
"""The largest file of keys or certificates."""

FileState = tuple[int, int, int] | None
"""Time of change, size and inode of a file, or None without a file: another state means that it changed."""


class Watcher:
    """Reads changed files in a thread of its own, and holds the newest snapshot."""

    def __init__(self, settings: Settings, states: dict[str, list[FileState]], artefact: Artefact) -> None:
        """Begin with checked files: `settings` name the originals, which were read after they had these `states`.

        Raises KeysError, TlsError and CopyError.
        """
        self.news, self._sender = multiprocessing.Pipe(duplex=False)
        """`news` is readable once there is something for `receive`."""
        self._settings = settings
        self._states = states
        self._model_sha256 = artefact.sha256
        self._files = SealedFiles()
        copies = {"model": self._files.add(artefact.graph, 0)}
        for kind in states.keys() - {MODEL}:
            copies |= self._copy(kind, 0)
        in_use = msgspec.structs.replace(settings, **copies)
        self.snapshot = Snapshot(0, in_use, artefact.identity, dict.fromkeys(states, 0))
        self._confirmed = self.snapshot
        self._logged_model = (artefact.identity, 0)
        self._reading = self._read_again = False
        self._next_at = time.monotonic() + settings.watch_s if settings.watch_s else math.inf

    @property
    def wait_s(self) -> float:
        """The seconds until changed files are due to be read."""
        return max(self._next_at - time.monotonic(), 0)

    def read(self, *, changed_only: bool = False) -> None:
        """Read all files, or the changed ones, in a thread; where it is reading already, read all again afterwards."""
        if self._reading:
            self._read_again |= not changed_only
            return
        self._reading = True
        thread = threading.Thread(target=self._read, args=(changed_only,), daemon=True)
        # Signals are for the main thread, and none may end the child that verifies.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
        try:
            thread.start()
        except RuntimeError:  # the machine has no more threads
            self._reading = False
            logger.exception("cannot read the files")
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def read_when_due(self) -> None:
        """Read the changed files once the polling interval has passed."""
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + self._settings.watch_s
            self.read(changed_only=True)

    def receive(self) -> None:
        """Take a snapshot from the thread, or that it has ended."""
        snapshot: Snapshot | None = self.news.recv()
        if snapshot is not None:
            self.snapshot = snapshot
            return
        self._reading = False
        if self._read_again:
            self._read_again = False
            self.read()

    def confirm(self, applied: Sequence[Applied]) -> None:
        """Once all processes have applied the newest snapshot, log what was loaded and close replaced copies."""
        snapshot, before = self.snapshot, self._confirmed
        if snapshot is before or any(one.revision < snapshot.revision for one in applied):
            return
        self._confirmed = snapshot
        for kind, revision in snapshot.file_revisions.items():
            if kind != MODEL and revision != before.file_revisions[kind]:
                logger.info(f"{kind} loaded")
        logged, logged_revision = self._logged_model
        model_revision = snapshot.file_revisions[MODEL]
        n_loaded = sum(one.model == model_revision for one in applied)
        if model_revision != logged_revision and n_loaded:
            logger.info("model loaded", extra={"from": logged, "to": snapshot.model, "workers": n_loaded})
            self._logged_model = (snapshot.model, model_revision)
        self._files.close_replaced(snapshot)

    def _read(self, changed_only: bool) -> None:
        snapshot = self.snapshot
        try:
            # The states come first: a file that changes while it is read is read again.
            for kind, states in file_states(self._settings).items():
                if not changed_only or states != self._states[kind]:
                    snapshot = self._next(snapshot, kind)
                    self._sender.send(snapshot)
                self._states[kind] = states
        except Exception:  # without an end, no file would ever be read again
            logger.exception("cannot read the files")
        self._sender.send(None)

    def _next(self, snapshot: Snapshot, kind: str) -> Snapshot:
        """Read the files of one kind, and give the snapshot with them, or with them refused."""
        revision = snapshot.revision + 1
        settings, model, replaced = snapshot.settings, snapshot.model, snapshot.file_revisions
        try:
            if kind != MODEL:
                settings = msgspec.structs.replace(settings, **self._copy(kind, revision))
            elif new := self._copy_model(revision):
                copy, model = new
                settings = msgspec.structs.replace(settings, model=copy)
            else:
                logger.info("model unchanged", extra={"model": model})
        except (ArtefactError, KeysError, TlsError, CopyError) as error:
            logger.error(f"{kind} refused", extra={"detail": str(error)})
            return msgspec.structs.replace(snapshot, revision=revision, refused=snapshot.refused | {kind})
        if settings is not snapshot.settings:
            replaced = {**replaced, kind: revision}
        return Snapshot(revision, settings, model, replaced, snapshot.refused - {kind})

    def _copy(self, kind: str, revision: int) -> dict[str, str]:
        """Check and copy the keys or the certificate, and give the paths of the copies by setting."""
        check(self._settings, kind)
        originals = files_of(self._settings)[kind]
        copies = {
            field: self._files.add(read_file(path, MAX_SMALL_FILE_BYTES), revision) for field, path in originals.items()
        }
        try:
            check(msgspec.structs.replace(self._settings, **copies), kind)
        except (KeysError, TlsError) as error:
            changed = f"{' or '.join(originals.values())} changed while it was read: send SIGHUP when it is complete"
            raise type(error)(changed) from error
        return copies

    def _copy_model(self, revision: int) -> tuple[str, str] | None:
        """Give the path of a verified copy of the model and its identity, or None for the model in use.

        Raises ArtefactError and CopyError.
        """
        path, pinned = self._settings.model, self._settings.model_sha256
        content = read_file(path, self._settings.max_model_bytes)
        digest = sha256(content).hexdigest()
        if digest == self._model_sha256:
            return None
        try:
            if pinned not in {None, digest}:
                raise ArtefactError(f"SHA-256 is {digest}, expected {pinned}, as --model-sha256 says")
            copy = self._files.add(content, revision)
            identity = verify(copy)
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
