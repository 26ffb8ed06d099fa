"""What is served from now on: the files of the settings, looked at again when told to or when they change.

One process looks, off its main thread: at SIGHUP or at an interval it checks the model, the keys and the certificate,
and puts copies of those that are good into an `Order`. Those that serve follow it (`service.follower`), and who begins
to serve begins with it, whatever lies at the files' own paths by then. It does not know sockets, processes that serve,
or how a file is put to use.
"""

import logging
import math
import multiprocessing
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from service.model.artefact import Artefact, ArtefactError
from service.reload import verification as candidate
from service.reload.snapshot import Copies, CopyError
from service.security.api_keys import KeysError, read_keys
from service.security.tls import TlsError, check_certificate, server_context
from service.settings import Settings

logger = logging.getLogger(__name__)

MODEL, KEYS, CERTIFICATE = "model", "keys", "certificate"

FIELDS: Final = {
    MODEL: ("model",),
    KEYS: ("api_keys",),
    CERTIFICATE: ("tls_certificate", "tls_key", "tls_client_ca"),
}
"""The settings that name the files of each kind."""

HELD: Final = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
"""The signals that wait, blocked, wherever there is no handler of ours for them."""

CLOSE_S: Final = 2

Stamp = tuple[int, int, int] | None
"""When a file was changed, its size and its place: another one means that it has to be looked at. None: no file."""


class Order(msgspec.Struct, frozen=True):
    """What is to be served; a later one, by its number, has all that an earlier one had."""

    number: int
    settings: Settings
    """They name copies that nobody changes; but the files themselves where one process serves what it began with."""
    refused: tuple[str, ...] = ()
    """The kinds of files that were refused when they were last looked at."""


class Followed(NamedTuple):
    """What a process that serves says once it has followed an order."""

    number: int
    model: str
    """The path of the copy that it serves, which is an older one where it could not load the order's."""


class Outcome(NamedTuple):
    """What a look at the files found."""

    looked_at: tuple[str, ...]
    refused: dict[str, str]
    """Why, by the kind of file."""
    copies: dict[str, str]
    """Those of the good files, by the setting that names them; a model that is the same is not among them."""
    sha256: str = ""
    identity: str = ""
    """The model's, as the digest, if it is another and good."""


def kinds_in(settings: Settings) -> dict[str, list[str]]:
    """Name the paths of each kind of file that the settings have."""
    kinds = {kind: [path for field in FIELDS[kind] if (path := getattr(settings, field))] for kind in FIELDS}
    return {kind: paths for kind, paths in kinds.items() if paths}


def stamps(settings: Settings) -> dict[str, list[Stamp]]:
    """Read the stamps of all files, by their kind."""
    return {kind: list(map(_stamp, paths)) for kind, paths in kinds_in(settings).items()}


def check(settings: Settings, kind: str) -> None:
    """Find the keys or the certificate that the settings name good; raises KeysError and TlsError."""
    if kind == KEYS:
        _load(settings, kind)
    else:
        check_certificate(settings)


class Rollout:
    """Looks at the files, and holds the order that follows from the last look."""

    def __init__(self, settings: Settings, known: dict[str, list[Stamp]], artefact: Artefact) -> None:
        """Begin with a model in use, read when the files had the stamps `known`; `settings` name the original files."""
        self.order = Order(0, settings)
        self.news, self._sender = multiprocessing.Pipe(duplex=False)
        """`news` can be read once a look has an outcome, for `take`."""
        self._settings = settings
        self._known = known
        self._sha256 = artefact.sha256
        self._identity = self._settled_identity = artefact.identity
        self._settled = self.order
        self._refused: set[str] = set()
        self._looks = self._again = self._closed = False
        self._next_at = time.monotonic() + settings.watch_s if settings.watch_s else math.inf
        self._thread = threading.Thread()
        self._copies = Copies()
        self._kept: set[str] = set()
        """The copies that are, or were, in the order."""

    @property
    def wait_s(self) -> float:
        """The seconds until the next look of its own."""
        return max(self._next_at - time.monotonic(), 0)

    def start_from(self, model: str) -> None:
        """Have those that begin to serve begin with this copy of the model, and with copies of the other files.

        Raises KeysError, TlsError and CopyError.
        """
        copies: dict[str, str] = {}
        for kind in kinds_in(self._settings):
            if kind != MODEL:
                copies |= self._copied(kind)
        self._kept.update(copies.values())
        self.order = self._settled = Order(0, msgspec.structs.replace(self._settings, model=model, **copies))

    def look(self, *, at_changes: bool = False) -> None:
        """Look at all files, or at those that have changed, off this thread; if it does so already, once more then."""
        if self._closed:
            return
        if self._looks:
            self._again |= not at_changes
            return
        self._looks = True
        self._thread = threading.Thread(target=self._look, args=(at_changes,), daemon=True)
        # Signals are for the main thread, and none may end the process that verifies.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        self._thread.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def look_when_due(self) -> None:
        """Look at what has changed, if it is time to."""
        if time.monotonic() >= self._next_at:
            self._next_at = time.monotonic() + self._settings.watch_s
            self.look(at_changes=True)

    def take(self) -> bool:
        """Take the outcome of a look; tells whether there is another order."""
        outcome: Outcome = self.news.recv()
        self._looks = False
        for kind, detail in outcome.refused.items():
            logger.error(f"{kind} refused", extra={"detail": detail})
        self._kept.update(outcome.copies.values())
        if MODEL in outcome.copies:
            self._sha256, self._identity = outcome.sha256, outcome.identity
        elif MODEL in outcome.looked_at and MODEL not in outcome.refused:
            logger.info("model unchanged", extra={"model": self._identity})
        self._refused = self._refused.difference(outcome.looked_at).union(outcome.refused)
        if outcome.looked_at:
            settings = msgspec.structs.replace(self.order.settings, **outcome.copies)
            self.order = Order(self.order.number + 1, settings, tuple(sorted(self._refused)))
        if self._again:
            self._again = False
            self.look()
        return bool(outcome.looked_at)

    def settle(self, followed: Sequence[Followed]) -> None:
        """Hear how far all are who serve; once all have followed the order, log what is new and remove old copies."""
        order, settled = self.order, self._settled
        if order.number == settled.number or any(one.number < order.number for one in followed):
            return
        models = [one.model for one in followed]
        n_following = models.count(order.settings.model)
        before, after = kinds_in(settled.settings), kinds_in(order.settings)
        if before[MODEL] != after[MODEL] and n_following:
            extra = {"from": self._settled_identity, "to": self._identity, "workers": n_following}
            logger.info("model loaded", extra=extra)
            self._settled_identity = self._identity
        for kind in (KEYS, CERTIFICATE):
            if before.get(kind) != after.get(kind):
                logger.info(f"{kind} loaded")
        self._settled = order
        needed = {*models, *(path for paths in after.values() for path in paths)}
        self._copies.remove(self._kept - needed)
        self._kept &= needed

    def close(self) -> None:
        """Look no more, and remove the copies."""
        self._closed = True
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)
        self._copies.close()

    def _look(self, at_changes: bool) -> None:
        try:
            outcome = self._outcome(at_changes)
        except Exception:  # a look without an outcome would be the last one
            logger.exception("cannot look at the files")
            outcome = Outcome((), {}, {})
        self._sender.send(outcome)

    def _outcome(self, at_changes: bool) -> Outcome:
        # The stamps come first: what changes while a file is read is looked at again.
        found = stamps(self._settings)
        looked_at = tuple(kind for kind in found if not at_changes or found[kind] != self._known[kind])
        self._known = found
        refused: dict[str, str] = {}
        copies: dict[str, str] = {}
        sha256 = identity = ""
        for kind in looked_at:
            try:
                if kind != MODEL:
                    check(self._settings, kind)
                    copies |= self._copied(kind)
                elif model := self._candidate():
                    copies["model"], sha256, identity = model
            except (ArtefactError, KeysError, TlsError, CopyError) as error:
                refused[kind] = str(error)
        return Outcome(looked_at, refused, copies, sha256, identity)

    def _copied(self, kind: str) -> dict[str, str]:
        """Copy the files of this kind, that were found good, and give the paths of the copies by their settings."""
        paths = {field: path for field in FIELDS[kind] if (path := getattr(self._settings, field))}
        copies: dict[str, str] = {}
        try:
            for field, path in paths.items():
                copies[field] = str(self._copies.make(path, field))
            _load(msgspec.structs.replace(self._settings, **copies), kind)
        except (KeysError, TlsError, CopyError) as error:
            self._copies.remove(copies.values())
            if isinstance(error, CopyError):
                raise
            changed = f"{' or '.join(paths.values())} changed while it was looked at: send SIGHUP when it is whole"
            raise type(error)(changed) from error
        return copies

    def _candidate(self) -> tuple[str, str, str] | None:
        """Give the path of a verified copy of the model's file, its digest and its identity, or None if it is the same.

        Raises ArtefactError and CopyError.
        """
        path = self._settings.model
        copied = self._copies.place(MODEL)
        sha256 = candidate.copy(path, copied, self._settings.max_model_bytes)
        try:
            if sha256 == self._sha256:
                copied.unlink()
                return None
            if self._settings.model_sha256 not in {None, sha256}:
                expected = self._settings.model_sha256
                raise ArtefactError(f"SHA-256 is {sha256}, expected {expected}, as --model-sha256 says")
            return str(copied), sha256, candidate.verify(copied)
        except ArtefactError as error:
            copied.unlink(missing_ok=True)
            raise ArtefactError(f"{path!r} is not a usable artefact: {error}") from error


def _load(settings: Settings, kind: str) -> None:
    if kind == KEYS:
        read_keys(Path(settings.api_keys or ""))
    else:
        server_context(settings)


def _stamp(path: str) -> Stamp:
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
