"""Application of the newest snapshot to a running process."""

import asyncio
import logging
import ssl
from collections.abc import Callable

from service.metrics.counters import Metrics
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from service.reload.snapshot import KEYS, MODEL, Applied, Snapshot
from service.security.api_keys import KeyRing
from service.security.tls import Pem, server_context
from service.settings import Settings

logger = logging.getLogger(__name__)


class Applier:
    """Loads the changed files of a snapshot: the model by a callback, the keys into their ring, TLS files as `tls`.

    `pem` is the same certificate for gRPC.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        metrics: Metrics,
        keys: KeyRing | None,
        use_model: Callable[[Scorer], None],
        on_applied: Callable[[Applied], None],
    ) -> None:
        """Start from the snapshot that the process was started with; raises TlsError."""
        self.tls, self.pem = _tls(snapshot.settings)
        self._metrics = metrics
        self._keys = keys
        self._use_model = use_model
        self._on_applied = on_applied
        self._newest = snapshot
        _, self._tried, self._loaded = Applied.of(snapshot)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        for kind in snapshot.file_revisions:
            metrics.note_load(kind)
            metrics.note_reload(kind, successful=kind not in snapshot.refused)

    @property
    def applied(self) -> Applied:
        """The revisions in use by this process."""
        return Applied(self._newest.revision, dict(self._tried), dict(self._loaded))

    def submit(self, snapshot: Snapshot) -> None:
        """Apply the snapshot in a task per kind of file, so that keys do not wait for a model."""
        self._newest = snapshot
        for kind in snapshot.file_revisions:
            if kind not in self._tasks or self._tasks[kind].done():
                self._tasks[kind] = asyncio.get_running_loop().create_task(self._apply(kind))
        self._on_applied(self.applied)

    async def _apply(self, kind: str) -> None:
        """Load the files of the newest snapshot; on a failure, log it and keep the files in use."""
        while self._tried[kind] < self._newest.revision:
            snapshot = self._newest
            revision = snapshot.file_revisions[kind]
            if revision != self._loaded[kind]:
                try:
                    await self._load(kind, snapshot.settings)
                except Exception as error:  # any failure leaves the files in use
                    logger.error(f"{kind} refused", extra={"detail": str(error) or type(error).__name__})
                else:
                    self._loaded[kind] = revision
                    self._metrics.note_load(kind)
            successful = self._loaded[kind] == revision and kind not in snapshot.refused
            self._metrics.note_reload(kind, successful=successful)
            self._tried[kind] = snapshot.revision
        self._on_applied(self.applied)

    async def _load(self, kind: str, settings: Settings) -> None:
        if kind == MODEL:
            self._use_model(await asyncio.to_thread(_scorer, settings))
        elif kind == KEYS:
            assert self._keys is not None
            assert settings.api_keys is not None
            self._keys.reload(settings.api_keys)
        else:
            self.tls, self.pem = await asyncio.to_thread(_tls, settings)


def _scorer(settings: Settings) -> Scorer:
    return Scorer(load_artefact(settings.model, max_bytes=settings.max_model_bytes))


def _tls(settings: Settings) -> tuple[ssl.SSLContext | None, Pem | None]:
    return (server_context(settings), Pem.read(settings)) if settings.tls_certificate else (None, None)
