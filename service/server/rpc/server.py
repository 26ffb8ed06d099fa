"""The gRPC server: its limits, TLS, start and stop."""

import asyncio
import logging
from asyncio import get_running_loop
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import grpc
from grpc import aio

from service.api.app import Application
from service.api.open_inference.grpc_calls import MAX_TENSOR_BYTES
from service.security.tls import Pem
from service.server.listener import CannotListenError
from service.server.rpc.backlog import Backlog, calls_received
from service.server.rpc.handlers import Handlers
from service.server.rpc.receiving import CHECK_S, Receiving
from service.settings import Settings

logger = logging.getLogger(__name__)

ENVELOPE_BYTES: Final = 2**16
"""Maximum bytes of a message besides its tensor."""

QUIET_S: Final = 0.2
REFUSING_S: Final = 1.0
"""Seconds without a call before the server stops, and the maximum wait for them."""

COUNT_S: Final = 1.0
"""Interval in seconds at which waiting calls are counted."""


class GrpcServer:
    """Serves calls on its own port, in the event loop of this process."""

    def __init__(
        self, application: Application, settings: Settings, address: str, pem: Callable[[], Pem | None]
    ) -> None:
        """Listen on `address`, `host:port`, with the current TLS files; raises CannotListenError."""
        max_tensor_bytes = min(settings.max_body_bytes, MAX_TENSOR_BYTES)
        self._receiving = Receiving(max(settings.max_inflight_bytes // max_tensor_bytes, 1))
        self._metrics = application.deployment.metrics
        self._handlers = Handlers(application, settings, self._receiving)
        self._server = aio.server(options=_options(settings, max_tensor_bytes + ENVELOPE_BYTES))
        self._server.add_generic_rpc_handlers([self._handlers])
        self._checking: asyncio.Task[None] | None = None
        try:
            if (first := pem()) is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, _credentials(first, pem))
        except RuntimeError as error:
            raise CannotListenError(f"{address}: gRPC cannot listen; choose another --grpc-port") from error

    async def start(self) -> None:
        """Start to serve calls."""
        await self._server.start()
        self._checking = get_running_loop().create_task(self._check())

    def note_health(self) -> None:
        """Report a changed health to the calls of Watch."""
        self._handlers.note_health()

    async def stop(self, grace_s: float, at_once: Callable[[], bool]) -> None:
        """Refuse new calls, end streams, and wait `grace_s` seconds for other calls, unless `at_once`.

        While it stops, gRPC cancels a new call, which clients take for a cancellation of their own. So it stops only
        once no call has arrived for QUIET_S; refused clients wait a second before another call.
        """
        self._handlers.stop()
        refuses_until_s = monotonic() + REFUSING_S
        while monotonic() < refuses_until_s and self._handlers.quiet_s < QUIET_S and not at_once():
            await asyncio.sleep(QUIET_S / 10)
        stopping = get_running_loop().create_task(self._server.stop(grace_s))
        while not stopping.done():
            if at_once():
                await self._server.stop(None)
            await asyncio.wait([stopping], timeout=CHECK_S)
        stopping.result()
        if self._checking is not None:
            self._checking.cancel()

    async def _check(self) -> None:
        backlog, counted_s = Backlog(), monotonic()
        while True:
            await asyncio.sleep(CHECK_S)
            self._receiving.check()
            if (elapsed_s := monotonic() - counted_s) >= COUNT_S:
                counted_s += elapsed_s
                n_waiting = backlog.count(calls_received(), self._handlers.n_begun, counted_s)
                self._metrics.note_waits(n_waiting * elapsed_s)


def _options(settings: Settings, max_message_bytes: int) -> list[tuple[str, Any]]:
    ms = 1000
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_concurrent_streams", 16),
        # Else streams count until Python has freed them, long after the client has its response, and a client that
        # uses all of its streams is refused.
        ("grpc.http.overload_protection", 0),
        ("grpc.max_metadata_size", 8 * 2**10),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
        ("grpc.server_handshake_timeout_ms", settings.header_s * ms),
        ("grpc.max_connection_idle_ms", max(settings.keep_alive_s, 1) * ms),
        # A connection stays with its worker: reconnecting spreads clients evenly, and ends abandoned calls.
        ("grpc.max_connection_age_ms", 300 * ms),
        ("grpc.max_connection_age_grace_ms", settings.request_s * ms),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.http2.min_ping_interval_without_data_ms", 10 * ms),
        # A compressed message would be inflated in whole before its length is checked.
        ("grpc.compression_enabled_algorithms_bitset", 1),
        # Else the window of a stream grows with the bandwidth, and gRPC buffers that much before a message is read.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.so_reuseport", 1),
        ("grpc.enable_channelz", 1),  # counts calls
    ]


def _credentials(first: Pem, pem: Callable[[], Pem | None]) -> Any:
    """Return credentials that use the newest certificate for each new connection."""
    served = first

    def newest() -> Any:
        nonlocal served
        current = pem()
        if current is None or current is served:
            return None
        served = current
        return _certificate(current)

    return grpc.dynamic_ssl_server_credentials(
        _certificate(first), newest, require_client_authentication=first.client_ca is not None
    )


def _certificate(pem: Pem) -> Any:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], root_certificates=pem.client_ca)
