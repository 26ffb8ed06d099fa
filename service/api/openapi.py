"""The API's description for people and programs: OpenAPI, with the sizes, names and examples of the model in use.

It does not answer requests: it describes what routes.py, wire.py and errors.py do.
"""

from typing import Any, NamedTuple

from litestar.openapi.spec import (
    Example,
    OpenAPI,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType

from service.formats import table as wire
from service.model.artefact import Artefact

FORMATS = ", ".join(wire.MEDIA_TYPES)

PACKED = {"Event": "PackedEvent", "Events": "PackedEvents"}
"""The schemas of what MessagePack has more ways to write than JSON."""


class Fault(NamedTuple):
    """An error reply: when a client gets it, and an example of its detail."""

    description: str
    detail: str


BODY_FAULT = Fault(
    "The request is wrong; `detail` names the place, the value and what was expected.",
    "the body is not valid JSON: Expecting value at byte 21",
)
KEY_FAULT = Fault(
    "The request has no API key that the service knows.",
    "the API key is not known; ask the operator of the service for one",
)
NOT_READY = Fault("The service has no model yet.", "starting")
CROWDED = Fault(
    "The service has no model yet, stops, or has as much in flight as it takes: send the request again.", "starting"
)
HEAD_FAULTS = {
    400: Fault("The request is not HTTP.", "the request is not valid HTTP"),
    408: Fault("The request took too long to arrive.", "the request's head took longer than 10 s"),
    414: Fault("The URL is too long.", "the URL is 5000 bytes, expected at most 4096"),
    431: Fault("The request's head is too long.", "the request's head is 20000 bytes, expected at most 16384"),
    500: Fault("The service is at fault.", "internal error"),
}
"""What any request may get."""

SCORE_FAULTS = {
    **HEAD_FAULTS,
    400: BODY_FAULT,
    406: Fault("`Accept` allows none of the formats.", f'Accept is "text/html", expected one of {FORMATS}'),
    413: Fault(
        "The body is longer than the service takes, or has more events.",
        "the body is 70000000 bytes, expected at most 67108864: send smaller batches",
    ),
    415: Fault("`Content-Type` is none of the formats.", f'Content-Type is "text/csv", expected one of {FORMATS}'),
    503: CROWDED,
}
HEALTH_FAULTS = {**HEAD_FAULTS, 503: Fault("Send no requests: `detail` is starting or draining.", "draining")}
MODEL_FAULTS = {**HEAD_FAULTS, 503: NOT_READY}
METRICS_FAULTS = {**HEAD_FAULTS, 503: CROWDED}


def describe(api: OpenAPI, artefact: Artefact) -> None:
    """Complete `api`, as Litestar derives it from the handlers, with the bodies and errors of every route."""
    components = api.components
    assert components is not None
    assert components.schemas is not None
    components.schemas |= _schemas(artefact)
    keyed = {401: KEY_FAULT} if api.security else {}
    events = artefact.metadata.golden.features
    scores = artefact.metadata.golden.anomaly_scores
    _describe_scoring(
        _operation(api, "post", "/score"),
        artefact,
        SCORE_FAULTS | keyed,
        request="Event",
        reply="Score",
        shape="",
        sent={"features": events[0]},
        returned={"anomaly_score": scores[0]},
    )
    _describe_scoring(
        _operation(api, "post", "/score/batch"),
        artefact,
        SCORE_FAULTS | keyed,
        request="Events",
        reply="Scores",
        shape="n, ",
        sent={"events": events[:2]},
        returned={"anomaly_scores": scores[:2]},
    )
    if keyed:
        _operation(api, "get", "/health").security = []  # who asks whether the service lives has no key
    for path, faults in {"/health": HEALTH_FAULTS, "/model": MODEL_FAULTS, "/metrics": METRICS_FAULTS}.items():
        if path in (api.paths or {}):  # else it is on the operations port alone
            _set_responses(_operation(api, "get", path), faults if path == "/health" else faults | keyed)


def _operation(api: OpenAPI, method: str, path: str) -> Operation:
    assert api.paths is not None
    operation: Operation = getattr(api.paths[path], method)
    return operation


def _describe_scoring(
    operation: Operation,
    artefact: Artefact,
    faults: dict[int, Fault],
    *,
    request: str,
    reply: str,
    shape: str,
    sent: dict[str, Any],
    returned: dict[str, Any],
) -> None:
    n_features = artefact.n_features
    operation.parameters = [_working_point(artefact)]
    operation.request_body = RequestBody(
        description=f"{n_features} raw features of each event, in the order that GET /model names.",
        required=True,
        content=_content(
            request,
            sent,
            raw=f"Little-endian float32 of shape ({shape}{n_features}): `events.astype('<f4').tobytes()`.",
            npy=f"An array of shape ({shape}{n_features}) of floats or integers, as `numpy.save` writes it.",
        ),
    )
    success = OpenAPIResponse(
        description="The format is the request's, unless `Accept` asks for another.",
        headers={
            "Model-Version": _header(f"Name and hash of the model that scored, as {artefact.identity}."),
            "Score-Threshold": _header("Threshold of the working point, if the request names one."),
        },
        content=_content(
            reply,
            returned,
            raw="Little-endian float32, one for each event.",
            npy="float32, one for each event.",
        ),
    )
    _set_responses(operation, faults, success)


def _set_responses(operation: Operation, faults: dict[int, Fault], success: OpenAPIResponse | None = None) -> None:
    """Keep Litestar's own description of success unless another is given, and none of its errors."""
    responses: dict[str, Any] = dict(operation.responses or {})
    errors = {str(status): _error(status, fault) for status, fault in faults.items()}
    operation.responses = {"200": success or responses["200"], **errors}


def _content(name: str, example: dict[str, Any], *, raw: str, npy: str) -> dict[str, OpenAPIMediaType]:
    examples: dict[str, Example | Reference] = {"model": Example(summary="From the model's file", value=example)}
    return {
        wire.JSON: OpenAPIMediaType(schema=_reference(name), examples=examples),
        wire.MSGPACK: OpenAPIMediaType(schema=_reference(PACKED.get(name, name)), examples=examples),
        wire.RAW: OpenAPIMediaType(schema=_binary(raw)),
        wire.NPY: OpenAPIMediaType(schema=_binary(npy)),
    }


def _working_point(artefact: Artefact) -> Parameter:
    points = artefact.metadata.working_points
    return Parameter(
        name="working_point",
        param_in="query",
        required=False,
        description="Adds `accepted`, whether the score is above this working point's threshold, to the reply.",
        schema=Schema(type=OpenAPIType.STRING, enum=[point.name for point in points] or None),
    )


def _schemas(artefact: Artefact) -> dict[str, Schema]:
    n_features = artefact.n_features
    number, boolean = Schema(type=OpenAPIType.NUMBER), Schema(type=OpenAPIType.BOOLEAN)
    event = Schema(
        type=OpenAPIType.ARRAY,
        items=number,
        min_items=n_features,
        max_items=n_features,
        description=", ".join(artefact.metadata.feature_names),
    )
    events = Schema(type=OpenAPIType.ARRAY, items=event, min_items=1)
    packed = _binary("MessagePack's binary type, of little-endian float32, row after row.")
    return {
        "Event": _object({"features": event}),
        "Events": _object({"events": events}),
        PACKED["Event"]: _object({"features": Schema(one_of=[event, packed])}),
        PACKED["Events"]: _object({"events": Schema(one_of=[events, packed])}),
        "Score": _object({"anomaly_score": number}, {"accepted": boolean}),
        "Scores": _object(
            {"anomaly_scores": Schema(type=OpenAPIType.ARRAY, items=number)},
            {"accepted": Schema(type=OpenAPIType.ARRAY, items=boolean)},
        ),
        "ErrorBody": _object(
            {"status_code": Schema(type=OpenAPIType.INTEGER), "detail": Schema(type=OpenAPIType.STRING)}
        ),
    }


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return Schema(
        type=OpenAPIType.OBJECT,
        properties={**required, **(optional or {})},
        required=list(required),
        additional_properties=False,
    )


def _binary(description: str) -> Schema:
    return Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY, description=description)


def _reference(name: str) -> Reference:
    return Reference(ref=f"#/components/schemas/{name}")


def _header(description: str) -> OpenAPIHeader:
    return OpenAPIHeader(description=description, schema=Schema(type=OpenAPIType.STRING))


def _error(status: int, fault: Fault) -> OpenAPIResponse:
    example = Example(value={"status_code": status, "detail": fault.detail})
    content = {wire.JSON: OpenAPIMediaType(schema=_reference("ErrorBody"), examples={"error": example})}
    headers: dict[str, OpenAPIHeader | Reference] = {}
    if status == 401:
        headers["WWW-Authenticate"] = _header("Bearer.")
    if status == 503:
        headers["Retry-After"] = _header("Seconds after which to send the request again.")
    return OpenAPIResponse(description=fault.description, content=content, headers=headers or None)
