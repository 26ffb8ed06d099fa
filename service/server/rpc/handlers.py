"""The handlers of gRPC calls: keys, timeouts, responses, errors, log and metrics."""

import asyncio
import math
from asyncio import CancelledError, current_task, get_running_loop
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic, perf_counter
from typing import Any, Final, NoReturn

import grpc

from service import errors
from service.api.app import Application
from service.api.middleware import client_name, log_request
from service.api.open_inference.grpc_calls import (
    CHECK,
    DESCRIPTIONS,
    HEALTH,
    INFER,
    MAX_TENSOR_BYTES,
    PUBLIC_PATHS,
    SERVICE,
    WATCH,
    Descriptions,
    Health,
)
from service.api.open_inference.grpc_infer import STREAM_INFER, Inference, Limit
from service.api.request_id import REQUEST_ID, find_id
from service.errors import NotOfferedError, NotReadyError, RequestTimeoutError, UnknownModelError
from service.server.rpc.receiving import Receiving
from service.settings import Settings

PUSHBACK: Final = "grpc-retry-pushback-ms"
"""The trailing metadata with the milliseconds after which to retry a request."""

CLIENT_CANCELLED: Final = 499


class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Maps each call to its handler.

    All are streams to grpcio, also the calls of one message, which look the same on the wire: so a handler runs before
    the message is received, and can refuse it.
    """

    def __init__(self, application: Application, settings: Settings, receiving: Receiving) -> None:
        self._keys = application.keys
        self._metrics = application.deployment.metrics
        self._request_s = settings.request_s
        self._access_log = settings.access_log
        self._receiving = receiving
        self._inference = Inference(application.served, application.statistics)
        max_tensor_bytes = min(settings.max_body_bytes, MAX_TENSOR_BYTES)
        self._descriptions = Descriptions(application.served, application.statistics, max_tensor_bytes)
        self._health = Health(application.served)
        self._health_changed = asyncio.Event()
        self._stopping = False
        self._last_call_s = -math.inf
        self.n_begun = 0
        """Number of calls that gRPC has handed over."""
        unary, stream = grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        self._handlers = {
            INFER: unary(self._observed(INFER, self._infer)),
            STREAM_INFER: stream(self._observed(STREAM_INFER, self._stream)),
            CHECK: unary(self._observed(CHECK, self._check)),
            WATCH: stream(self._observed(WATCH, self._watch)),
        }
        for name in DESCRIPTIONS:
            path = f"/{SERVICE}/{name}"
            self._handlers[path] = unary(self._observed(path, partial(self._describe, name)))
        self._not_offered = unary(self._observed("", self._refuse))

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a call."""
        path = handler_call_details.method
        self._last_call_s = monotonic()
        self.n_begun += 1
        if path.startswith((f"/{SERVICE}/", f"/{HEALTH}/")):
            return self._handlers.get(path, self._not_offered)
        return None

    @property
    def quiet_s(self) -> float:
        """Seconds since the last call began."""
        return monotonic() - self._last_call_s

    def note_health(self) -> None:
        """Wake the calls of Watch to check the health again."""
        self._health_changed.set()
        self._health_changed = asyncio.Event()

    def stop(self) -> None:
        """End the streams, and refuse all calls from now on."""
        self._stopping = True
        self.note_health()
        self._receiving.end_streams()

    def _observed(self, path: str, handle: Callable[[Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        """Wrap a handler to check the key, turn errors into a status, and count and log the call."""

        async def observed(_: Any, context: Any) -> Any:
            started_s, status, name = perf_counter(), CLIENT_CANCELLED, None
            try:
                if self._stopping and path not in {CHECK, WATCH}:
                    raise NotReadyError("the service is stopping: send the request again")
                if self._keys is not None and path not in PUBLIC_PATHS:
                    name = client_name(_metadata(context), self._keys)
                response = await handle(context)
                status = 200
                return response
            except Exception as error:
                described = errors.describe(error, "POST", path)
                status = described.status_code
                await _abort(context, status, described.detail)
            finally:
                seconds = perf_counter() - started_s
                self._metrics.note_request(path, status, seconds)
                if self._access_log:
                    named, request_id = name or _common_name(context), find_id(_metadata(context))
                    log_request(_address(context), named, path, status, seconds, request_id=request_id)

        return observed

    async def _infer(self, context: Any) -> bytes:
        return await self._received(context, self._inference.infer)

    async def _describe(self, name: str, context: Any) -> bytes:
        async def answer(body: bytes, _began_s: float, _limit: Limit) -> bytes:
            return self._descriptions.answer(name, body)

        return await self._received(context, answer)

    async def _check(self, context: Any) -> bytes:
        async def answer(body: bytes, _began_s: float, _limit: Limit) -> bytes:
            if (status := self._health.status(body)) is None:
                raise UnknownModelError(f"unknown service, expected none or {SERVICE}")
            return status

        return await self._received(context, answer)

    async def _refuse(self, _context: Any) -> NoReturn:
        raise NotOfferedError(
            f"not offered, expected one of {', '.join(['ModelInfer, ModelStreamInfer', *DESCRIPTIONS])}"
        )

    async def _watch(self, context: Any) -> None:
        body = await self._receiving.read(context)
        sent = None
        while True:
            changed = self._health_changed
            if (status := self._health.status(body) or self._health.unknown) != sent:
                await context.write(status)
                sent = status
            if self._stopping:
                return
            await changed.wait()

    async def _stream(self, context: Any) -> None:
        while (body := await self._receiving.read_next(context)) is not None:
            began_s = monotonic()
            answer = partial(self._inference.infer_in_stream, body, began_s)
            try:
                response = await self._limited(answer)
            except RequestTimeoutError as error:
                response = self._inference.error_in_stream(error)
            await context.write(response)

    async def _received(self, context: Any, answer: Callable[[bytes, float, Limit], Awaitable[bytes]]) -> bytes:
        """Receive the message of a call and return the response."""
        began_s = monotonic()

        async def receive(limit: Limit) -> bytes:
            body = await self._receiving.read(context)
            _check_deadline(context)
            return await answer(body, began_s, limit)

        return await self._limited(receive)

    async def _limited(self, answer: Callable[[Limit], Awaitable[bytes]]) -> bytes:
        """Wait for a response within the request's timeout; raises RequestTimeoutError.

        Raises CancelledError if the client has left, in place of the error with which the work ended.
        """
        timeout, loop = asyncio.timeout(self._request_s), get_running_loop()

        def limit(seconds: float) -> None:
            when = timeout.when()
            timeout.reschedule(min(loop.time() + seconds, loop.time() if when is None else when))

        try:
            async with timeout:
                return await answer(limit)
        except (Exception, CancelledError) as error:
            if _cancelled():
                raise CancelledError from error
            if timeout.expired():
                raise RequestTimeoutError("the request took longer than its timeout; send it again") from error
            raise


def _cancelled() -> bool:
    task = current_task()
    return task is not None and task.cancelling() > 0


def _check_deadline(context: Any) -> None:
    remaining_s = context.time_remaining()
    if remaining_s is not None and remaining_s <= 0:
        raise RequestTimeoutError("the deadline of the call has passed; send it again with a later one")


async def _abort(context: Any, status: int, detail: str) -> NoReturn:
    code = grpc.StatusCode[errors.GRPC_CODES.get(status, "INTERNAL")]
    retry = code is grpc.StatusCode.UNAVAILABLE
    trailing = ((PUSHBACK, str(1000 * errors.RETRY_AFTER_S)),) if retry else ()
    await context.abort(code, detail, trailing)
    raise AssertionError("abort raises")


def _metadata(context: Any) -> list[tuple[bytes, bytes]]:
    """Return the metadata for API keys and request ids, as headers."""
    read = {"authorization", REQUEST_ID.decode()}
    return [(name.encode(), value.encode()) for name, value in context.invocation_metadata() if name in read]


def _common_name(context: Any) -> str | None:
    """Find the common name in the client's certificate."""
    names = context.auth_context().get("x509_common_name", [])
    return names[0].decode(errors="backslashreplace") if names else None


def _address(context: Any) -> tuple[str, int] | None:
    """Read the client's address: gRPC writes it as ipv4:127.0.0.1:5000, or as ipv6:%5B::1%5D:5000."""
    kind, _, address = str(context.peer()).partition(":")
    host, _, port = address.rpartition(":")
    if kind not in {"ipv4", "ipv6"} or not port.isdecimal():
        return None
    return host.removeprefix("%5B").removesuffix("%5D").strip("[]"), int(port)
