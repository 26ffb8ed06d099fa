"""A process that serves, brought to what an order says while it serves.

It does not know who gives orders, nor what is on the files' original paths but the keys and the certificate.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable

from service.artefact import load_artefact
from service.keys import KeyRing
from service.metrics import Metrics
from service.rollout import CERTIFICATE, KEYS, MODEL, Order, kinds_in
from service.scorer import Scorer
from service.settings import Settings
from service.tls import server_context

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
        self.order = Order(0, settings.model)
        """What is in use, by the last order that was followed."""
        self.tls: ssl.SSLContext | None = server_context(settings) if settings.tls_certificate else None
        self._settings = settings
        self._metrics = metrics
        self._keys = keys
        self._use_model = use_model
        self._in_use = {MODEL: self.order.model, KEYS: 0, CERTIFICATE: 0}
        for kind in kinds_in(settings):
            metrics.note_load(kind)

    @property
    def model(self) -> str:
        """The path of the model in use."""
        return str(self._in_use[MODEL])

    async def follow(self, order: Order) -> None:
        """Load what the order has and this process has not; what cannot be loaded stays as it was, and is logged."""
        for kind in kinds_in(self._settings):
            wanted = getattr(order, kind)
            if wanted != self._in_use[kind]:
                try:
                    await self._load(kind, order)
                except Exception as error:  # whatever it is, what was in use stays
                    logger.error(f"{kind} refused", extra={"detail": str(error) or type(error).__name__})
                else:
                    self._in_use[kind] = wanted
                    self._metrics.note_load(kind)
            successful = self._in_use[kind] == wanted and kind not in order.refused
            self._metrics.note_reload(kind, successful=successful)
        self.order = order

    async def _load(self, kind: str, order: Order) -> None:
        if kind == MODEL:
            self._use_model(await asyncio.to_thread(_scorer, order.model, self._settings.max_model_bytes))
        elif kind == KEYS and self._keys is not None:
            self._keys.reload()
        elif kind == CERTIFICATE:
            self.tls = await asyncio.to_thread(server_context, self._settings)


def _scorer(path: str, max_bytes: int) -> Scorer:
    return Scorer(load_artefact(path, max_bytes=max_bytes))
