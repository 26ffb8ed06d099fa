"""Messages of gRPC under fuzzing: as many finite rows as the shape says, or a refusal, and no other error."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.artefacts import model, sample_events

MAX_EVENTS = 100


def seeds() -> list[bytes]:
    """Write good requests, with events as bytes and as numbers, and with everything that is optional."""
    from service.api.open_inference.messages import message
    from tests.service.server.rpc.client import infer_request

    events = sample_events(3)
    optional: dict[str, Any] = {
        "id": "a",
        "model_version": "1",
        "parameters": {
            "working_point": {"string_param": "loose"},
            "timeout": {"int64_param": 7},
            "a": {"bool_param": True},
            "b": {"double_param": 1.5},
            "c": {"uint64_param": 1},
        },
        "outputs": [{"name": "accepted", "parameters": {"a": {"int64_param": 1}}}],
    }
    requests = [infer_request(events, typed=typed, **fields) for typed in (False, True) for fields in ({}, optional)]
    for kind, values in (("bool", [True]), ("int", [1]), ("uint64", [1]), ("fp64", [1.5]), ("bytes", [b"a"])):
        wrong = message("inference.ModelInferRequest")(model_name="sphere")
        contents = {f"{kind}_contents": values}
        wrong.inputs.add(name="features", datatype="FP32", shape=[1, 5], contents=contents)
        requests.append(wrong)
    return [request.SerializeToString() for request in requests]


def check_message() -> Callable[[bytes], None]:
    """Make the check of a message."""
    from service.api.app import create_app
    from service.api.open_inference.grpc_request import Requests
    from service.errors import ServiceError
    from service.formats.raw import RAW
    from service.model.artefact import parse_artefact
    from service.model.scorer import Scorer
    from service.settings import Settings

    artefact = parse_artefact(model().SerializeToString())
    application = create_app(Settings(), artefact)
    application.deployment.open(Scorer(artefact))
    names, requests = artefact.metadata.feature_names, Requests(application.served)

    def check(data: bytes) -> None:
        try:
            request = requests.read(requests.parse(data))
            rows = RAW.read_batch(b"".join(request.pieces()), names, MAX_EVENTS)
        except ServiceError:
            return
        assert rows.shape == (request.asked.n_events, len(names))
        assert np.isfinite(rows).all()
        assert set(request.asked.outputs) <= {"anomaly_score", "accepted"}
        anew = Requests(application.served).read(requests.parse(data))
        assert anew.asked == request.asked  # a known request means what it meant

    return check
