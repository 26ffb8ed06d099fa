"""The calls of inference.GRPCInferenceService except ModelInfer, from serialised messages to serialised messages."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from service.api.open_inference.description import ServedModel, server_metadata
from service.api.open_inference.grpc_infer import STREAM_INFER
from service.api.open_inference.grpc_request import parse
from service.api.open_inference.messages import message
from service.api.open_inference.statistics import Statistics
from service.errors import InvalidRequestError

SERVICE: Final = "inference.GRPCInferenceService"
HEALTH: Final = "grpc.health.v1.Health"

INFER: Final = f"/{SERVICE}/ModelInfer"
CHECK: Final = f"/{HEALTH}/Check"
WATCH: Final = f"/{HEALTH}/Watch"

DESCRIPTIONS: Final = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
)
PATHS: Final = (INFER, STREAM_INFER, CHECK, WATCH, *(f"/{SERVICE}/{name}" for name in DESCRIPTIONS))
"""The paths of all calls that are offered."""

PUBLIC_PATHS: Final = (CHECK, WATCH, f"/{SERVICE}/ServerLive", f"/{SERVICE}/ServerReady")
"""The paths that need no API key."""

EXTENSIONS: Final = ("model_configuration", "model_repository", "statistics")

MAX_TENSOR_BYTES: Final = 16 * 2**20
"""Maximum size of an input, 299 k events with 14 features: a message is received as a whole."""


class Descriptions:
    """Handles every call that describes the server or the model; they are cheap, and not subject to admission."""

    def __init__(self, served: ServedModel, statistics: Statistics, max_tensor_bytes: int) -> None:
        self._served = served
        self._statistics = statistics
        self._max_tensor_bytes = max_tensor_bytes
        self._requests = {name: message(f"inference.{name}Request") for name in DESCRIPTIONS}
        self._responses = {name: message(f"inference.{name}Response") for name in DESCRIPTIONS}
        self._fill: dict[str, Callable[[Any], dict[str, object]]] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": served.ready},
            "ModelReady": self._model_ready,
            "ServerMetadata": lambda _: msgspec.to_builtins(server_metadata(*EXTENSIONS)),
            "ModelMetadata": lambda asked: msgspec.to_builtins(served.metadata(asked.name, asked.version)),
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._index,
        }

    def answer(self, name: str, body: bytes) -> bytes:
        """Handle the call of this name; raises ServiceError."""
        request = parse(self._requests[name], body)
        return bytes(self._responses[name](**self._fill[name](request)).SerializeToString())

    def _model_ready(self, asked: Any) -> dict[str, object]:
        self._served.find(asked.name, asked.version)
        return {"ready": self._served.ready}

    def _model_config(self, asked: Any) -> dict[str, object]:
        return {"config": msgspec.to_builtins(self._served.config(self._max_tensor_bytes, asked.name, asked.version))}

    def _model_statistics(self, asked: Any) -> dict[str, object]:
        found = self._statistics.report(asked.name or self._served.name, asked.version)
        fields = msgspec.to_builtins(found)
        return {"model_stats": [{name: value for name, value in fields.items() if name != "batch_stats"}]}

    def _index(self, asked: Any) -> dict[str, object]:
        if asked.repository_name:
            raise InvalidRequestError("repository_name is given, expected none: there is one repository without a name")
        return {"models": msgspec.to_builtins(self._served.index(ready=asked.ready))}


class Health:
    """Handles the health checks of gRPC."""

    def __init__(self, served: ServedModel) -> None:
        self._served = served
        self._request = message(f"{HEALTH}CheckRequest")
        self._response = message(f"{HEALTH}CheckResponse")

    def status(self, body: bytes) -> bytes | None:
        """Return the status of the service that a request names; None for an unknown one. Raises ServiceError."""
        if parse(self._request, body).service not in {"", SERVICE}:
            return None
        return self._written("SERVING" if self._served.ready else "NOT_SERVING")

    @property
    def unknown(self) -> bytes:
        """The response of Watch about an unknown service."""
        return self._written("SERVICE_UNKNOWN")

    def _written(self, status: str) -> bytes:
        return bytes(self._response(status=status).SerializeToString())
