"""A process that serves, brought to what an order says while it serves.

It does not know who gives orders, nor the paths that the files were copied from.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable

from service.metrics import Metrics
from service.model.artefact import load_artefact
from service.model.scorer import Scorer
from service.reload.watcher import KEYS, MODEL, Order, kinds_in
from service.security.api_keys import KeyRing
from service.security.tls import server_context
from service.settings import Settings

logger = logging.getLogger(__name__)


class Follower:
    """Puts files to use: the model by a callback, the keys in their ring, the certificate in `tls`."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        keys: KeyRing | None,
        use_model: Callable[[Scorer], None],
    ) -> None:
        """Begin with what the settings name; raises TlsError."""
        self.order = Order(0, settings)
        """What is in use, by the last order that was followed."""
        self.tls: ssl.SSLContext | None = server_context(settings) if settings.tls_certificate else None
        self._metrics = metrics
        self._keys = keys
        self._use_model = use_model
        self._in_use = kinds_in(settings)
        for kind in self._in_use:
            metrics.note_load(kind)

    @property
    def model(self) -> str:
        """The path of the model in use."""
        [path] = self._in_use[MODEL]
        return path

    async def follow(self, order: Order) -> None:
        """Load what the order has and this process has not; what cannot be loaded stays as it was, and is logged."""
        for kind, wanted in kinds_in(order.settings).items():
            if wanted != self._in_use[kind]:
                try:
                    await self._load(kind, order.settings)
                except Exception as error:  # whatever it is, what was in use stays
                    logger.error(f"{kind} refused", extra={"detail": str(error) or type(error).__name__})
                else:
                    self._in_use[kind] = wanted
                    self._metrics.note_load(kind)
            successful = self._in_use[kind] == wanted and kind not in order.refused
            self._metrics.note_reload(kind, successful=successful)
        self.order = order

    async def _load(self, kind: str, settings: Settings) -> None:
        if kind == MODEL:
            self._use_model(await asyncio.to_thread(_scorer, settings))
        elif kind == KEYS:
            assert self._keys is not None
            self._keys.reload(settings.api_keys)
        else:
            self.tls = await asyncio.to_thread(server_context, settings)


def _scorer(settings: Settings) -> Scorer:
    return Scorer(load_artefact(settings.model, max_bytes=settings.max_model_bytes))
