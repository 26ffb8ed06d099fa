"""A process that serves, brought to the newest snapshot while it serves."""

import asyncio
import logging
import ssl
from collections.abc import Callable

from service.metrics import Metrics
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from service.reload.snapshot import KEYS, MODEL, Applied, Snapshot
from service.security.api_keys import KeyRing
from service.security.tls import server_context
from service.settings import Settings

logger = logging.getLogger(__name__)


class Applier:
    """Loads what is new in a snapshot: the model by a callback, the keys into their ring, the certificate as `tls`."""

    def __init__(
        self,
        snapshot: Snapshot,
        metrics: Metrics,
        keys: KeyRing | None,
        use_model: Callable[[Scorer], None],
        on_applied: Callable[[Applied], None],
    ) -> None:
        """Begin with the snapshot that the process was started with; raises TlsError."""
        self.tls = _tls(snapshot.settings)
        self._metrics = metrics
        self._keys = keys
        self._use_model = use_model
        self._on_applied = on_applied
        self._newest = snapshot
        self._revision = snapshot.revision
        self._file_revisions = dict(snapshot.file_revisions)
        self._task: asyncio.Task[None] | None = None
        for kind in snapshot.file_revisions:
            metrics.note_load(kind)
            metrics.note_reload(kind, successful=kind not in snapshot.refused)

    @property
    def applied(self) -> Applied:
        """What this process serves."""
        return Applied(self._revision, self._file_revisions[MODEL])

    def submit(self, snapshot: Snapshot) -> None:
        """Apply the snapshot in a task, after the one that is being applied."""
        self._newest = snapshot
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._apply_newest())

    async def _apply_newest(self) -> None:
        while self._revision < self._newest.revision:
            await self._apply(self._newest)
        self._on_applied(self.applied)

    async def _apply(self, snapshot: Snapshot) -> None:
        """Load the files that this process has not; what cannot be loaded stays as it was, and is logged."""
        for kind, revision in snapshot.file_revisions.items():
            if revision != self._file_revisions[kind]:
                try:
                    await self._load(kind, snapshot.settings)
                except Exception as error:  # whatever it is, what was in use stays
                    logger.error(f"{kind} refused", extra={"detail": str(error) or type(error).__name__})
                else:
                    self._file_revisions[kind] = revision
                    self._metrics.note_load(kind)
            successful = self._file_revisions[kind] == revision and kind not in snapshot.refused
            self._metrics.note_reload(kind, successful=successful)
        self._revision = snapshot.revision

    async def _load(self, kind: str, settings: Settings) -> None:
        if kind == MODEL:
            self._use_model(await asyncio.to_thread(_scorer, settings))
        elif kind == KEYS:
            assert self._keys is not None
            self._keys.reload(settings.api_keys)
        else:
            self.tls = await asyncio.to_thread(_tls, settings)


def _scorer(settings: Settings) -> Scorer:
    return Scorer(load_artefact(settings.model, max_bytes=settings.max_model_bytes))


def _tls(settings: Settings) -> ssl.SSLContext | None:
    return server_context(settings) if settings.tls_certificate else None
