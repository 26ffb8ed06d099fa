"""The server and the model in use as the Open Inference Protocol describes them."""

from typing import Final

import msgspec

import service
from service.errors import NotReadyError, UnknownModelError
from service.inference.deployment import Deployment, Model
from service.model.artefact import INPUT_NAME, OUTPUT_NAME

SERVER_NAME: Final = "lhc-anomaly"
PLATFORM: Final = "onnxruntime_onnx"
BACKEND: Final = "onnxruntime"
VERSION: Final = "1"
"""The only version of the model: clients require a whole number. `name@sha12` identifies the file."""

FLOAT: Final = "FP32"
BOOLEAN: Final = "BOOL"
ACCEPTED_NAME: Final = "accepted"
"""The output that a working point adds: which events are above its threshold."""

SHOWN_CHARACTERS: Final = 100


class ServerMetadata(msgspec.Struct, frozen=True):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class Tensor(msgspec.Struct, frozen=True):
    """An input or output of the model; -1 is any number of events."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True):
    """The model in use."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class ConfigTensor(msgspec.Struct, frozen=True):
    """An input or output of the model, without the batch dimension."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfig(msgspec.Struct, frozen=True):
    """The part of a model's configuration that Triton's clients read."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    """Above 0, since 0 means a model without batches."""
    input: list[ConfigTensor]
    output: list[ConfigTensor]


class IndexEntry(msgspec.Struct, frozen=True):
    """A model of the repository."""

    name: str
    version: str
    state: str
    reason: str


class ServedModel:
    """The model in use, under its served name."""

    def __init__(self, deployment: Deployment, served_name: str | None) -> None:
        """Serve the model under this name, by default the artefact's."""
        self.deployment = deployment
        self._served_name = served_name

    @property
    def name(self) -> str:
        """The name; raises NotReadyError before there is a model."""
        return self._served_name or self.deployment.model.artefact.metadata.model_name

    @property
    def ready(self) -> bool:
        """Whether the service takes requests."""
        return self.deployment.status == "ok"

    def find(self, name: str, version: str = "") -> Model:
        """Return the model of this name and, if given, of this version.

        Raises UnknownModelError for another one, and NotReadyError before there is a model.
        """
        model = self.deployment.model
        if name != self.name:
            raise UnknownModelError(f"Request for unknown model: '{name[:SHOWN_CHARACTERS]}' is not found")
        if version not in {"", VERSION}:
            found = version[:SHOWN_CHARACTERS]
            raise UnknownModelError(f"Request for unknown model: '{self.name}' version {found} is not found")
        return model

    def find_ready(self, name: str, version: str = "") -> Model:
        """Return the model as `find` does; also raises NotReadyError while the service drains."""
        model = self.find(name, version)
        if not self.ready:
            raise NotReadyError(self.deployment.status)
        return model

    def metadata(self, name: str, version: str = "") -> ModelMetadata:
        """Describe the model of this name; raises as `find`."""
        n_features = self.find(name, version).artefact.n_features
        return ModelMetadata(
            name=name,
            versions=[VERSION],
            platform=PLATFORM,
            inputs=[Tensor(INPUT_NAME, FLOAT, [-1, n_features])],
            outputs=[Tensor(OUTPUT_NAME, FLOAT, [-1, 1])],
        )

    def config(self, max_body_bytes: int, name: str, version: str = "") -> ModelConfig:
        """Describe the batching of the model of this name, in bodies of at most this size; raises as `find`."""
        model = self.find(name, version)
        return ModelConfig(
            name=name,
            platform=PLATFORM,
            backend=BACKEND,
            max_batch_size=max(1, min(model.max_events, max_body_bytes // model.event_bytes)),
            input=[ConfigTensor(INPUT_NAME, f"TYPE_{FLOAT}", [model.artefact.n_features])],
            output=[ConfigTensor(OUTPUT_NAME, f"TYPE_{FLOAT}", [1])],
        )

    def index(self, *, ready: bool = False) -> list[IndexEntry]:
        """List the models, or those that are `ready`: one, or none."""
        if self.deployment.current is None or (ready and not self.ready):
            return []
        state, reason = ("READY", "") if self.ready else ("UNAVAILABLE", self.deployment.status)
        return [IndexEntry(self.name, VERSION, state, reason)]


def server_metadata(*extensions: str) -> ServerMetadata:
    """Describe the server, with the extensions of the protocol that it has."""
    return ServerMetadata(SERVER_NAME, service.__version__, list(extensions))
