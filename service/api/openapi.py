"""The OpenAPI description of the API, with the formats, and the sizes, names and examples of the model in use."""

import json
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from service import errors
from service.api.error_responses import OPEN_INFERENCE, write_error
from service.api.middleware import PUBLIC_PATHS
from service.api.open_inference import openapi as open_inference
from service.errors import (
    BodyTooLargeError,
    ErrorBody,
    HeadersTooLargeError,
    InvalidRequestError,
    MalformedRequestError,
    NotAcceptableError,
    NotReadyError,
    OverloadedError,
    RequestTimeoutError,
    UnauthorisedError,
    UnknownModelError,
    UnsupportedMediaTypeError,
    UriTooLongError,
)
from service.formats.format import Content, Format
from service.formats.table import Formats
from service.model.artefact import Artefact

Json = dict[str, Any]

EVENTS_PARAMETER: Final[Json] = {
    "name": "events",
    "in": "query",
    "required": False,
    "description": "The number of events in the batch, to be checked: another number is refused.",
    "schema": {"type": "integer", "minimum": 1},
}

EXPLAIN_PARAMETER: Final[Json] = {
    "name": "explain",
    "in": "query",
    "required": False,
    "allowEmptyValue": True,
    "description": "Adds `contributions`, what each feature contributes to the score, and `reference_score` to the "
    "response, in JSON and MessagePack: the contributions of an event add up to its score less the reference score.",
    "schema": {"type": "boolean", "default": False},
}

INTRODUCTION: Final = """\
Scores events with one exported model: the higher, the more anomalous. `POST /score` takes one event, and
`POST /score/batch` many, in JSON, MessagePack, raw float32 or NumPy's format. `GET /model` names the features of an
event, in their order and with their units, and the working points. With *Try it out*, JSON is filled in with an event
of the model's file, and the other formats take a file. Where the service has API keys, *Authorize* takes one.
"""
"""The introduction of the page."""

INTERNAL: Final = Exception
"""Any error but a ServiceError."""

ERRORS: Final[dict[type[Exception], tuple[str, str]]] = {
    MalformedRequestError: ("The request is not HTTP.", "the request is not valid HTTP"),
    InvalidRequestError: ("`detail` names what is wrong with the request.", "events[3] has 13 features, expected 14"),
    UnauthorisedError: ("The API key is missing or unknown.", "the API key is not known; ask the operator for one"),
    UnknownModelError: ("No model has this name or version.", "Request for unknown model: 'x' is not found"),
    NotAcceptableError: (
        "`Accept` allows none of the formats, or none of explained scores.",
        'Accept is "text/html", expected one of {}',
    ),
    RequestTimeoutError: ("The request took too long to arrive.", "the request's head took longer than 10 s"),
    BodyTooLargeError: ("The body is too long, or has too many events.", "the body is longer than 67108864 bytes"),
    UriTooLongError: ("The URL is too long.", "the URL is 5000 bytes, expected at most 4096"),
    UnsupportedMediaTypeError: ("`Content-Type` is no format.", 'Content-Type is "text/csv", expected one of {}'),
    HeadersTooLargeError: ("The headers are too long.", "the request's head is 20000 bytes, expected at most 16384"),
    INTERNAL: ("The service failed.", "internal error"),
    NotReadyError: ("The service does not score now: `detail` is starting or draining.", "draining"),
    OverloadedError: ("The service is starting, draining or overloaded: send the request again.", "starting"),
}
"""The cause of each error, and an example of its detail."""

ANY_ROUTE: Final = (MalformedRequestError, RequestTimeoutError, UriTooLongError, HeadersTooLargeError, INTERNAL)
WRONG: Final = (InvalidRequestError, NotAcceptableError, BodyTooLargeError, UnsupportedMediaTypeError)
ROUTES: Final = {
    "/score": (*ANY_ROUTE, *WRONG, OverloadedError),
    "/score/batch": (*ANY_ROUTE, *WRONG, OverloadedError),
    "/health": (*ANY_ROUTE, NotReadyError),
    "/model": (*ANY_ROUTE, NotReadyError),
    "/metrics": (*ANY_ROUTE, OverloadedError),
}
"""The errors of each route of the native API."""


def describe(document: Json, artefact: Artefact, formats: Formats, served_name: str | None) -> Json:
    """Add the bodies and errors of every route to the `document` that Litestar derives from the handlers."""
    schemas: Json = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["ErrorBody"] = _object({"status_code": {"type": "integer"}, "detail": {"type": "string"}})
    for path, (sent, returned) in _contents(artefact).items():
        operation = document["paths"][path]["post"]
        of_batch = [EVENTS_PARAMETER] if path == "/score/batch" else []
        operation["parameters"] = [_working_point(artefact, formats), *of_batch, EXPLAIN_PARAMETER]
        operation["requestBody"] = {
            "description": f"{artefact.n_features} raw features of each event, in the order that GET /model names.",
            "required": True,
            "content": _in_formats(formats.all, sent, schemas),
        }
        operation["responses"]["200"] = {
            "description": "The format is the request's, unless `Accept` asks for another.",
            "headers": {
                "Model-Version": _header(f"Name and hash of the model that scored, as {artefact.identity}."),
                "Score-Threshold": _header("Threshold of the working point, if the request names one."),
            },
            "content": _in_formats((*formats.all, *formats.decisions), returned, schemas),
        }
    open_inference.describe(document, artefact, served_name or artefact.metadata.model_name)
    with_keys = bool(document.get("security"))
    for path, kinds in (ROUTES | {path: _v2_errors(path) for path in open_inference.paths(document)}).items():
        for operation in document["paths"].get(path, {}).values():  # None if it is only on the operations port
            keyed = [UnauthorisedError] if with_keys and path not in PUBLIC_PATHS else []
            described = dict(_error(kind, formats, path) for kind in (*kinds, *keyed))
            operation["responses"] = {"200": operation["responses"]["200"], **described}
    if with_keys:
        for path in PUBLIC_PATHS:
            document["paths"][path]["get"]["security"] = []
    return document


def _contents(artefact: Artefact) -> dict[str, tuple[Content, Content]]:
    """Describe the requests and the responses of each route, with examples from the model's file."""
    n, golden = artefact.n_features, artefact.metadata.golden
    number, boolean = {"type": "number"}, {"type": "boolean"}
    event = {**_list(number, minItems=n, maxItems=n), "description": ", ".join(artefact.metadata.feature_names)}
    events, one, many = _list(event, minItems=1), golden.features[0], golden.features[:2]
    scores = [float(str(np.float32(score))) for score in golden.anomaly_scores[:2]]  # as many digits as in a response
    contributions = {**_list(number, minItems=n, maxItems=n), "description": "One for each feature, in their order."}
    explanation = {"reference_score": number, "contributions": contributions}
    explanations = {"reference_score": number, "contributions": _list(contributions)}
    score_schema = _object({"anomaly_score": number}, accepted=boolean, **explanation)
    scores_schema = _object({"anomaly_scores": _list(number)}, accepted=_list(boolean), **explanations)
    return {
        "/score": (
            Content("Event", f"({n},)", _object({"features": event}), {"features": one}),
            Content("Score", "()", score_schema, {"anomaly_score": scores[0]}),
        ),
        "/score/batch": (
            Content("Events", f"(n, {n})", _object({"events": events}), {"events": many}),
            Content("Scores", "(n,)", scores_schema, {"anomaly_scores": scores}),
        ),
    }


def _in_formats(formats: Iterable[Format], content: Content, schemas: Json) -> Json:
    """Describe a body in these formats, and add the schemas with a title to `schemas`."""
    described = {}
    for one in formats:
        schema = one.schema(content)
        described[one.media_type] = {"schema": schema}
        if title := schema.get("title"):
            schemas[title] = schema
            examples = {"model": {"summary": "From the model's file", "value": content.example}}
            described[one.media_type] = {"schema": _reference(title), "examples": examples}
    return described


def _v2_errors(path: str) -> tuple[type[Exception], ...]:
    """Return the errors of a route of the Open Inference Protocol."""
    if path.endswith("/infer"):
        return (
            *ANY_ROUTE,
            InvalidRequestError,
            BodyTooLargeError,
            UnsupportedMediaTypeError,
            UnknownModelError,
            OverloadedError,
        )
    if "{name}" in path:
        return (*ANY_ROUTE, UnknownModelError, NotReadyError)
    return (*ANY_ROUTE, NotReadyError)


def _error(kind: type[Exception], formats: Formats, path: str) -> tuple[str, Json]:
    """Return the status and the description of an error of a route."""
    status = errors.STATUSES.get(kind, errors.INTERNAL_ERROR)
    description, detail = ERRORS[kind]
    body = ErrorBody(status, detail.format(formats.media_types))
    name, example = "ErrorBody", json.loads(write_error(body, path))
    if path.startswith(OPEN_INFERENCE):
        name, description = "OpenInferenceError", description.replace("`detail`", "`error`")
    content = {"application/json": {"schema": _reference(name), "examples": {"error": {"value": example}}}}
    given = errors.headers(status).items()
    headers = {name: _header(f"As in {value!r}.") for name, value in given if name != "Cache-Control"}
    return str(status), {"description": description, "content": content, **({"headers": headers} if headers else {})}


def _working_point(artefact: Artefact, formats: Formats) -> Json:
    names = [point.name for point in artefact.metadata.working_points]
    decisions = " or ".join(f"`{one.media_type}`" for one in formats.decisions)
    return {
        "name": "working_point",
        "in": "query",
        "required": False,
        "description": "Adds the header `Score-Threshold` to the response, and in JSON and MessagePack `accepted`: "
        "whether the score is greater than the threshold. Compare scores in other formats with the header, or have "
        f"decisions in their place with an `Accept` of {decisions}, which need a working point.",
        "schema": {"type": "string", **({"enum": names} if names else {})},
    }


def _object(required: Json, **optional: Json) -> Json:
    """Make the schema of an object without other keys."""
    properties = {**required, **optional}
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _list(items: Json, **limits: int) -> Json:
    return {"type": "array", "items": items, **limits}


def _header(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
