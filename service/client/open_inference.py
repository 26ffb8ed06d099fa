"""A server of the Open Inference Protocol over gRPC."""

import asyncio
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import grpc
import numpy as np
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from numpy.typing import NDArray

from service.client.errors import ClientError, RefusedError, RetriableError, TlsError
from service.client.options import FilePath, Options
from service.client.parts import ROW, Part
from service.client.result import Reply

CONTRACT: Final = Path(__file__).parents[1] / "api" / "open_inference" / "contract.binpb"
"""The public contract, read as data, so that the code of the service is not imported."""
SERVICE: Final = "/inference.GRPCInferenceService"
PUSHBACK: Final = "grpc-retry-pushback-ms"

STATUSES: Final = {"INVALID_ARGUMENT": 400, "UNAUTHENTICATED": 401, "RESOURCE_EXHAUSTED": 413, "UNIMPLEMENTED": 501}
"""The HTTP status of each code that is not retried; any other is retried."""


class GrpcServer:
    """A server at `grpc://HOST:PORT`, or with TLS at `grpcs://HOST:PORT`.

    The kernel assigns connections to workers: each request in flight has its own, so that all workers get requests.
    """

    def __init__(self, url: str, options: Options) -> None:
        self.url = url
        self._address, self._options = urlsplit(url).netloc, options
        self._credentials = _credentials(options) if url.startswith("grpcs:") else None
        self._metadata = () if options.api_key is None else (("authorization", f"Bearer {options.api_key}"),)
        self._idle: list[Any] = []
        """Idle channels; each is opened on demand, in the event loop of the calls."""
        self._model_name: str | None = None
        """The model name that requests have to contain."""

    async def score(self, rows: NDArray[np.float32], part: Part, working_point: str | None) -> Reply:
        """Send the rows as raw bytes, to the model of the server."""
        channel = self._idle.pop() if self._idle else self._open()
        try:
            async with asyncio.timeout(self._options.request_s):
                response = await self._infer(channel, rows, working_point)
        except TimeoutError:
            raise RetriableError(f"no response within {self._options.request_s:g} s") from None
        except grpc.aio.AioRpcError as error:
            code, detail = error.code().name, error.details() or ""
            if code in STATUSES:
                raise RefusedError(self.url, part.as_sent, STATUSES[code], detail) from None
            if code == "NOT_FOUND":  # another model, with another name, was loaded
                self._model_name = None
            raise RetriableError(f"{code}: {detail}", _retry_after_s(error)) from None
        finally:
            self._idle.append(channel)
        return self._read(response, part, working_point)

    async def close(self) -> None:
        """Close the channels."""
        while self._idle:
            await self._idle.pop().close()

    async def _infer(self, channel: Any, rows: NDArray[np.float32], working_point: str | None) -> Any:
        if self._model_name is None:
            index = await self._call(channel, "RepositoryIndex")
            self._model_name = index.models[0].name if index.models else ""
        parameters = {} if working_point is None else {"working_point": {"string_param": working_point}}
        return await self._call(
            channel,
            "ModelInfer",
            model_name=self._model_name,
            inputs=[{"name": "features", "datatype": "FP32", "shape": list(rows.shape)}],
            raw_input_contents=[rows.tobytes()],
            parameters=parameters,
        )

    async def _call(self, channel: Any, name: str, **fields: Any) -> Any:
        request, response = _message(f"{name}Request"), _message(f"{name}Response")
        call = channel.unary_unary(f"{SERVICE}/{name}", request.SerializeToString, response.FromString)
        return await call(request(**fields), metadata=self._metadata)

    def _open(self) -> Any:
        options = [
            ("grpc.enable_retries", 0),
            ("grpc.max_receive_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),  # else channels of one address share a connection
            ("grpc.min_reconnect_backoff_ms", int(1000 * self._options.connect_s)),  # also the timeout of connecting
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.enable_http_proxy", 0),
        ]
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._address, options)
        return grpc.aio.secure_channel(self._address, self._credentials, options)

    def _read(self, response: Any, part: Part, working_point: str | None) -> Reply:
        n_events = part.stop - part.start
        parameters = {name: _value(parameter) for name, parameter in response.parameters.items()}
        model, threshold = parameters.get("model_identity"), parameters.get("score_threshold")
        outputs = {output.name: place for place, output in enumerate(response.outputs)}
        raw = response.raw_output_contents
        scores = np.frombuffer(raw[outputs["anomaly_score"]] if "anomaly_score" in outputs and raw else b"", ROW)
        if model is None or len(scores) != n_events or (working_point and threshold is None):
            raise ClientError(
                f"{self.url}: {len(scores)} scores for {part} with the parameters {parameters}, expected {n_events} as "
                "anomaly_score with model_identity: check that the URL is that of the service"
            )
        return Reply(scores, str(model), None if threshold is None else float(threshold))


@cache
def _message(name: str) -> Any:
    """Return the class of a message."""
    return GetMessageClass(_pool().FindMessageTypeByName(f"inference.{name}"))


@cache
def _pool() -> DescriptorPool:
    """Read the messages into their own pool, since other packages have some of the same names."""
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(CONTRACT.read_bytes()).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


def _value(parameter: Any) -> str | float | None:
    """Return a parameter of a response, which may be of several types."""
    kind = parameter.WhichOneof("parameter_choice")
    return None if kind is None else getattr(parameter, kind)


def _credentials(options: Options) -> Any:
    def read(path: FilePath | None) -> bytes | None:
        return None if path is None else Path(path).read_bytes()

    try:
        return grpc.ssl_channel_credentials(read(options.ca), read(options.key), read(options.certificate))
    except OSError as error:
        raise TlsError(f"{error.filename}: {error.strerror}; expected a PEM file") from error


def _retry_after_s(error: Any) -> float | None:
    found = dict(error.trailing_metadata() or ()).get(PUSHBACK)
    return int(found) / 1000 if isinstance(found, str) and found.isdecimal() else None
